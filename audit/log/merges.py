"""What was made beside, compared with what serves, and written there where it differs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from django.db import connections
from psycopg import sql as compose

from audit.log.rebuilds import Beside
from audit.log.rows import rows


class Differing(NamedTuple):
    """Of a table, how many rows only the one that serves has, and only the one beside."""

    table: str
    gone: int
    fresh: int


def merge(beside: Beside, table: str, projection: str, roots: Collection[str] | None) -> Differing:
    """Make the table that serves as the one beside: only what differs is written.

    ``roots``: only of these runs. Rows stay of runs that were left out, or whose beginning the log
    has no more.
    """
    names, parameters = _compared(beside, table, projection, roots)
    with connections[beside.using].cursor() as cursor:
        cursor.execute(beside.text("merge_gone", names), parameters)
        gone = cursor.rowcount
        cursor.execute(beside.text("merge_fresh", names), parameters)
        return Differing(table, gone, cursor.rowcount)


def compare(
    beside: Beside, table: str, projection: str, roots: Collection[str] | None
) -> Differing:
    """What a merge would write."""
    names, parameters = _compared(beside, table, projection, roots)
    with connections[beside.using].cursor() as cursor:
        cursor.execute(beside.text("count_differing", names), parameters)
        return Differing(table, *cursor.fetchone())


def _compared(
    beside: Beside, table: str, projection: str, roots: Collection[str] | None
) -> tuple[dict[str, compose.Composable], dict[str, Any]]:
    with connections[beside.using].cursor() as cursor:
        live = beside.live(table).as_string(cursor.connection)
    columns = dict(rows(beside.using, "columns", {"table": live}))
    own = [_identifier(name) for name, is_drawn in columns.items() if not is_drawn]
    content: compose.Composable = compose.SQL("ROW({})").format(
        compose.SQL(", ").join([compose.SQL("audit_each.{}").format(each) for each in own])
    )
    number: compose.Composable = compose.SQL("1")
    if len(own) < len(columns):  # rows without a key of their own may be there twice
        number = compose.SQL("row_number() OVER (PARTITION BY {}::text)").format(content)
    has_root = "root_pipeline_id" in columns
    ((horizon,),) = rows(beside.using, "horizon")
    names: dict[str, compose.Composable] = {
        "live": _identifier(beside.schema, table),
        "beside": _identifier(beside.name, table),
        "columns": compose.SQL(", ").join(own),
        "content": content,
        "number": number,
        "root": compose.SQL("audit_each.root_pipeline_id" if has_root else "NULL::text"),
    }
    return names, {
        "roots": None if roots is None else list(roots),
        "horizon": horizon,
        "projection": projection,
    }


def _identifier(*names: str) -> compose.Identifier:
    """In a query with parameters."""
    return compose.Identifier(*(name.replace("%", "%%") for name in names))
