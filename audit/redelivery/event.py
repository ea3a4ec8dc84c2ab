"""The event that a receiver is given again, and what else the engine's signal gives it."""

from __future__ import annotations

import importlib
from typing import Any, Final, Self

from django.apps import apps
from django.dispatch import Signal

from audit import receivers
from audit.log.redeliveries import Recorded


class _Event:
    """Of the shape of the engine's, where the engine is not installed."""

    def __init__(self, event_type: str, data: Any) -> None:
        self.event_type = event_type
        self.data = data

    def as_dict(self) -> dict[str, Any]:
        return {"event_type": self.event_type, "data": self.data}


def _engines() -> tuple[Any, Any, Signal]:
    """The class of the engine's events, who sends them, and by which signal."""
    if not apps.is_installed("pipeline.eri"):
        return _Event, None, Signal()
    hooks = importlib.import_module("pipeline.eri.imp.hooks")
    return hooks.PipelineEvent, hooks.HooksMixin, hooks.pipeline_event


_EngineEvent: Any
_EngineEvent, SENDER, SIGNAL = _engines()


class ReplayedEvent(_EngineEvent):  # type: ignore[misc]  # which it is depends on the host
    """A recorded event: one of the engine's, and what the log knows of it beside that."""

    replayed: Final = True

    def __new__(cls, *_: Any) -> Self:
        # Wherever there is one, also where it was unpickled, somebody may send it on through the
        # signal, and the log has it already.
        receivers.leave_out(ReplayedEvent)
        made: Self = super().__new__(cls)
        return made

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(recorded.event_type, recorded.data)
        self.position = recorded.position
        """In the log: the same each time that it is delivered."""
        self.occurred_at = recorded.occurred_at
        """When it was sent first; aware."""
        self.root_pipeline_id = recorded.root_pipeline_id
        """The run; empty where it was not known when it was stored."""
        self.context = recorded.context
        """Who, why and where, and what was changed or redacted when it was captured."""
