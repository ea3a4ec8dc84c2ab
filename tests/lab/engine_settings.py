"""What a host sets for the engine."""

from __future__ import annotations

from celery import Celery
from pipeline.celery.settings import *  # noqa: F403
from pipeline.celery.settings import CELERY_QUEUES
from pipeline.eri.celery.queues import CELERY_QUEUES as ENGINE_QUEUES

from audit.testing.executor import InlineTask

ENABLE_PIPELINE_EVENT_SIGNALS = True
BROKER_URL = "memory://"
# Else the engine writes to its tables while the apps load, before they are migrated.
AUTO_UPDATE_COMPONENT_MODELS = False
CELERY_QUEUES.extend(ENGINE_QUEUES)

# The engine's tasks bind to the app that is current while Django loads the apps.
celery_app = Celery("tests", task_cls=InlineTask)
celery_app.set_default()
