"""Connections of threads beside the host's, in processes that fork.

A child has the sockets of all its parent's connections: as long as one is open in a child, the
server does not notice that the parent was killed, and keeps what it has locked.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from django.db import connections

_TRIES: Final = 5
_PAUSE: Final = 0.01

Connection = TypeVar("Connection")


class _Forks:
    """How many this process has begun, and whether one is under way."""

    def __init__(self) -> None:
        self.begun = self._ended = 0

    @property
    def under_way(self) -> bool:
        return self.begun != self._ended

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> None:
        self._ended += 1

    def forget(self) -> None:
        """In the child, which other threads' forks are nothing to."""
        self._ended = self.begun


_forks: Final = _Forks()
os.register_at_fork(before=_forks.begin, after_in_parent=_forks.end, after_in_child=_forks.forget)


def connected(
    connect: Callable[[], Connection], close: Callable[[Connection], object]
) -> Connection | None:
    """A connection that no child knows nothing of; None: this process forks all the time."""
    for _ in range(_TRIES):
        begun = _forks.begun
        if not _forks.under_way:
            made = connect()
            if begun == _forks.begun:
                return made
            # A child that was forked meanwhile has the socket and does not know of it. This
            # connection ends for both.
            close(made)
        time.sleep(_PAUSE)
    return None


_parents: Final[list[Any]] = []
"""Kept, so that none is closed because nobody has it any more."""


def leave_to_parent(connection: Any) -> None:
    """In a forked child: say not a word on it, and let go of its socket."""
    _parents.append(connection)
    with suppress(psycopg.Error, OSError):
        socket = connection.pgconn.socket
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), socket, inheritable=False)


def wait_by_greenlets() -> bool:
    """Whether blocking calls are gevent's: libpq's own are not."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("select"))


class DjangosOwn:
    """Django's connection of one thread of ours, to the log's database."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._wrapper: Any = None

    def open(self) -> None:
        """In its thread: connect, where that is not done."""
        self._wrapper = wrapper = connections[self.using]
        if wrapper.connection is None:
            connected(wrapper.ensure_connection, lambda _: wrapper.close())

    def close(self) -> None:
        """In its thread."""
        if self._wrapper is not None:
            self._wrapper.close()

    def leave_to_parent(self) -> None:
        """In a forked child, which has no such thread."""
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None and wrapper.connection is not None:
            _parents.append(wrapper)
            leave_to_parent(wrapper.connection)
