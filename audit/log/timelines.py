"""The tables of the timelines, and how far they are."""

from __future__ import annotations

import datetime
from typing import Any, Final, NamedTuple

import orjson
from django.db import connections

from audit.log.rows import rows
from audit.sql import queries

WRITE: Final = {
    "runs": "write_runs",
    "nodes": "write_nodes",
    "transitions": "write_transitions",
}
"""The query that writes each kind of rows."""


class Checkpoint(NamedTuple):
    """Up to where a projection has applied the log."""

    version: int
    position: int


def lock_checkpoint(using: str, name: str, version: int) -> Checkpoint:
    """How far a projection is; who asks has it to itself until its transaction ends."""
    _execute(using, "add_checkpoint", {"name": name, "version": version})
    ((found, position),) = rows(using, "lock_checkpoint", {"name": name})
    return Checkpoint(found, position)


def move_checkpoint(using: str, name: str, version: int, position: int) -> None:
    """All up to this position has been applied."""
    _execute(using, "move_checkpoint", {"name": name, "version": version, "position": position})


def touched_runs(using: str, after: int, until: int, told_within: datetime.timedelta) -> list[str]:
    """The runs that records after one position, up to another, are of, in order of their ids."""
    parameters = {"after": after, "until": until, "told_within": told_within}
    return sorted(root for (root,) in rows(using, "touched_runs", parameters))


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


def _execute(using: str, query: str, parameters: dict[str, Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(queries()[query], parameters)
