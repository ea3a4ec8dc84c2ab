"""Settings of the test suite: engine and log share one PostgreSQL.

``settings_split.py`` is the other set-up: the engine on SQLite, the log on PostgreSQL.
"""

from __future__ import annotations

import importlib.util

from audit.testing.postgres import database, ensure

HAS_ENGINE = importlib.util.find_spec("pipeline") is not None

SECRET_KEY = "tests"
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"

DATABASES = {"default": database(ensure(durable=False))}

# Most tests want to see a record at once; those of the spool and of shipping say so.
BAMBOO_AUDIT = {"DELIVERY": "inline"}

INSTALLED_APPS = [
    "audit",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if HAS_ENGINE:
    from lab.engine_settings import *  # noqa: F403

    INSTALLED_APPS += [
        "pipeline",
        "pipeline.engine",
        "pipeline.component_framework",
        "pipeline.eri",
        "lab",
    ]
