"""The tables of the timelines."""

from __future__ import annotations

from typing import Any, Final

import orjson
from django.db import connections

from audit.sql import queries

WRITE: Final = {
    "runs": "write_runs",
    "nodes": "write_nodes",
    "transitions": "write_transitions",
}
"""The query that writes each kind of rows."""
CLEAR: Final = ("clear_runs", "clear_nodes", "clear_transitions")


class Rows:
    """Rows of some runs, to be written together."""

    def __init__(self) -> None:
        self.roots: list[str] = []
        self.size = 0
        """Bytes, as JSON."""
        self._runs: list[bytes] = []
        self._nodes: list[bytes] = []
        self._transitions: list[bytes] = []

    def add(
        self,
        root: str,
        run: dict[str, Any],
        nodes: list[dict[str, Any]],
        transitions: list[dict[str, Any]],
    ) -> None:
        """The rows of one run, each a mapping of columns.

        Raises:
            TypeError: JSON does not take a value; then nothing is added.
        """
        made = ([orjson.dumps(row) for row in rows] for rows in ([run], nodes, transitions))
        for known, fresh in zip(
            (self._runs, self._nodes, self._transitions), list(made), strict=True
        ):
            known += fresh
            self.size += sum(map(len, fresh))
        self.roots.append(root)

    def parameters(self, kind: str) -> dict[str, Any]:
        """For the query that writes this kind of rows."""
        found: list[bytes] = getattr(self, f"_{kind}")
        return {"rows": (b"[" + b",".join(found) + b"]").decode(), "roots": self.roots}


def write(using: str, rows: Rows) -> None:
    """Write the rows of some runs: those that are new or differ; those that are no more go."""
    if rows.roots:
        for kind in WRITE:
            _execute(using, WRITE[kind], rows.parameters(kind))


def clear(using: str) -> None:
    """Delete all rows."""
    for query in CLEAR:
        _execute(using, query, {})


def _execute(using: str, query: str, parameters: dict[str, Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(queries()[query], parameters)
