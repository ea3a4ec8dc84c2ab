"""Query history in Django's admin: read-only, newest first."""

from __future__ import annotations

from audit.admin.records import RecordAdmin
from audit.admin.timelines import NodeAdmin, RunAdmin, TransitionAdmin

__all__ = ["NodeAdmin", "RecordAdmin", "RunAdmin", "TransitionAdmin"]
