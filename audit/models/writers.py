"""The writers of the spool, as a Django model."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _


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
