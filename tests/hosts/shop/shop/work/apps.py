from __future__ import annotations

from django.apps import AppConfig


class WorkConfig(AppConfig):
    """What the shop's pipelines do."""

    name = "shop.work"
