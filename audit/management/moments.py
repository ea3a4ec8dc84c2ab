"""Moments that somebody writes on a command line."""

from __future__ import annotations

import datetime

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit import timeline, words

HELP = "2026-03-01T09:30:00, in Django's time zone unless it has one"


def moment(option: str, text: str | None) -> datetime.datetime | None:
    """The moment in UTC; ``option`` is where it was written.

    Raises:
        CommandError: there is no such moment.
    """
    if text is None:
        return None
    try:
        found = parse_datetime(text)
        if found is not None:
            return timeline.aware(found if found.tzinfo else timezone.make_aware(found))
    except (ValueError, OverflowError):
        pass
    raise CommandError(
        f"{option} {words.plain(text)}: no such time. Write it as 2026-03-01T09:30:00."
    )
