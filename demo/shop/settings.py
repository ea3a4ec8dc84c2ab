"""Settings of the demo: a small web shop that releases its software with bamboo-pipeline.

What bamboo-audit needs is marked "audit:". The rest is an ordinary Django project.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from pipeline.celery.settings import *  # noqa: F403
from pipeline.celery.settings import CELERY_QUEUES
from pipeline.eri.celery.queues import CELERY_QUEUES as ENGINE_QUEUES

from audit.testing.postgres import database

from . import logs, postgres

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DEMO_DATA") or BASE_DIR / ".data").absolute()

DEBUG = True  # runserver then serves the admin's static files
SECRET_KEY = secrets.token_urlsafe(32)  # a new one at each start: every login ends with the demo
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"  # what the engine's migrations were made with

# audit: the engine and the log share one PostgreSQL here. Where the engine is on MySQL, give the
# log an alias of its own: BAMBOO_AUDIT = {"DATABASE": "audit"} and audit.routers.AuditRouter.
POSTGRES = postgres.find(DATA_DIR)
DATABASES = {"default": database(POSTGRES.url)}
# Every key has a default. The spool's would be in the user's home; here it goes with the data.
BAMBOO_AUDIT: dict[str, Any] = {
    "SPOOL_DIR": DATA_DIR / "spool",
    "RUN_TAGS": {"release": "root_pipeline_data.release"},  # what this shop calls a run
    "PROJECTIONS": ["release.projections.AttemptTimes"],  # a question of its own to the log
}

INSTALLED_APPS = [
    "audit",  # audit: first, so that its receivers are called before anybody else's
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "pipeline",
    "pipeline.engine",
    "pipeline.component_framework",
    "pipeline.eri",
    "release",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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

# The engine.
ENABLE_PIPELINE_EVENT_SIGNALS = True  # audit: without it the engine sends no event at all
AUTO_UPDATE_COMPONENT_MODELS = False  # no writing of plugin names to the database at each start
BROKER_URL = "memory://"
CELERY_QUEUES.extend(ENGINE_QUEUES)

LOGGING = logs.to_file(DATA_DIR / "demo.log")
