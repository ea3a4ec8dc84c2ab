"""The engine on SQLite, as on MySQL; the log in a PostgreSQL of its own. The other app first."""

from __future__ import annotations

import os

from audit.testing.postgres import database
from shop.configs.common import *  # noqa: F403
from shop.configs.common import INSTALLED_APPS, sqlite

INSTALLED_APPS = ["shop.audit", *(app for app in INSTALLED_APPS if app != "shop.audit")]
log = database(os.environ["DATABASE_URL"], TEST={"NAME": os.environ["SHOP_TEST_DATABASE"]})
log["OPTIONS"]["connect_timeout"] = 3
DATABASES = {"default": sqlite(), "audit": log}
DATABASE_ROUTERS = ["audit.routers.AuditRouter"]
BAMBOO_AUDIT = {"DATABASE": "audit", "DELIVERY": "inline"}
