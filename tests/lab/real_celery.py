"""The worker's side: ``celery -A lab.real_celery worker``."""

from __future__ import annotations

import django

django.setup()

from lab.real_settings import celery_app  # noqa: E402

__all__ = ["celery_app"]
