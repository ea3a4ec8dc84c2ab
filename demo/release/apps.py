from __future__ import annotations

from django.apps import AppConfig


class ReleaseConfig(AppConfig):
    """Releases of the shop's software: plugins, pipelines, and what operators do to them."""

    name = "release"
    verbose_name = "Releases of the shop"
