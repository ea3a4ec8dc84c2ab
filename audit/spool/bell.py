"""How the engine's thread wakes the one beside it."""

from __future__ import annotations

import threading
from contextlib import suppress


class Bell:
    """Wakes one thread that waits, from another that must not be held up.

    A bare lock: ``Event.set`` takes one of its own in Python, where an exception from a signal
    leaves it taken, and every later ``set`` waits for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread was a moment faster
                self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it rings; whether it rang."""
        return self._lock.acquire(timeout=seconds)
