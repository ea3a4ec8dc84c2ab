"""What could not be recorded: logged, counted, and kept for the next ``gap`` record."""

from __future__ import annotations

import datetime
import logging
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from audit.capture.ids import Ids
from audit.capture.text import describe
from audit.exceptions import SoftTimeLimit

logger = logging.getLogger("audit")

LOG_EVERY: Final = 60.0
"""Seconds between two log lines for failures of the same kind; those between are counted in it."""


@dataclass(slots=True)
class Gap:
    """Events that were not recorded: how many, from when to when (UTC), and why."""

    count: int = 0
    first_at: datetime.datetime | None = None
    last_at: datetime.datetime | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    event_types: Counter[str] = field(default_factory=Counter)

    def add(self, other: Gap) -> None:
        self.count += other.count
        starts = [at for at in (self.first_at, other.first_at) if at is not None]
        ends = [at for at in (self.last_at, other.last_at) if at is not None]
        self.first_at, self.last_at = min(starts, default=None), max(ends, default=None)
        self.reasons.update(other.reasons)
        self.event_types.update(other.event_types)

    def as_data(self) -> dict[str, Any]:
        """As the data of a ``gap`` record."""
        return {
            "count": self.count,
            "first_at": self.first_at.isoformat() if self.first_at else None,
            "last_at": self.last_at.isoformat() if self.last_at else None,
            "reasons": dict(self.reasons),
            "event_types": dict(self.event_types),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """This process's failures so far, for ``audit_status``."""

    total: int
    pending: int
    by_reason: dict[str, int]
    last_event_type: str
    last_error: str


class Failures:
    """Counts what was not recorded in this process; a forked child starts at zero."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._pending = Gap()
        self.pending = False
        """Whether there is something to tell in a ``gap`` record: asked for every event."""
        self._total: Counter[str] = Counter()
        self._last: tuple[str, str] = ("", "")
        self._logged_at: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def missed(self, event_type: str, reason: str) -> None:
        """Count an event that was not recorded, without a log line."""
        now = datetime.datetime.now(datetime.UTC)
        missed = Gap(1, now, now, Counter([reason]), Counter([event_type]))
        with self._lock:
            self._add(missed)
            self._total[reason] += 1

    def interrupted(self, event_type: str, interruption: BaseException) -> None:
        """Count an event that was cut off by what passes through to the host; nothing else.

        Whether its record was stored by then is not known.
        """
        if not isinstance(interruption, Exception) or isinstance(interruption, SoftTimeLimit):
            self.missed(event_type, f"interrupted by {type(interruption).__name__}")

    def failed(self, event_type: str, ids: Ids | None, error: BaseException) -> None:
        """Count an event that could not be recorded, and log it: once, with its event.

        A database that is away fails every event. After the first line a kind of error is
        logged once a minute, with the number of events since.
        """
        cause = error if error.__cause__ is None else error.__cause__
        reason = type(cause).__name__
        self.missed(event_type, reason)
        now = time.monotonic()
        with self._lock:
            self._last = (event_type, describe(error))
            due = now - self._logged_at.get(reason, -LOG_EVERY) >= LOG_EVERY
            if not due:
                self._unlogged[reason] += 1
                return
            self._logged_at[reason] = now
            more = self._unlogged.pop(reason, 0)
        logger.error(
            "bamboo-audit could not record %s of run %s, node %s%s: %s The engine goes on; the "
            "next record that succeeds tells the gap.",
            event_type,
            (ids and ids.root_pipeline_id) or "unknown",
            (ids and ids.node_id) or "none",
            f" (and {more} more since the last message)" if more else "",
            describe(error).strip(),
            exc_info=error,
        )

    def take(self) -> Gap:
        """What is to be told; from now on it is the caller's."""
        with self._lock:
            gap, self._pending, self.pending = self._pending, Gap(), False
            return gap

    def give_back(self, gap: Gap) -> None:
        """Take back what could not be told."""
        with self._lock:
            self._add(gap)

    def _add(self, gap: Gap) -> None:
        self.pending = True  # before: an exception from a signal may come in between
        self._pending.add(gap)

    def summary(self) -> Summary:
        with self._lock:
            return Summary(
                total=self._total.total(),
                pending=self._pending.count,
                by_reason=dict(self._total),
                last_event_type=self._last[0],
                last_error=self._last[1],
            )


failures: Final = Failures()
os.register_at_fork(after_in_child=failures._begin)
