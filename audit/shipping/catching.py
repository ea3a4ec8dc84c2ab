"""Catching the projections up beside a host's own work: a tenth of the time at most."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Final

from audit import conf
from audit.capture.text import describe
from audit.log import forks
from audit.log.forks import DjangosOwn
from audit.projections import registry
from audit.projections.following import LOOK_EVERY, Following
from audit.projections.projector import BATCH, Progress
from audit.spool.bell import Bell

SLICE: Final = 0.01
"""Seconds of processor time for one turn: the others wait that long for Python in the worst case,
and a fold without pause cut a neighbour's query loop to a sixteenth."""
SHARE: Final = 0.1
"""Of the time."""
FEWEST: Final = 20
"""Positions of a batch."""
BEGIN_WITH: Final = 200
LOOK_EVERY_IDLE: Final = 5.0
"""Seconds between two looks where nobody rings: another may have shipped and ended."""
ASLEEP_AFTER: Final = 60.0
"""Seconds without a new record, after which the connection is given back between two looks, and
these are as far apart."""
TRY_AGAIN: Final = 60.0

logger = logging.getLogger("audit")


class Catching:
    """A thread of the process that ships. Where it stops nothing is lost: another goes on."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._bell = Bell()
        self._connection: DjangosOwn | None = None

    def ring(self) -> None:
        """Something was shipped. The first time, and after it was left, the thread begins."""
        if not conf.get("CATCH_UP_IN_BACKGROUND"):
            self.leave()
        elif self._thread is None or not self._thread.is_alive():
            self._begin()
        else:
            self._bell.ring()

    def _begin(self) -> None:
        # A batch in one greenlet would hold up all others: there it takes a process of its own.
        if forks.wait_by_greenlets():
            return
        self._stopping, self._bell = False, Bell()
        thread = threading.Thread(target=self._run, name="bamboo-audit-catch-up", daemon=True)
        with suppress(RuntimeError):  # no more threads, or the process ends
            thread.start()
            self._thread = thread

    def leave(self) -> None:
        """Stop after the batch that is under way; does not wait for that."""
        if self._thread is not None:
            self._stopping = True
            self._bell.ring()

    def leave_to_parent(self) -> None:
        """In a forked child, which has no such thread."""
        if self._connection is not None:
            self._connection.leave_to_parent()

    def _run(self) -> None:
        while not self._stopping:
            self._connection = DjangosOwn(conf.get("DATABASE"))
            try:
                self._go_on(self._connection)
            except Exception as error:
                logger.warning(
                    "bamboo-audit does not catch the projections up: %s It is tried again in "
                    "%d s. Meanwhile manage.py audit_replay does it.",
                    *(describe(error), TRY_AGAIN),
                )
                self._sleep(TRY_AGAIN)
            finally:
                self._connection.close()

    def _sleep(self, seconds: float) -> None:
        """However often it rings."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._bell.wait(left)

    def _go_on(self, connection: DjangosOwn) -> None:
        """Turn by turn, until it is enough or the settings are others."""
        using, named = connection.using, conf.get("PROJECTIONS")
        following = Following(
            using, registry.registered(), _nobody, BEGIN_WITH, wait=False, connect=connection.open
        )
        moved_at = time.monotonic()
        while not self._stopping and conf.get("CATCH_UP_IN_BACKGROUND"):
            if (conf.get("DATABASE"), conf.get("PROJECTIONS")) != (using, named):
                return
            before = time.thread_time()
            moved = following.turn()
            used = time.thread_time() - before
            rest = used * (1 / SHARE - 1)
            if moved:
                moved_at = time.monotonic()
                following.batch = _sized(following.batch, used)
                self._sleep(rest)
                continue
            wait = LOOK_EVERY
            if not following.is_behind:
                wait = LOOK_EVERY_IDLE
                if time.monotonic() - moved_at > ASLEEP_AFTER:
                    connection.close()
                    wait = ASLEEP_AFTER
            self._bell.wait(max(rest, wait))


def _sized(batch: int, used: float) -> int:
    """The next batch, after one that took so long."""
    if used > SLICE:
        return max(batch // 2, FEWEST)
    return min(batch * 2, BATCH) if used < SLICE / 2 else batch


def _nobody(_: Progress) -> None:
    """Nobody is told of each batch."""
