"""What Celery's ``autodiscover_tasks`` looks for: the tasks of ``audit_replay --celery``."""

from __future__ import annotations

from audit.projections.on_celery import rebuild_part

__all__ = ["rebuild_part"]
