"""Microseconds since the epoch, as records are compared, and aware times, as people read them."""

from __future__ import annotations

import datetime
from typing import Final, overload

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


@overload
def as_time(us: int) -> datetime.datetime: ...
@overload
def as_time(us: None) -> None: ...
@overload
def as_time(us: int | None) -> datetime.datetime | None: ...
def as_time(us: int | None) -> datetime.datetime | None:
    """The time, in UTC, of so many microseconds since the epoch."""
    return None if us is None else EPOCH + datetime.timedelta(0, 0, us)


def as_us(time: datetime.datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    return (time - EPOCH) // _MICROSECOND
