"""The test that a host's test of its projection inherits, on ours, and on some that break it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from django.db import connections
from lab import tally
from lab.tally import Nodes, Tally

from audit import conf
from audit.models import NodeTimeline, PipelineTimeline, ProjectionCheckpoint, StateTransition
from audit.projections import Projection
from audit.projections.timelines import Timelines
from audit.testing.projections import ProjectionContract

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class TestTimelines(ProjectionContract):
    projection = Timelines

    def rows(self):
        for model in (PipelineTimeline, NodeTimeline, StateTransition):
            yield from model.objects.order_by("pk").values()


@pytest.fixture
def tables():
    tally.make_tables()
    yield
    tally.drop_tables()
    ProjectionCheckpoint.objects.exclude(name="timelines").delete()


class OfOne(ProjectionContract):
    def rows(self):
        return tally.execute(
            "SELECT key, value FROM lab_tally WHERE name = %s ORDER BY key", self.projection.name
        )


@pytest.mark.usefixtures("tables")
class TestTally(OfOne):
    projection = Tally


@pytest.mark.usefixtures("tables")
class TestNodes(OfOne):
    projection = Nodes


class Outside(Tally):
    """Writes by a connection of its own."""

    name = "outside"

    def count(self, key):
        connection = connections[conf.get("DATABASE")].copy()
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO lab_tally VALUES (%s, %s, 1) ON CONFLICT DO NOTHING",
                    [self.name, key],
                )
        finally:
            connection.close()


class PerBatch(Tally):
    """Counts batches."""

    name = "per_batch"

    def apply(self, batch):
        self.count("batches")


class Forgetful(Tally):
    """Does not reset all."""

    name = "forgetful"

    def reset(self):
        tally.execute("DELETE FROM lab_tally WHERE name = %s AND key <> 'node_enter'", self.name)


class Restless(Tally):
    """What it makes depends on when."""

    name = "restless"
    calls: ClassVar[list[int]] = []

    def apply(self, batch):
        self.calls.append(1)
        self.count(f"call {len(self.calls)}")


class Raises(Tally):
    name = "raises"

    def apply(self, batch):
        if any(record.event_type == "pipeline_finish" for record in batch.records):
            raise ValueError("not that one")


class Nothing(Tally):
    name = "nothing"

    def apply(self, batch):
        pass


BROKEN: list[tuple[type[Projection], str, str]] = [
    (Outside, "what_was_interrupted_is_done_once", "a rollback does not take back"),
    (PerBatch, "the_size_of_batches_makes_no_difference", "in batches of 37 other rows"),
    (Forgetful, "reset_deletes_all", "leaves rows"),
    (Restless, "catching_up_makes_the_same_rows_as_beginning_anew", "caught up"),
    (Raises, "there_are_rows", "raises for some records"),
    (Nothing, "there_are_rows", "makes no rows"),
]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(("projection", "test", "says"), BROKEN)
def test_what_breaks_the_contract_is_told(projection: Any, test: str, says: str) -> None:
    contract = OfOne()
    contract.projection = projection  # type: ignore[misc]
    with pytest.raises(AssertionError, match=says):
        getattr(contract, f"test_{test}")()


def test_what_rows_are_must_be_said():
    with pytest.raises(NotImplementedError, match="rows"):
        ProjectionContract().rows()
