"""Catch up again and again, until somebody says that it is enough."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from django.db import connections

from audit import conf
from audit.capture.text import describe
from audit.exceptions import AuditError
from audit.log.errors import translated
from audit.log.settled import Head
from audit.projections.base import Projection
from audit.projections.projector import BATCH, Progress, step

LOOK_EVERY: Final = 0.1
"""Seconds between two looks at whether there is something new."""
BACK_OFF: Final = (0.5, 30.0)
"""Seconds to wait after a failure: the first time, and at most."""
COMPLAIN_EVERY: Final = 60.0

logger = logging.getLogger("audit")


class Stop(Protocol):
    """Says when it is enough."""

    @property
    def is_set(self) -> bool: ...

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is set."""


class Following:
    """Some projections, brought closer to the log turn by turn.

    What fails is logged, and tried again; a projection that fails keeps no other from going on.
    """

    def __init__(
        self,
        using: str,
        projections: Iterable[Projection],
        tell: Callable[[Progress], None],
        batch: int = BATCH,
        *,
        wait: bool = True,
        connect: Callable[[], object] = bool,
    ) -> None:
        """``wait``: for who else catches one of them up; otherwise leave it to him.

        ``connect``: called before each look.
        """
        self.using = using
        self.batch = batch
        """The most positions of one projection in a turn."""
        self.wait = wait
        self.tell = tell
        self._connect = connect
        self._head = Head(using)
        self._looking = _Patience("The log cannot be read")
        self._each = [_Follower(self, projection) for projection in projections]

    @property
    def is_behind(self) -> bool:
        """Whether there was more in the log, when it looked last, than is applied."""
        return any(one.position < self._head.highest for one in self._each)

    def turn(self) -> int:
        """Look, and apply a batch to each; answers for how many there was one."""
        if not self._looking.is_over():
            return 0
        try:
            with translated(self.using):
                self._connect()
            settled = self._head.look()
        except AuditError as error:
            self._looking.begin(error)
            connections[self.using].close()
            return 0
        self._looking.end()
        return sum([one.go_on(settled) for one in self._each])


def follow(
    projections: Iterable[Projection],
    stop: Stop,
    tell: Callable[[Progress], None],
    batch: int = BATCH,
) -> None:
    """Keep projections caught up with the log until ``stop`` is set.

    ``tell`` is called for each batch that was applied.
    """
    following = Following(conf.get("DATABASE"), projections, tell, batch)
    while not stop.is_set:
        if not following.turn():
            stop.wait(LOOK_EVERY)


class _Follower:
    """One projection."""

    def __init__(self, all_of_them: Following, projection: Projection) -> None:
        self._all = all_of_them
        self._projection = projection
        self.position = -1
        """Up to here there is nothing to do."""
        self._patience = _Patience(f"Projection {projection.name!r} cannot be caught up")

    def go_on(self, head: int) -> bool:
        """Apply a batch, if there is one; whether it did."""
        if self.position >= head or not self._patience.is_over():
            return False
        of = self._all
        try:
            progress = step(of.using, self._projection, head, of.batch, wait=of.wait)
        except Exception as error:  # whatever a host's own code raises: the others go on
            self._patience.begin(error)
            connections[of.using].close()
            return False
        self._patience.end()
        # What an older version made is not for going on with.
        self.position = head if progress.outdated else progress.position
        if progress.position > progress.start:
            of.tell(progress)
        return progress.position > progress.start


class _Patience:
    """How long to leave something alone that failed: longer each time, never the same for two."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures = 0
        self._until = self._complained_at = float("-inf")

    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def begin(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.warning("bamboo-audit: %s: %s It is tried again.", self._what, describe(error))
        first, most = BACK_OFF
        wait = min(first * 2.0 ** min(self._failures, 20), most)
        self._until = now + wait * random.uniform(0.5, 1.0)  # noqa: S311
        self._failures += 1

    def end(self) -> None:
        self._failures = 0
        self._until = float("-inf")
