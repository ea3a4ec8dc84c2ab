"""Settings of a host with the engine and a real broker: web and workers are processes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery
from pipeline.celery.settings import *  # noqa: F403
from pipeline.eri.celery.queues import CELERY_QUEUES as ENGINE_QUEUES
from workers import broker

from audit.testing.postgres import database

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "audit",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "pipeline",
    "pipeline.engine",
    "pipeline.component_framework",
    "pipeline.eri",
    "lab",
]
DATABASES = {"default": database(os.environ["AUDIT_TEST_LOG"])}
BAMBOO_AUDIT = json.loads(os.environ["AUDIT_TEST_SETTINGS"])

ENABLE_PIPELINE_EVENT_SIGNALS = True
AUTO_UPDATE_COMPONENT_MODELS = False
BROKER_URL = f"{broker.NAME}://"

# The engine's tasks bind to the app that is current while Django loads the apps.
celery_app = Celery("real")
celery_app.conf.update(
    {
        **broker.settings(Path(os.environ["AUDIT_TEST_BROKER"])),
        "task_queues": ENGINE_QUEUES,
        "task_ignore_result": True,
        "accept_content": ["json"],
    }
)
celery_app.set_default()
