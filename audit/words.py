"""How times, durations and other people's texts are written, in the admin and in a terminal."""

from __future__ import annotations

import datetime
from typing import Any

from django.utils import timezone


def plain(value: Any) -> str:
    """Text of somebody else's, on one line and without what a terminal would obey."""
    return "".join(each if each.isprintable() else "·" for each in str(value))


def duration(value: datetime.timedelta) -> str:
    """12 ms, 3.4 s, 2 min 05 s, 1 h 02 min, 3 d 4 h."""
    seconds = value.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def moment(value: datetime.datetime | None) -> str:
    """In Django's time zone."""
    return "" if value is None else f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S}"
