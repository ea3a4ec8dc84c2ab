from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    """What the shop makes of the log."""

    initial = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            name="AttemptTime",
            fields=[
                (
                    "id",
                    models.AutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("root_pipeline_id", models.CharField(db_index=True, max_length=33)),
                ("component", models.CharField(max_length=255)),
                ("day", models.DateField()),
                ("seconds", models.FloatField()),
                ("failed", models.BooleanField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["component", "day"], name="attempt_component_day")
                ],
            },
        ),
    ]
