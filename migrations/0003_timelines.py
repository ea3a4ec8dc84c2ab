from __future__ import annotations

from typing import ClassVar

import django.contrib.postgres.fields
from django.db import migrations, models
from django.db.migrations.operations.base import Operation

from audit.log.ddl import RunLogSQL


class Migration(migrations.Migration):
    """What the fold makes of the log."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("bamboo_audit", "0002_writers")]

    operations: ClassVar[list[Operation]] = [
        RunLogSQL("0003_timelines.sql", "0003_timelines_reverse.sql"),
        migrations.CreateModel(
            name="NodeTimeline",
            fields=[
                (
                    "node_id",
                    models.TextField(primary_key=True, serialize=False, verbose_name="node"),
                ),
                ("root_pipeline_id", models.TextField(verbose_name="run")),
                (
                    "parent_id",
                    models.TextField(
                        help_text="The run or subprocess that it is in.", verbose_name="parent"
                    ),
                ),
                ("name", models.TextField(verbose_name="name")),
                ("node_type", models.TextField(verbose_name="type")),
                ("component_code", models.TextField(verbose_name="component")),
                ("template_node_id", models.TextField(verbose_name="node of the template")),
                (
                    "state",
                    models.TextField(
                        help_text="Empty where it was not reached.", verbose_name="state"
                    ),
                ),
                ("version", models.TextField(verbose_name="version")),
                ("loop", models.IntegerField(verbose_name="loop")),
                ("retry", models.IntegerField(verbose_name="retry")),
                ("skip", models.BooleanField(verbose_name="skipped")),
                ("error_ignored", models.BooleanField(verbose_name="error ignored")),
                ("attempts", models.IntegerField(verbose_name="attempts")),
                ("failures", models.IntegerField(verbose_name="failures")),
                ("interventions", models.IntegerField(verbose_name="interventions")),
                (
                    "actors",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        help_text="Who did something to it.",
                        size=None,
                        verbose_name="actors",
                    ),
                ),
                ("started_at", models.DateTimeField(null=True, verbose_name="started at")),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished at")),
                (
                    "running",
                    models.DurationField(
                        help_text="How long it was RUNNING, in attempts that have ended.",
                        verbose_name="running",
                    ),
                ),
                ("last_error", models.TextField(verbose_name="last error")),
                ("last_position", models.BigIntegerField(verbose_name="last position")),
            ],
            options={
                "verbose_name": "node",
                "verbose_name_plural": "nodes",
                "db_table": "bamboo_audit_nodetimeline",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="PipelineTimeline",
            fields=[
                (
                    "root_pipeline_id",
                    models.TextField(primary_key=True, serialize=False, verbose_name="run"),
                ),
                ("name", models.TextField(verbose_name="name")),
                ("tags", models.JSONField(default=dict, verbose_name="tags")),
                (
                    "state",
                    models.TextField(
                        help_text="Empty where the run did not begin.", verbose_name="state"
                    ),
                ),
                ("version", models.TextField(verbose_name="version")),
                ("actor", models.TextField(help_text="Who started it.", verbose_name="actor")),
                ("started_at", models.DateTimeField(null=True, verbose_name="started at")),
                (
                    "finished_at",
                    models.DateTimeField(
                        help_text="Its end, also by revoking it.",
                        null=True,
                        verbose_name="finished at",
                    ),
                ),
                (
                    "first_at",
                    models.DateTimeField(
                        help_text="When its first record occurred.", verbose_name="first at"
                    ),
                ),
                (
                    "last_at",
                    models.DateTimeField(
                        help_text="Its last sign of life.", verbose_name="last at"
                    ),
                ),
                (
                    "expected_by",
                    models.DateTimeField(
                        help_text="By then more should be heard of it; empty where it may "
                        "take its time.",
                        null=True,
                        verbose_name="expected by",
                    ),
                ),
                ("nodes", models.IntegerField(verbose_name="nodes")),
                (
                    "failed_nodes",
                    models.IntegerField(
                        help_text="That stand at a failure.", verbose_name="failed nodes"
                    ),
                ),
                ("attempts", models.IntegerField(verbose_name="attempts")),
                ("failures", models.IntegerField(verbose_name="failures")),
                ("retries", models.IntegerField(verbose_name="retries")),
                ("skips", models.IntegerField(verbose_name="skips")),
                ("interventions", models.IntegerField(verbose_name="interventions")),
                (
                    "paused",
                    models.DurationField(
                        help_text="How long the run was paused, until it was last resumed.",
                        verbose_name="paused",
                    ),
                ),
                (
                    "reasons",
                    models.JSONField(
                        default=list,
                        help_text="What tells that records of it are missing.",
                        verbose_name="reasons",
                    ),
                ),
                (
                    "actors",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        help_text="Who started it, or intervened.",
                        size=None,
                        verbose_name="actors",
                    ),
                ),
                (
                    "writers",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        help_text="Who captured its records.",
                        size=None,
                        verbose_name="writers",
                    ),
                ),
                ("first_position", models.BigIntegerField(verbose_name="first position")),
                ("last_position", models.BigIntegerField(verbose_name="last position")),
            ],
            options={
                "verbose_name": "run",
                "verbose_name_plural": "runs",
                "db_table": "bamboo_audit_pipelinetimeline",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="ProjectionCheckpoint",
            fields=[
                (
                    "name",
                    models.TextField(primary_key=True, serialize=False, verbose_name="projection"),
                ),
                ("version", models.IntegerField(verbose_name="version")),
                ("position", models.BigIntegerField(verbose_name="position")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
            ],
            options={
                "verbose_name": "projection checkpoint",
                "verbose_name_plural": "projection checkpoints",
                "db_table": "bamboo_audit_projectioncheckpoint",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="StateTransition",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("node_id", models.TextField(verbose_name="node")),
                (
                    "ordinal",
                    models.IntegerField(
                        help_text="1, 2, 3… in the node's timeline.", verbose_name="ordinal"
                    ),
                ),
                ("root_pipeline_id", models.TextField(verbose_name="run")),
                (
                    "from_state",
                    models.TextField(help_text="Empty where it was born.", verbose_name="from"),
                ),
                ("state", models.TextField(verbose_name="state")),
                ("entered_at", models.DateTimeField(verbose_name="entered at")),
                (
                    "left_at",
                    models.DateTimeField(
                        help_text="Empty for the last.", null=True, verbose_name="left at"
                    ),
                ),
                ("version", models.TextField(verbose_name="version")),
                ("loop", models.IntegerField(verbose_name="loop")),
                ("attempt", models.IntegerField(verbose_name="attempt")),
                (
                    "cause",
                    models.BigIntegerField(
                        help_text="The position of the record that explains it.",
                        verbose_name="cause",
                    ),
                ),
                ("cause_type", models.TextField(verbose_name="event type of the cause")),
                ("actor", models.TextField(verbose_name="actor")),
                ("reason", models.TextField(verbose_name="reason")),
                (
                    "irregular",
                    models.BooleanField(
                        help_text="Not in the engine's own table of transitions.",
                        verbose_name="irregular",
                    ),
                ),
            ],
            options={
                "verbose_name": "state transition",
                "verbose_name_plural": "state transitions",
                "db_table": "bamboo_audit_statetransition",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
