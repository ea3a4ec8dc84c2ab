"""What the fold makes of the log, as Django models. Times are aware; ``left_at`` is exclusive.

``state``, ``version``, ``loop``, ``retry``, ``skip`` and ``error_ignored`` are the engine's values,
so they compare with ``pipeline.eri.models.State`` field by field.
"""

from __future__ import annotations

import datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.fold.completeness import COMPLETE, INCOMPLETE, RUNNING, SUSPECT, WAITING
from audit.fold.states import FINISHED, REVOKED
from audit.querysets.timelines import NodeQuerySet, RunQuerySet, TransitionQuerySet


class PipelineTimeline(models.Model):
    """One run."""

    root_pipeline_id = models.TextField(_("run"), primary_key=True)
    name = models.TextField(_("name"))
    tags = models.JSONField(_("tags"), default=dict)
    state = models.TextField(_("state"), help_text=_("Empty where the run did not begin."))
    version = models.TextField(_("version"))
    actor = models.TextField(_("actor"), help_text=_("Who started it."))
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(
        _("finished at"), null=True, help_text=_("Its end, also by revoking it.")
    )
    first_at = models.DateTimeField(_("first at"), help_text=_("When its first record occurred."))
    last_at = models.DateTimeField(_("last at"), help_text=_("Its last sign of life."))
    expected_by = models.DateTimeField(
        _("expected by"),
        null=True,
        help_text=_("By then more should be heard of it; empty where it may take its time."),
    )
    nodes = models.IntegerField(_("nodes"))
    failed_nodes = models.IntegerField(_("failed nodes"), help_text=_("That stand at a failure."))
    attempts = models.IntegerField(_("attempts"))
    failures = models.IntegerField(_("failures"))
    retries = models.IntegerField(_("retries"))
    skips = models.IntegerField(_("skips"))
    interventions = models.IntegerField(_("interventions"))
    paused = models.DurationField(
        _("paused"), help_text=_("How long the run was paused, until it was last resumed.")
    )
    reasons = models.JSONField(
        _("reasons"), default=list, help_text=_("What tells that records of it are missing.")
    )
    actors = ArrayField(
        models.TextField(), verbose_name=_("actors"), help_text=_("Who started it, or intervened.")
    )
    writers = ArrayField(
        models.TextField(), verbose_name=_("writers"), help_text=_("Who captured its records.")
    )
    first_position = models.BigIntegerField(_("first position"))
    last_position = models.BigIntegerField(_("last position"))

    objects = RunQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "bamboo_audit_pipelinetimeline"
        default_permissions = ("view",)
        verbose_name = _("run")
        verbose_name_plural = _("runs")

    def __str__(self) -> str:
        return f"{self.name or self.root_pipeline_id}: {self.state}"

    def verdict_at(self, now: datetime.datetime) -> str:
        """Complete, running, waiting, incomplete or suspect, judged at a moment (aware)."""
        if self.reasons:
            return INCOMPLETE
        if self.state in (FINISHED, REVOKED):
            return COMPLETE
        if self.expected_by is None:
            return WAITING
        return RUNNING if now <= self.expected_by else SUSPECT

    @property
    def took(self) -> datetime.timedelta | None:
        """From its begin to its end; None while it goes on."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


class NodeTimeline(models.Model):
    """One node of a run: activity, gateway, start or end event, or subprocess."""

    node_id = models.TextField(_("node"), primary_key=True)
    root_pipeline_id = models.TextField(_("run"))
    parent_id = models.TextField(_("parent"), help_text=_("The run or subprocess that it is in."))
    name = models.TextField(_("name"))
    node_type = models.TextField(_("type"))
    component_code = models.TextField(_("component"))
    template_node_id = models.TextField(_("node of the template"))
    state = models.TextField(_("state"), help_text=_("Empty where it was not reached."))
    version = models.TextField(_("version"))
    loop = models.IntegerField(_("loop"))
    retry = models.IntegerField(_("retry"))
    skip = models.BooleanField(_("skipped"))
    error_ignored = models.BooleanField(_("error ignored"))
    attempts = models.IntegerField(_("attempts"))
    failures = models.IntegerField(_("failures"))
    interventions = models.IntegerField(_("interventions"))
    actors = ArrayField(
        models.TextField(), verbose_name=_("actors"), help_text=_("Who did something to it.")
    )
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)
    running = models.DurationField(
        _("running"), help_text=_("How long it was RUNNING, in attempts that have ended.")
    )
    last_error = models.TextField(_("last error"))
    last_position = models.BigIntegerField(_("last position"))

    objects = NodeQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "bamboo_audit_nodetimeline"
        default_permissions = ("view",)
        verbose_name = _("node")
        verbose_name_plural = _("nodes")

    def __str__(self) -> str:
        return f"{self.name or self.node_id}: {self.state}"


class StateTransition(models.Model):
    """One interval of a node's or run's timeline; its key is (node_id, ordinal)."""

    id = models.TextField(primary_key=True)
    node_id = models.TextField(_("node"))
    ordinal = models.IntegerField(_("ordinal"), help_text=_("1, 2, 3… in the node's timeline."))
    root_pipeline_id = models.TextField(_("run"))
    from_state = models.TextField(_("from"), help_text=_("Empty where it was born."))
    state = models.TextField(_("state"))
    entered_at = models.DateTimeField(_("entered at"))
    left_at = models.DateTimeField(_("left at"), null=True, help_text=_("Empty for the last."))
    version = models.TextField(_("version"))
    loop = models.IntegerField(_("loop"))
    attempt = models.IntegerField(_("attempt"))
    cause = models.BigIntegerField(
        _("cause"), help_text=_("The position of the record that explains it.")
    )
    cause_type = models.TextField(_("event type of the cause"))
    actor = models.TextField(_("actor"))
    reason = models.TextField(_("reason"))
    irregular = models.BooleanField(
        _("irregular"), help_text=_("Not in the engine's own table of transitions.")
    )

    objects = TransitionQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "bamboo_audit_statetransition"
        default_permissions = ("view",)
        verbose_name = _("state transition")
        verbose_name_plural = _("state transitions")

    def __str__(self) -> str:
        return f"{self.node_id}: {self.from_state or '·'} → {self.state}"
