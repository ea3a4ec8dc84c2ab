"""What django-stubs needs to know; connects to nothing."""

from __future__ import annotations

SECRET_KEY = "typing"
USE_TZ = True
INSTALLED_APPS = [
    "audit",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "typing"}}
