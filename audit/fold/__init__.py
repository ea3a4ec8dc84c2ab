"""The fold: a run's records to its timeline. Pure: no Django, no database, no clock."""

from __future__ import annotations

from audit.fold.record import Record
from audit.fold.results import RunTimeline
from audit.fold.run import fold

__all__ = ["Record", "RunTimeline", "fold"]
