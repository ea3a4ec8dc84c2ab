"""The project. Celery's app is made first: the engine's tasks bind to the one that is current."""

from __future__ import annotations

from .celery import app

__all__ = ["app"]
