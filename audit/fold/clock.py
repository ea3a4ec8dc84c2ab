"""Microseconds since the epoch, as records are compared, and aware times, as people read them."""

from __future__ import annotations

import datetime
from typing import Any, Final

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


class Times(dict[int | None, Any]):
    """Microseconds to times, each made once: a fold has the same instant in several places."""

    def __init__(self) -> None:
        self[None] = None

    def __missing__(self, us: int) -> datetime.datetime:
        found = self[us] = as_time(us)
        return found


def as_time(us: int) -> datetime.datetime:
    """The time, in UTC, of so many microseconds since the epoch."""
    return EPOCH + datetime.timedelta(0, 0, us)


def as_us(time: datetime.datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    return (time - EPOCH) // _MICROSECOND
