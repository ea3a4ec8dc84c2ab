"""The tables, as Django models. SQL files make them (``audit/sql``): Django must not flush them."""

from __future__ import annotations

import uuid
from typing import Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.events import VOCABULARY
from audit.exceptions import AppendOnlyError
from audit.querysets import RecordQuerySet


class PipelineEventRecord(models.Model):
    """One event of the engine, never changed. Times are UTC in the database, aware here."""

    id = models.BigAutoField(_("position"), primary_key=True)
    writer_position = models.BigIntegerField(
        _("writer position"), help_text=_("The number that its writer gave it: 1, 2, 3…")
    )
    occurred_at = models.DateTimeField(
        _("occurred at"), help_text=_("When the engine sent the event.")
    )
    recorded_at = models.DateTimeField(
        _("recorded at"), help_text=_("When the database stored the record.")
    )
    writer_id = models.UUIDField(
        _("writer"), default=uuid.uuid4, help_text=_("The process that captured the event.")
    )
    event_type = models.TextField(_("event type"))
    root_pipeline_id = models.TextField(
        _("run"), default="", help_text=_("The root pipeline; empty where it was not known.")
    )
    pipeline_id = models.TextField(
        _("pipeline"),
        default="",
        help_text=_("The pipeline or subprocess that the event names, or that the node is in."),
    )
    node_id = models.TextField(_("node"), default="")
    node_version = models.TextField(
        _("node version"), default="", help_text=_("The engine's version of the node's state.")
    )
    data = models.JSONField(_("data"), help_text=_("What the event carried."))
    context = models.JSONField(
        _("context"), default=dict, help_text=_("Who, why and where; notes of the recorder.")
    )

    objects = RecordQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "bamboo_audit_pipelineeventrecord"
        default_permissions = ("view",)
        verbose_name = _("event record")
        verbose_name_plural = _("event records")

    def __str__(self) -> str:
        return f"{self.event_type} #{self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError

    @property
    def meaning(self) -> str:
        """What the event type means, in English; "" for a type that is not in the vocabulary."""
        known = VOCABULARY.get(self.event_type)
        return known.meaning if known else ""


class SpoolWriter(models.Model):
    """One process that captures, and how far its records are in the log. Times are aware."""

    class Ended(models.TextChoices):
        """How it came to its end; empty where it goes on."""

        CLOSED = "closed", _("closed")
        DIED = "died", _("killed, and its spool was read to the end")
        LOST = "lost", _("fell silent, and its spool did not come back")

    writer_id = models.UUIDField(_("writer"), primary_key=True, default=uuid.uuid4)
    host = models.TextField(_("host"), default="")
    pid = models.IntegerField(_("process id"), default=0)
    kind = models.TextField(
        _("kind"), default="", help_text=_("The first words of its command line.")
    )
    spool = models.TextField(_("spool"), default="", help_text=_("The folder of its segments."))
    started_at = models.DateTimeField(_("started at"), null=True)
    registered_at = models.DateTimeField(_("registered at"))
    seen_at = models.DateTimeField(_("seen at"), help_text=_("Its last sign of life."))
    position = models.BigIntegerField(
        _("position"), default=0, help_text=_("Up to this number its records are in the log.")
    )
    missing = models.BigIntegerField(
        _("missing"), default=0, help_text=_("How many of those numbers have no record.")
    )
    last_at = models.DateTimeField(
        _("last at"), null=True, help_text=_("When the last of them occurred.")
    )
    ended = models.TextField(_("ended"), choices=Ended.choices, default="", blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True)

    class Meta:
        managed = False
        db_table = "bamboo_audit_spoolwriter"
        default_permissions = ("view",)
        verbose_name = _("spool writer")
        verbose_name_plural = _("spool writers")

    def __str__(self) -> str:
        return f"{self.kind or '?'} {self.pid} on {self.host or '?'}"
