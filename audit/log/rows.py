"""The rows of a named query; raises ``LogUnavailable`` like everything in this package."""

from __future__ import annotations

from typing import Any

from django.db import connections

from audit.log.errors import translated
from audit.sql import queries


def rows(using: str, query: str, parameters: dict[str, Any] | None = None) -> list[Any]:
    """All rows of a named query."""
    with translated(using), connections[using].cursor() as cursor:
        cursor.execute(queries()[query], parameters)
        return list(cursor.fetchall())
