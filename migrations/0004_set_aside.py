from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation

from audit.log.ddl import RunLogSQL


class Migration(migrations.Migration):
    """What projections could not apply."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("bamboo_audit", "0003_timelines")]

    operations: ClassVar[list[Operation]] = [
        RunLogSQL("0004_set_aside.sql", "0004_set_aside_reverse.sql"),
        migrations.CreateModel(
            name="RecordSetAside",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("projection", models.TextField(verbose_name="projection")),
                ("position", models.BigIntegerField(verbose_name="position")),
                ("root_pipeline_id", models.TextField(verbose_name="run")),
                (
                    "whole_run",
                    models.BooleanField(
                        help_text="Its whole run could not be folded.", verbose_name="whole run"
                    ),
                ),
                ("error", models.TextField(verbose_name="error")),
                ("set_aside_at", models.DateTimeField(verbose_name="set aside at")),
            ],
            options={
                "verbose_name": "record set aside",
                "verbose_name_plural": "records set aside",
                "db_table": "bamboo_audit_recordsetaside",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
