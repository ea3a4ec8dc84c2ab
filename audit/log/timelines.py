"""The tables of the timelines."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from django.db import connections

from audit.log.values import NULL, as_line, as_lines, as_object
from audit.sql import queries

COLUMNS: Final = {
    "runs": (
        *("root_pipeline_id", "name", "tags", "state", "version", "actor", "started_at"),
        *("finished_at", "first_at", "last_at", "expected_by", "nodes", "failed_nodes"),
        *("attempts", "failures", "retries", "skips", "interventions", "paused", "reasons"),
        *("actors", "writers", "first_position", "last_position"),
    ),
    "nodes": (
        *("node_id", "root_pipeline_id", "parent_id", "name", "node_type", "component_code"),
        *("template_node_id", "state", "version", "loop", "retry", "skip", "error_ignored"),
        *("attempts", "failures", "interventions", "actors", "started_at", "finished_at"),
        *("running", "last_error", "last_position"),
    ),
    "transitions": (
        *("node_id", "ordinal", "root_pipeline_id", "from_state", "state", "entered_at"),
        *("left_at", "version", "loop", "attempt", "cause", "cause_type", "actor", "reason"),
        "irregular",
    ),
}
"""Of each kind of rows, in the order of their tables."""
WRITE: Final = {
    "runs": "write_runs",
    "nodes": "write_nodes",
    "transitions": "write_transitions",
}
LOAD: Final = {
    "runs": "load_runs",
    "nodes": "load_nodes",
    "transitions": "load_transitions",
}
CLEAR: Final = ("clear_runs", "clear_nodes", "clear_transitions")
AFTER_LOAD: Final = (
    *("settle_nodes", "settle_transitions", "key_runs", "key_nodes", "key_transitions"),
    *("find_loaded_nodes", "find_loaded_transitions"),
)
"""Of rows that two runs have of one node one stays; then there are keys, and the indexes by which
a run's rows are found."""
MOST_BYTES: Final = 4 * 2**20
"""Rows that are written at once, as JSON: the database takes 256 MB."""

Row = tuple[Any, ...]


class Part(NamedTuple):
    """What is written of a run: some nodes, with the transitions that were not left by a moment."""

    nodes: Collection[str]
    since: datetime.datetime


class Rows:
    """Rows of some runs, written together: those that are new or differ; what is no more goes."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._begin()

    def _begin(self) -> None:
        self._roots: list[str] = []
        self._parts: list[str] = []
        self._since: list[datetime.datetime] = []
        self._nodes: list[str] = []
        self._size = 0
        self._objects: dict[str, list[bytes]] = {kind: [] for kind in COLUMNS}

    def add(
        self,
        root: str,
        run: Row,
        nodes: Sequence[Row],
        transitions: Sequence[Row],
        only: Part | None = None,
    ) -> None:
        """The rows of one run; ``only``: these, the others stay.

        Raises:
            TypeError: JSON does not take a value; then nothing is added.
        """
        made = {
            kind: [as_object(COLUMNS[kind], row) for row in rows]
            for kind, rows in zip(COLUMNS, ([run], nodes, transitions), strict=True)
        }
        for kind, objects in made.items():
            self._objects[kind] += objects
            self._size += sum(map(len, objects))
        if only is None:
            self._roots.append(root)
        else:
            self._parts.append(root)
            self._since.append(only.since)
            self._nodes += only.nodes

    @property
    def is_full(self) -> bool:
        """Whether it is time to write."""
        return self._size > MOST_BYTES

    def write(self) -> None:
        """Write what was added."""
        of = {
            "roots": self._roots,
            "parts": self._parts,
            "since": self._since,
            "nodes": self._nodes,
        }
        if self._roots or self._parts:
            for kind, objects in self._objects.items():
                rows = (b"[" + b",".join(objects) + b"]").decode()
                _execute(self._using, WRITE[kind], {"rows": rows, **of})
        self._begin()


class Load:
    """Rows of runs that the tables have nothing of yet, and that have no keys so far."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._lines: dict[str, list[str]] = {kind: [] for kind in COLUMNS}

    def add(
        self,
        root: str,
        run: Row,
        nodes: Sequence[Row],
        transitions: Sequence[Row],
        only: Part | None = None,
    ) -> None:
        """The rows of one run, which are all.

        Raises:
            TypeError: JSON does not take a value; then nothing is added.
        """
        self._lines["runs"].append(as_line(run))
        self._lines["nodes"].append(as_lines(nodes))
        self._lines["transitions"].append(as_lines(transitions))

    @property
    def is_full(self) -> bool:
        """Never: a load is as large as a shard."""
        return False

    def write(self) -> None:
        """Write what was added."""
        with connections[self._using].cursor() as cursor:
            for kind, lines in self._lines.items():
                statement = queries()[LOAD[kind]].format(null=NULL)
                with cursor.cursor.copy(statement) as copy:
                    copy.write("".join(lines))


def make_keys(using: str) -> None:
    """After a load; whoever does it a second time finds all done."""
    for query in AFTER_LOAD:
        _execute(using, query)


def clear(using: str) -> None:
    """Delete all rows."""
    for query in CLEAR:
        _execute(using, query)


def _execute(using: str, query: str, parameters: dict[str, Any] | None = None) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(queries()[query], parameters)
