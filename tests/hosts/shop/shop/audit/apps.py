from __future__ import annotations

from django.apps import AppConfig


class HostAuditConfig(AppConfig):
    """Like ``gcloud.contrib.audit`` of bk-sops: another app, with the label ``audit``."""

    name = "shop.audit"
    label = "audit"
    default_auto_field = "django.db.models.BigAutoField"
