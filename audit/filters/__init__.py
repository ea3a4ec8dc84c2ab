"""FilterSets (django-filter) for the admin and for hosts' own views."""

from __future__ import annotations

from audit.filters.records import RecordFilterSet, matching_id
from audit.filters.timelines import NodeFilterSet, RunFilterSet, TransitionFilterSet

__all__ = [
    "NodeFilterSet",
    "RecordFilterSet",
    "RunFilterSet",
    "TransitionFilterSet",
    "matching_id",
]
