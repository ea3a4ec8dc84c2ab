"""How far the projections are, and what they went on without."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class ProjectionCheckpoint(models.Model):
    """Up to which position a projection has applied the log."""

    name = models.TextField(_("projection"), primary_key=True)
    version = models.IntegerField(_("version"))
    position = models.BigIntegerField(_("position"))
    updated_at = models.DateTimeField(_("updated at"))

    class Meta:
        managed = False
        db_table = "bamboo_audit_projectioncheckpoint"
        default_permissions = ("view",)
        verbose_name = _("projection checkpoint")
        verbose_name_plural = _("projection checkpoints")

    def __str__(self) -> str:
        return f"{self.name} at {self.position}"


class RecordSetAside(models.Model):
    """A record that a projection could not apply, so that it went on without."""

    id = models.TextField(primary_key=True)
    projection = models.TextField(_("projection"))
    position = models.BigIntegerField(_("position"))
    root_pipeline_id = models.TextField(_("run"))
    whole_run = models.BooleanField(
        _("whole run"), help_text=_("Its whole run could not be folded.")
    )
    error = models.TextField(_("error"))
    set_aside_at = models.DateTimeField(_("set aside at"))

    class Meta:
        managed = False
        db_table = "bamboo_audit_recordsetaside"
        default_permissions = ("view",)
        verbose_name = _("record set aside")
        verbose_name_plural = _("records set aside")

    def __str__(self) -> str:
        return f"{self.projection}: {self.position}"
