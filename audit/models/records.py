"""The log, as a Django model. SQL files make the tables: Django must not flush them."""

from __future__ import annotations

import uuid
from typing import Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy as _

from audit.events import VOCABULARY
from audit.exceptions import AppendOnlyError
from audit.querysets.records import RecordQuerySet


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
