"""What a segment says of its writer's process."""

from __future__ import annotations

import datetime
import os
import re
import socket
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from audit.capture.text import clean_text

_WITH_COMMANDS: Final = frozenset({"manage.py", "django-admin", "celery"})


def about() -> dict[str, Any]:
    """Host, pid, kind, when it began, and which start of the machine it was."""
    return {
        "host": clean_text(socket.gethostname()),
        "pid": os.getpid(),
        "kind": _kind(),
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "boot": boot(),
    }


def _kind() -> str:
    """What kind of process this is: its program, and of those that have such the command.

    No more of the command line: it may hold secrets.
    """
    words = [Path(argument).name for argument in sys.argv[:1]]
    if words and words[0] in _WITH_COMMANDS:
        words += [word for word in sys.argv[1:] if re.fullmatch(r"[a-z_]+", word)][:1]
    return clean_text(" ".join(words))[:100]


@cache
def boot() -> str:
    """Which start of the machine this is; "" where nobody says."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
