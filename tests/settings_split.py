"""The engine on SQLite, the log on PostgreSQL: what hosts on MySQL do."""

from __future__ import annotations

from settings import *  # noqa: F403
from settings import DATABASES

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
    },
    "audit": DATABASES["default"],
}
DATABASES["audit"]["OPTIONS"]["connect_timeout"] = 3
DATABASE_ROUTERS = ["audit.routers.AuditRouter"]
BAMBOO_AUDIT = {"DATABASE": "audit", "DELIVERY": "inline"}
