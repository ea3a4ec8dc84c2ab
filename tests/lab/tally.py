"""A host's own projections, as small as they can be: they count in a table."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import connections

from audit import conf
from audit.fold import RunTimeline
from audit.projections import Batch, Projection, RunProjection


def execute(statement: str, *parameters: Any) -> list[Any]:
    with connections[conf.get("DATABASE")].cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def make_tables() -> None:
    execute("CREATE TABLE lab_tally (name text, key text, value bigint, PRIMARY KEY (name, key))")


def drop_tables() -> None:
    execute("DROP TABLE lab_tally")


def values(name: str) -> dict[str, int]:
    return dict(execute("SELECT key, value FROM lab_tally WHERE name = %s ORDER BY key", name))


class Tally(Projection):
    """Counts records by type."""

    name = "tally"

    def apply(self, batch: Batch) -> None:
        for record in batch.records:
            self.count(record.event_type)

    def count(self, key: str) -> None:
        execute(
            "INSERT INTO lab_tally VALUES (%s, %s, 1) "
            "ON CONFLICT (name, key) DO UPDATE SET value = lab_tally.value + 1",
            *(self.name, key),
        )

    def reset(self) -> None:
        execute("DELETE FROM lab_tally WHERE name = %s", self.name)


class Failures(Tally):
    """Wants two types only."""

    name = "failures"
    event_types: ClassVar[Any] = ("node_execute_fail", "node_schedule_fail")


class Nodes(RunProjection):
    """Of each run how many nodes it has."""

    name = "nodes"

    def apply_run(self, run: RunTimeline) -> None:
        key = run.root_pipeline_id
        execute("DELETE FROM lab_tally WHERE name = %s AND key = %s", self.name, key)
        execute("INSERT INTO lab_tally VALUES (%s, %s, %s)", self.name, key, len(run.nodes))

    def reset(self) -> None:
        execute("DELETE FROM lab_tally WHERE name = %s", self.name)
