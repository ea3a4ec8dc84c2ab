"""The rows of a named query; raises ``LogUnavailable`` like everything in this package."""

from __future__ import annotations

import json
from typing import Any

import orjson
from django.db import connections

from audit.log.errors import translated
from audit.sql import queries


def rows(using: str, query: str, parameters: dict[str, Any] | None = None) -> list[Any]:
    """All rows of a named query."""
    with translated(using), connections[using].cursor() as cursor:
        cursor.execute(queries()[query], parameters)
        return list(cursor.fetchall())


def parsed(text: str) -> dict[str, Any]:
    """A document as jsonb has it; empty where it is none, which no receiver writes."""
    found = value(text)
    return found if isinstance(found, dict) else {}


def value(text: str) -> Any:
    """Any value as jsonb has it."""
    try:
        return orjson.loads(text)
    except ValueError:
        # jsonb has numbers that no double has, and of more digits than Python reads.
        return json.loads(text, parse_int=float)
