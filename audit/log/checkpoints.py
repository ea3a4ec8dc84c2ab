"""How far projections are, what they read next, and what they went on without."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from django.db import connections

from audit.fold.completeness import TOLD_WITHIN
from audit.log.rows import parsed, rows
from audit.sql import queries

MAX_ERROR: Final = 10_000
"""Characters."""


class Checkpoint(NamedTuple):
    """Up to where a projection has applied the log."""

    version: int
    position: int


class Touched(NamedTuple):
    """What some records have of a run."""

    position: int
    """The last of them."""
    first_at: int | None
    """When the earliest occurred, in microseconds; None: they only tell of a gap."""
    rootless: bool
    """Whether any was stored before the run was known."""


class LogRecord(NamedTuple):
    """A record as the log has it; ``occurred_at`` is aware."""

    position: int
    event_type: str
    root_pipeline_id: str
    """Empty where it was not known when it was stored."""
    pipeline_id: str
    node_id: str
    node_version: str
    data: dict[str, Any]
    context: dict[str, Any]
    occurred_at: datetime.datetime
    writer_id: uuid.UUID
    writer_position: int


def lock(using: str, name: str) -> Checkpoint:
    """How far a projection is; who asks has it to itself until its transaction ends.

    Waits for who has it. One that is not known is of version 0, which is older than all.
    """
    begin(using, name, 0, 0)
    ((found, position, _),) = rows(using, "lock_checkpoint", {"name": name})
    return Checkpoint(found, position)


def try_lock(using: str, name: str) -> Checkpoint | None:
    """The same; None where somebody else has it."""
    begin(using, name, 0, 0)
    found = rows(using, "try_checkpoint", {"name": name})
    return Checkpoint(*found[0][:2]) if found else None


def begin(using: str, name: str, version: int, position: int) -> None:
    """Make a projection known; one that is known stays as it is."""
    _execute(using, "begin_checkpoint", {"name": name, "version": version, "position": position})


def position(using: str, name: str) -> int:
    """Up to where a projection has applied the log, as somebody else may be moving it on."""
    return _checkpoint(using, name).position


def version(using: str, name: str) -> int:
    """The version of a projection that made its rows; 0: there are none."""
    return _checkpoint(using, name).version


def _checkpoint(using: str, name: str) -> Checkpoint:
    found = rows(using, "checkpoint", {"name": name})
    return Checkpoint._make(found[0]) if found else Checkpoint(0, 0)


def count_aside(using: str, name: str, after: int) -> int:
    """How many records and runs a projection has set aside after a position."""
    ((count,),) = rows(using, "count_aside", {"projection": name, "after": after})
    return int(count)


def move(using: str, name: str, version: int, position: int) -> None:
    """All up to this position has been applied."""
    _execute(using, "move_checkpoint", {"name": name, "version": version, "position": position})


def records(
    using: str, after: int, until: int, event_types: Collection[str] | None
) -> list[LogRecord]:
    """The records after one position, up to another, by position."""
    types = None if event_types is None else list(event_types)
    found = rows(using, "batch_records", {"after": after, "until": until, "types": types})
    return [LogRecord._make((*row[:6], parsed(row[6]), parsed(row[7]), *row[8:])) for row in found]


def touched_runs(using: str, after: int, until: int) -> dict[str, Touched]:
    """The runs that these records are of, in order of their ids."""
    parameters = {"after": after, "until": until, "told_within": TOLD_WITHIN}
    found = rows(using, "touched_runs", parameters)
    return {root: Touched._make(about) for root, *about in found}


def set_aside(
    using: str, name: str, *, position: int, root_pipeline_id: str, whole_run: bool, error: str
) -> None:
    """The projection goes on without this record, or without its whole run."""
    parameters = {
        "projection": name,
        "position": position,
        "root": root_pipeline_id,
        "whole_run": whole_run,
        "error": error,
    }
    _execute(using, "set_aside", parameters)


def take_back(using: str, name: str, roots: Collection[str] | None = None) -> None:
    """Runs that could be folded now; None: all that was set aside, for it begins anew."""
    if roots is None:
        _execute(using, "take_back_all", {"projection": name})
    elif roots:
        _execute(using, "take_back_runs", {"projection": name, "roots": list(roots)})


def _execute(using: str, query: str, parameters: dict[str, Any]) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(queries()[query], parameters)
