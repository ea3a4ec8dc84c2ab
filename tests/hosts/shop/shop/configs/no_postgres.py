"""A developer's machine without any PostgreSQL: nothing is recorded."""

from __future__ import annotations

from shop.configs.common import *  # noqa: F403
from shop.configs.common import sqlite

DATABASES = {"default": sqlite()}
BAMBOO_AUDIT = {"DELIVERY": "off"}
