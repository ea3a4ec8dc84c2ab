"""The tables of the timelines, and how far they are."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from typing import Any, NamedTuple

import orjson
from django.db import connections

from audit.log.rows import rows
from audit.sql import queries


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


def write(
    using: str,
    roots: Collection[str],
    runs: list[dict[str, Any]],
    nodes: list[dict[str, Any]],
    transitions: list[dict[str, Any]],
) -> None:
    """Write the rows of some runs, each a mapping of columns: those that are new or differ."""
    _execute(using, "write_runs", {"rows": _json(runs)})
    _execute(using, "write_nodes", {"rows": _json(nodes)})
    _execute(using, "write_transitions", {"rows": _json(transitions), "roots": list(roots)})


def _execute(using: str, query: str, parameters: dict[str, Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(queries()[query], parameters)


def _json(found: list[dict[str, Any]]) -> str:
    return orjson.dumps(found).decode()
