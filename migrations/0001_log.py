from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation

from audit.log.ddl import RunLogSQL


class Migration(migrations.Migration):
    """The log. A SQL file makes its table, so that Django neither flushes nor alters it."""

    initial = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar[list[Operation]] = [
        RunLogSQL("0001_log.sql", "0001_log_reverse.sql"),
        migrations.CreateModel(
            name="PipelineEventRecord",
            fields=[
                (
                    "id",
                    models.BigAutoField(primary_key=True, serialize=False, verbose_name="position"),
                ),
                (
                    "writer_position",
                    models.BigIntegerField(
                        help_text="The number that its writer gave it: 1, 2, 3…",
                        verbose_name="writer position",
                    ),
                ),
                (
                    "occurred_at",
                    models.DateTimeField(
                        help_text="When the engine sent the event.", verbose_name="occurred at"
                    ),
                ),
                (
                    "recorded_at",
                    models.DateTimeField(
                        help_text="When the database stored the record.",
                        verbose_name="recorded at",
                    ),
                ),
                (
                    "writer_id",
                    models.UUIDField(
                        default=uuid.uuid4,
                        help_text="The process that captured the event.",
                        verbose_name="writer",
                    ),
                ),
                ("event_type", models.TextField(verbose_name="event type")),
                (
                    "root_pipeline_id",
                    models.TextField(
                        default="",
                        help_text="The root pipeline; empty where it was not known.",
                        verbose_name="run",
                    ),
                ),
                (
                    "pipeline_id",
                    models.TextField(
                        default="",
                        help_text="The pipeline or subprocess that the event names, "
                        "or that the node is in.",
                        verbose_name="pipeline",
                    ),
                ),
                ("node_id", models.TextField(default="", verbose_name="node")),
                (
                    "node_version",
                    models.TextField(
                        default="",
                        help_text="The engine's version of the node's state.",
                        verbose_name="node version",
                    ),
                ),
                (
                    "data",
                    models.JSONField(help_text="What the event carried.", verbose_name="data"),
                ),
                (
                    "context",
                    models.JSONField(
                        default=dict,
                        help_text="Who, why and where; notes of the recorder.",
                        verbose_name="context",
                    ),
                ),
            ],
            options={
                "verbose_name": "event record",
                "verbose_name_plural": "event records",
                "db_table": "bamboo_audit_pipelineeventrecord",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
