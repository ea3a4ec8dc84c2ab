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


def follow(
    projections: Iterable[Projection],
    stop: Stop,
    tell: Callable[[Progress], None],
    batch: int = BATCH,
) -> None:
    """Keep projections caught up with the log until ``stop`` is set.

    ``tell`` is called for each batch that was applied. What fails is logged, and tried again; a
    projection that fails keeps no other from going on.
    """
    using = conf.get("DATABASE")
    head, each = (
        Head(using),
        [_Follower(using, projection, tell, batch) for projection in projections],
    )
    looking = _Patience("The log cannot be read")
    while not stop.is_set:
        moved = 0
        if looking.is_over():
            try:
                settled = head.look()
            except AuditError as error:
                looking.begin(error)
                connections[using].close()
            else:
                looking.end()
                moved = sum([one.go_on(settled) for one in each])
        if not moved:
            stop.wait(LOOK_EVERY)


class _Follower:
    """One projection."""

    def __init__(
        self, using: str, projection: Projection, tell: Callable[[Progress], None], batch: int
    ) -> None:
        self._using = using
        self._projection = projection
        self._tell = tell
        self._batch = batch
        self._position = -1
        self._patience = _Patience(f"Projection {projection.name!r} cannot be caught up")

    def go_on(self, head: int) -> bool:
        """Apply a batch, if there is one; whether it did."""
        if self._position >= head or not self._patience.is_over():
            return False
        try:
            progress = step(self._using, self._projection, head, self._batch)
        except Exception as error:  # whatever a host's own code raises: the others go on
            self._patience.begin(error)
            connections[self._using].close()
            return False
        self._patience.end()
        self._position = progress.position
        if progress.position > progress.start:
            self._tell(progress)
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
