"""The writer: one per process, it numbers its records 1, 2, 3… so that a missing one shows."""

from __future__ import annotations

import datetime
import os
import socket
import sys
import threading
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes a record its writer's: whose, the how manieth, and when (UTC)."""

    writer_id: uuid.UUID
    position: int
    occurred_at: datetime.datetime


class Writer:
    """Numbers and times the records of this process; a forked child is a writer of its own."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._id = uuid.uuid4()
        self._position = 0
        self._unused: list[int] = []
        self._latest = datetime.datetime.min.replace(tzinfo=datetime.UTC)

    def stamp(self) -> Stamp:
        """The next number. Times never run backwards within a writer, whatever the clock does."""
        with self._lock:
            self._latest = max(self._latest, datetime.datetime.now(datetime.UTC))
            if self._unused:
                return Stamp(self._id, self._unused.pop(), self._latest)
            self._position += 1
            return Stamp(self._id, self._position, self._latest)

    def give_back(self, stamp: Stamp) -> None:
        """Use a number again that nothing was, or will be, stored under."""
        with self._lock:
            if stamp.writer_id == self._id:
                self._unused.append(stamp.position)


_MANAGERS: Final = frozenset({"manage.py", "django-admin", "django-admin.py"})

writer: Final = Writer()
os.register_at_fork(after_in_child=writer._begin)


@cache
def host() -> str:
    """This machine's name."""
    return socket.gethostname()


@cache
def process_kind() -> str:
    """What this process is where it serves no request and runs no task."""
    program = Path(sys.argv[0]) if sys.argv else Path()
    managed = program.name in _MANAGERS or program.parts[-2:] == ("django", "__main__.py")
    return "command" if managed else "process"
