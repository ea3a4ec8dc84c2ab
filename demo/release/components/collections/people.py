"""Plugins that tell people, or wait for them."""
# mypy: allow-subclassing-any

from __future__ import annotations

from typing import Any

from pipeline.component_framework.component import Component
from pipeline.core.flow.activity import Service


class Announce(Service):
    def execute(self, data: Any, parent_data: Any) -> bool:
        return True


class AnnounceComponent(Component):
    name = "Announce"
    code = "release_announce"
    bound_service = Announce


class SignOff(Service):
    """Waits for a callback; fails when it says that the release was not accepted."""

    __need_schedule__ = True

    def execute(self, data: Any, parent_data: Any) -> bool:
        return True

    def schedule(self, data: Any, parent_data: Any, callback_data: Any = None) -> bool:
        return bool((callback_data or {}).get("accepted"))


class SignOffComponent(Component):
    name = "Wait for sign-off"
    code = "release_sign_off"
    bound_service = SignOff
