"""Who ships a spool folder: whoever holds the lock of a file in it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from audit.spool.forks import barred

LOCK: Final = "shipper.lock"
SIDECAR: Final = "sidecar.lock"
"""Held by ``audit_ship --follow``: as long as it is, no process of the host's ships."""


class Election:
    """One shipper per spool folder: whoever holds the lock of its file."""

    def __init__(self, path: Path, name: str = LOCK) -> None:
        self._file = path / name
        self._fd = -1

    @property
    def won(self) -> bool:
        return self._fd >= 0

    def stand(self) -> bool:
        """Try to be elected; whether this process is."""
        if self._fd >= 0:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with barred:
            try:
                fd = os.open(self._file, flags, 0o600)
            except OSError:
                return False
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                return False
            self._fd = fd
        # Over what is there: a full disk has no other place. Elected is who has the lock, anyway.
        with suppress(OSError):
            os.pwrite(fd, f"{os.getpid():<20}".encode(), 0)
        return True

    def is_held(self) -> bool:
        """Whether any process holds it."""
        if self._fd >= 0:
            return True
        try:
            fd = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # Not left to close: a child forked just now has the file open too, and so the lock.
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def holder(self) -> int | None:
        """The process id of whoever holds it."""
        try:
            return int(self._file.read_text("ascii")) if self.is_held() else None
        except (OSError, ValueError):
            return None

    def resign(self) -> None:
        """Let another process be elected."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """In a forked child: the lock is the parent's, and goes on to be."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
