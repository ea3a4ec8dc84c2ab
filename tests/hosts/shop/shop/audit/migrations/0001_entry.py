# ruff: noqa: RUF012 - as makemigrations writes it
from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


def make_first(apps, schema_editor):
    apps.get_model("audit", "Entry").objects.using(schema_editor.connection.alias).create(
        text="made by a migration"
    )


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("text", models.CharField(max_length=100)),
            ],
        ),
        migrations.CreateModel(
            name="Line",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.IntegerField()),
                (
                    "entry",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="audit.entry"
                    ),
                ),
            ],
        ),
        migrations.RunPython(make_first, migrations.RunPython.noop),
    ]
