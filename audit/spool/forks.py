"""No fork while a locked file is being opened.

A child has all files of its parent open, and so their locks. What it knows of, it closes; what a
thread was just opening would stay locked for as long as the child lives: nobody could be elected
in its parent's place, and a dead writer would not be told from one that lives.
"""

from __future__ import annotations

import os
import threading
from typing import Final

barred: Final = threading.RLock()
"""Held from the opening of a locked file until somebody knows of it; some microseconds."""

os.register_at_fork(
    before=barred.acquire, after_in_parent=barred.release, after_in_child=barred.release
)
