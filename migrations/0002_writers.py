from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation

from audit.log.ddl import RunLogSQL


class Migration(migrations.Migration):
    """The writers of the spool."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("bamboo_audit", "0001_log")]

    operations: ClassVar[list[Operation]] = [
        RunLogSQL("0002_writers.sql", "0002_writers_reverse.sql"),
        migrations.CreateModel(
            name="SpoolWriter",
            fields=[
                (
                    "writer_id",
                    models.UUIDField(
                        default=uuid.uuid4, primary_key=True, serialize=False, verbose_name="writer"
                    ),
                ),
                ("host", models.TextField(default="", verbose_name="host")),
                ("pid", models.IntegerField(default=0, verbose_name="process id")),
                (
                    "kind",
                    models.TextField(
                        default="",
                        help_text="The first words of its command line.",
                        verbose_name="kind",
                    ),
                ),
                (
                    "spool",
                    models.TextField(
                        default="", help_text="The folder of its segments.", verbose_name="spool"
                    ),
                ),
                ("started_at", models.DateTimeField(null=True, verbose_name="started at")),
                ("registered_at", models.DateTimeField(verbose_name="registered at")),
                (
                    "seen_at",
                    models.DateTimeField(
                        help_text="Its last sign of life.", verbose_name="seen at"
                    ),
                ),
                (
                    "position",
                    models.BigIntegerField(
                        default=0,
                        help_text="Up to this number its records are in the log.",
                        verbose_name="position",
                    ),
                ),
                (
                    "missing",
                    models.BigIntegerField(
                        default=0,
                        help_text="How many of those numbers have no record.",
                        verbose_name="missing",
                    ),
                ),
                (
                    "last_at",
                    models.DateTimeField(
                        help_text="When the last of them occurred.",
                        null=True,
                        verbose_name="last at",
                    ),
                ),
                (
                    "ended",
                    models.TextField(
                        blank=True,
                        choices=[
                            ("closed", "closed"),
                            ("died", "killed, and its spool was read to the end"),
                            ("lost", "fell silent, and its spool did not come back"),
                        ],
                        default="",
                        verbose_name="ended",
                    ),
                ),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended at")),
            ],
            options={
                "verbose_name": "spool writer",
                "verbose_name_plural": "spool writers",
                "db_table": "bamboo_audit_spoolwriter",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
