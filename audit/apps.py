"""The Django app. Its label is ``bamboo_audit``: bk-sops has an app labelled ``audit``."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks as django_checks
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

from audit import checks, conf, partitions, receivers
from audit.capture import celery
from audit.shipping import workers


class AuditConfig(AppConfig):
    """Connects the receivers and registers the checks."""

    name = "audit"
    label = "bamboo_audit"
    verbose_name = _("Pipeline audit")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        conf.set_default()
        receivers.connect()
        celery.connect()
        workers.connect()
        django_checks.register(checks.check_configuration)
        django_checks.register(checks.check_log, django_checks.Tags.database)
        post_migrate.connect(_top_up, sender=self, dispatch_uid="bamboo_audit.top_up")


def _top_up(using: str, **_: Any) -> None:
    """Every ``migrate`` is also a moment to make partitions ahead."""
    partitions.top_up_after_migrate(using)
