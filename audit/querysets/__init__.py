"""Querysets: the public way to ask. They compose, and each question is one query."""

from __future__ import annotations

from audit.querysets.records import RecordQuerySet
from audit.querysets.timelines import NodeQuerySet, RunQuerySet, TransitionQuerySet

__all__ = ["NodeQuerySet", "RecordQuerySet", "RunQuerySet", "TransitionQuerySet"]
