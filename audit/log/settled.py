"""The settled head: the position up to which every smaller one is decided.

Positions are drawn before they are committed, so a higher one may be seen first. Whoever appends
holds an announcement, shared, from before the first position is drawn: those who held it when the
highest position was looked at may still commit a smaller one, and nobody else may.
"""

from __future__ import annotations

import time
from typing import Final

from audit.exceptions import HeadUnsettled
from audit.log.rows import rows

LOOK_EVERY: Final = 0.005
"""Seconds between two looks at who still appends: a batch takes some milliseconds."""


def head(using: str, timeout: float = 10.0) -> int:
    """The highest position that is settled; waits for appends that are under way.

    Locks nothing, so that no append waits for this. What is to be read up to it must be read by a
    later statement.

    Raises:
        HeadUnsettled: an append is still under way after ``timeout`` seconds.
        LogUnavailable: the log's database cannot be asked.
    """
    ((highest,),) = rows(using, "highest_position")
    waited_for, deadline = _appending(using), time.monotonic() + timeout
    while waited_for:
        if time.monotonic() > deadline:
            pid, since = next(iter(waited_for.values()))
            raise HeadUnsettled(
                f"An append in server process {pid} has been under way since {since}: until it "
                f"ends, nobody knows whether records up to position {highest} are still to come. "
                f"Look what holds it up, or end it: SELECT pg_terminate_backend({pid})"
            )
        time.sleep(LOOK_EVERY)
        now = _appending(using)
        waited_for = {each: found for each, found in waited_for.items() if each in now}
    return int(highest)


def _appending(using: str) -> dict[str, tuple[int, object]]:
    return {each: (pid, since) for each, pid, since in rows(using, "appending")}
