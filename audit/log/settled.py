"""The settled head: the position up to which every smaller one is decided.

Positions are drawn before they are committed, so a higher one may be seen first. Whoever appends
holds an announcement, shared, from before the first position is drawn: those who held it when the
highest position was looked at may still commit a smaller one, and nobody else may.
"""

from __future__ import annotations

import datetime
import logging
import time
from dataclasses import dataclass
from typing import Final

from audit.exceptions import HeadUnsettled
from audit.log.rows import rows

LOOK_EVERY: Final = 0.005
"""Seconds between two looks at who still appends: a batch takes some milliseconds."""
FROZEN_AFTER: Final = datetime.timedelta(seconds=30)
"""For so long the server waits for the next piece of a batch: its sender is frozen, or the way to
it is cut. No time-out of the server's ends that."""

logger = logging.getLogger("audit")


@dataclass(frozen=True, slots=True)
class Appender:
    """Who appends: its process on the server, and since when its transaction goes on."""

    pid: int
    since: datetime.datetime | None


class Head:
    """The settled head, looked at again and again. Waits for nobody and locks nothing."""

    def __init__(self, using: str) -> None:
        self._using = using
        self.position = 0
        """Up to here all is settled. What is to be read must be read by a later statement."""
        self.highest = 0
        """The highest position that could be seen; what is below may still be to come."""
        self._next: int | None = None
        self._waited_for: dict[str, Appender] = {}
        self._looked_for_frozen = float("-inf")

    @property
    def blocked_by(self) -> Appender | None:
        """Who has to end before more is settled."""
        return next(iter(self._waited_for.values()), None)

    def look(self) -> int:
        """The position that is settled now.

        Raises:
            LogUnavailable: the log's database cannot be asked.
        """
        # In this order: who held the announcement when a position was drawn that is below the
        # highest one, is among those who are seen to hold it afterwards, or has come to its end.
        ((self.highest,),) = rows(self._using, "highest_position")
        now = appending(self._using)
        self._waited_for = {each: found for each, found in self._waited_for.items() if each in now}
        if not self._waited_for:
            if self._next is not None:
                self.position = self._next
            self._next, self._waited_for = self.highest, now
        if not now:
            self.position = self.highest
        elif self._waited_for:
            self._end_frozen()
        return self.position

    def _end_frozen(self) -> None:
        """End the transactions of senders that are frozen: what they sent is sent again."""
        now = time.monotonic()
        if now - self._looked_for_frozen < FROZEN_AFTER.total_seconds() / 10:
            return
        self._looked_for_frozen = now
        for pid, since in rows(self._using, "end_frozen", {"patience": FROZEN_AFTER}):
            logger.warning(
                "bamboo-audit has ended the append in server process %d: since %s it waited for "
                "its sender. What it held back is shipped again.",
                *(pid, since),
            )


def head(using: str, timeout: float = 10.0) -> int:
    """The highest position that is settled; waits for appends that are under way.

    Raises:
        HeadUnsettled: an append is still under way after ``timeout`` seconds.
        LogUnavailable: the log's database cannot be asked.
    """
    found, deadline = Head(using), time.monotonic() + timeout
    found.look()
    wanted = found.highest
    while found.position < wanted:
        if time.monotonic() > deadline and (by := found.blocked_by) is not None:
            raise HeadUnsettled(
                f"An append in server process {by.pid} has been under way since {by.since}: until "
                f"it ends, nobody knows whether records up to position {wanted} are still to come. "
                f"Look what holds it up, or end it: SELECT pg_terminate_backend({by.pid})"
            )
        time.sleep(LOOK_EVERY)
        found.look()
    return found.position


def appending(using: str) -> dict[str, Appender]:
    """The transactions that append now, but for this one."""
    return {each: Appender(pid, since) for each, pid, since in rows(using, "appending")}
