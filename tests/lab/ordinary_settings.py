"""Settings of ``lab.ordinary``: what differs from test to test comes by the environment."""

from __future__ import annotations

import json
import os

from audit.testing.postgres import database

SECRET_KEY = "tests"
USE_TZ = True
ROOT_URLCONF = "lab.ordinary_web"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["audit", "lab"]
DATABASES = {"default": database(os.environ["AUDIT_TEST_LOG"])}
BAMBOO_AUDIT = json.loads(os.environ["AUDIT_TEST_SETTINGS"])
