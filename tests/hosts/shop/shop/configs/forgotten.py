"""On SQLite only, and nobody has told bamboo-audit: a mistake."""

from __future__ import annotations

from shop.configs.common import *  # noqa: F403
from shop.configs.common import sqlite

DATABASES = {"default": sqlite()}
