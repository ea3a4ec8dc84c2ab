"""What the shop's settings have in common. WITH_ENGINE=1 adds the engine and its plugins."""

from __future__ import annotations

import os
import warnings

# A warning that our code causes is an error, whatever the engine's code causes.
warnings.filterwarnings("error", module=r"(audit|shop)(\.|$)")

WITH_ENGINE = os.environ.get("WITH_ENGINE") == "1"

SECRET_KEY = "shop"
USE_TZ = True
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "audit",
    "shop.audit",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
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

if WITH_ENGINE:
    from celery import Celery
    from pipeline.celery.settings import *  # noqa: F403
    from pipeline.celery.settings import CELERY_QUEUES
    from pipeline.eri.celery.queues import CELERY_QUEUES as ENGINE_QUEUES

    from audit.testing.executor import InlineTask

    INSTALLED_APPS += [
        "pipeline",
        "pipeline.engine",
        "pipeline.component_framework",
        "pipeline.eri",
        "shop.work",
    ]
    ENABLE_PIPELINE_EVENT_SIGNALS = True
    AUTO_UPDATE_COMPONENT_MODELS = False
    BROKER_URL = "memory://"
    CELERY_QUEUES.extend(ENGINE_QUEUES)
    celery_app = Celery("shop", task_cls=InlineTask)
    celery_app.set_default()


def sqlite() -> dict[str, object]:
    """A database of the host's that is not PostgreSQL."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
