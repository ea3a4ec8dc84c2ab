"""The host's clock against the database's: so that times of many hosts compare."""

from __future__ import annotations

import datetime
import sys
import time
from typing import Final

from audit.log import ship
from audit.log.link import Link

MEASURE_AGAIN: Final = 600.0
"""Seconds between two measurements; a new connection is a reason as well."""
TRIES: Final = 5


class Clock:
    """How far this host's clock is behind the database's, in microseconds.

    One for all writers of a host: measured by each process, they would differ by more than the
    events of a run are apart.
    """

    def __init__(self) -> None:
        self.behind = 0
        self.error = 0
        self._measured_at = float("-inf")

    def measure(self, link: Link, *, now: bool = False) -> None:
        """Ask the database for its time, where that was not done lately, or ``now``."""
        if not now and time.monotonic() - self._measured_at < MEASURE_AGAIN:
            return
        best = (sys.maxsize, 0)
        for _ in range(TRIES):
            before = time.time_ns()
            theirs = ship.database_time(link)
            after = time.time_ns()
            since_1970 = theirs - datetime.datetime.fromtimestamp(0, datetime.UTC)
            us = since_1970 // datetime.timedelta(microseconds=1)
            trip = (after - before) // 2_000
            best = min(best, (trip, us - (before + after) // 2_000))
        self.error, offset = best
        # Within what the measurement may be wrong by, the two clocks are the same.
        self.behind = offset if abs(offset) > self.error else 0
        self._measured_at = time.monotonic()
