"""A host's own projections that can be made anew: one of records in order, one by runs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import connections, models

from audit.fold import RunTimeline
from audit.projections import Batch, Projection, RunProjection


class EventCount(models.Model):
    """How often there was an event, and the position of the last one."""

    event_type = models.TextField(primary_key=True)
    number = models.BigIntegerField()
    last = models.BigIntegerField()

    objects: models.Manager[EventCount] = models.Manager()

    class Meta:
        app_label = "lab"
        db_table = "lab_eventcount"

    def __str__(self) -> str:
        return f"{self.event_type}: {self.number}"


class NodeEnd(models.Model):
    """A node that came to an end. Its rows have no key but the one that the database draws."""

    root_pipeline_id = models.TextField()
    state = models.TextField()

    objects: models.Manager[NodeEnd] = models.Manager()

    class Meta:
        app_label = "lab"
        db_table = "lab_nodeend"

    def __str__(self) -> str:
        return self.state


MODELS = (EventCount, NodeEnd)


class EventCounts(Projection):
    name = "event_counts"
    models: ClassVar[Any] = (EventCount,)

    def apply(self, batch: Batch) -> None:
        for record in batch.records:
            row, _ = EventCount.objects.using(self.using).get_or_create(
                event_type=record.event_type, defaults={"number": 0, "last": 0}
            )
            row.number += 1
            row.last = record.position
            row.save()

    def reset(self) -> None:
        EventCount.objects.using(self.using).all().delete()


class NodeEnds(RunProjection):
    name = "node_ends"
    models: ClassVar[Any] = (NodeEnd,)

    def apply_run(self, run: RunTimeline) -> None:
        table = NodeEnd.objects.using(self.using)
        table.filter(root_pipeline_id=run.root_pipeline_id).delete()
        table.bulk_create(
            NodeEnd(root_pipeline_id=run.root_pipeline_id, state=node.state)
            for node in run.nodes.values()
            if node.finished_us is not None
        )

    def reset(self) -> None:
        NodeEnd.objects.using(self.using).all().delete()


def make_tables(using: str) -> None:
    with connections[using].schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)


def drop_tables(using: str) -> None:
    with connections[using].schema_editor() as editor:
        for model in MODELS:
            editor.delete_model(model)
