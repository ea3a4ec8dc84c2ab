"""The worker's side: ``celery -A workers.host worker``, with Django set up as a host does it."""

from __future__ import annotations

import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["audit"], DATABASES={})
django.setup()

from workers.app import app  # noqa: E402

__all__ = ["app"]
