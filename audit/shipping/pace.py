"""When to ship, and how long to wait in between."""

from __future__ import annotations

import logging
import random
import time
from typing import Final

from audit import conf
from audit.capture.text import describe
from audit.exceptions import AuditError
from audit.shipping.shipper import WORTH_IT, Shipper

logger = logging.getLogger("audit")

PEEK: Final = (0.011, 0.05)
"""Seconds between two looks at whether many records wait: where they come fast, and at most.

Each look wakes a thread, which on a small machine is felt by whoever computes just then.
"""
SLOWER: Final = 1.25
LONGEST: Final = 0.5
"""Seconds after which the settings and the other things to do are looked at, come what may."""
BACK_OFF: Final = (0.1, 30.0)
"""Seconds to wait after a failure: the first time, and at most."""
COMPLAIN_EVERY: Final = 60.0


class Pace:
    """When to ship, and how long to wait before the next look."""

    def __init__(self) -> None:
        self._shipped_at = time.monotonic()
        self._peek = PEEK[0]
        self._failures = 0
        self._rest_until = float("-inf")
        self._complained_at = float("-inf")

    def is_due(self, shipper: Shipper) -> bool:
        """Whether to ship now: many records wait, or some for long enough."""
        passed = time.monotonic() - self._shipped_at
        return passed >= conf.get("FLUSH_INTERVAL") or shipper.has_many()

    def rest(self) -> float:
        """What is left of the wait after a failure, in seconds.

        A new segment wakes the shipper. Were each time another failure, a busy host would soon
        be at the longest wait, and ship half a minute after its database is back.
        """
        return max(self._rest_until - time.monotonic(), 0.0)

    def after(self, shipped: int, shipper: Shipper) -> float:
        """After a look that went well."""
        self._failures = 0
        self._shipped_at = time.monotonic()
        if shipped >= WORTH_IT and shipper.has_others():
            self._peek = PEEK[0]
        return self.peek(shipper)

    def peek(self, shipper: Shipper) -> float:
        """Seconds until the next look at memory: longer each time that few wait.

        Where all that many could come from wakes it, there is nothing to look for until some
        have waited long.
        """
        interval = float(conf.get("FLUSH_INTERVAL"))
        if shipper.is_rung():
            due = max(self._shipped_at + interval - time.monotonic(), 0.0)
            return min(due, LONGEST)
        now, self._peek = self._peek, min(self._peek * SLOWER, PEEK[1])
        return min(now, interval)

    def after_failure(self, error: Exception) -> float:
        """After one that did not, which is logged once a minute."""
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.warning(
                "bamboo-audit could not ship: %s Records are kept in the spool, and it is tried "
                "again.",
                describe(error),
                exc_info=not isinstance(error, AuditError),
            )
        first, most = BACK_OFF
        # Never longer than a database that is back may wait; no two hosts at the same instant.
        wait = min(first * 2.0 ** min(self._failures, 20), most) * random.uniform(0.5, 1.0)  # noqa: S311
        self._failures += 1
        self._rest_until = now + wait
        return wait
