"""The receivers: from the engine's signals to the log, and never an exception back.

The engine calls them synchronously, with ``send`` and not ``send_robust``: whatever they raise
leaves pipelines stuck, fails nodes, or makes the engine send its task again without end.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.apps import apps
from django.dispatch import Signal

from audit import conf, delivery
from audit.capture import ids
from audit.capture.encode import Note
from audit.capture.failures import failures
from audit.capture.ids import Ids
from audit.capture.text import describe
from audit.events import POST_SET_STATE
from audit.exceptions import SoftTimeLimit

EVENT_UID: Final = "bamboo_audit.pipeline_event"
STATE_UID: Final = "bamboo_audit.post_set_state"
ENGINE_SENDER: Final = "pipeline.eri.models.State"


def on_pipeline_event(sender: Any = None, event: Any = None, **_: Any) -> None:
    """Receiver of ``pipeline.eri.signals.pipeline_event``."""
    event_type, found = "?", None
    notes: list[Note] = []
    try:
        event_type = str(getattr(event, "event_type", None) or "unknown")
        data = getattr(event, "data", None)
        # Ids first, whatever is recorded: the tree that says where nodes stand comes once.
        found = _ids(lambda: ids.of_pipeline_event(event_type, data), notes)
        delivery.deliver(event_type, data, found, sender=None, notes=notes)
    except SoftTimeLimit:
        raise
    except Exception as error:
        _report(event_type, found, error)


def on_post_set_state(sender: Any = None, **values: Any) -> None:
    """Receiver of ``pipeline.eri.signals.post_set_state``; keeps who sent it."""
    found = None
    notes: list[Note] = []
    try:
        data = {key: value for key, value in values.items() if key != "signal"}
        name = _sender_name(sender)
        from_engine = name == ENGINE_SENDER
        found = _ids(lambda: ids.of_state_change(data, from_engine=from_engine), notes)
        if conf.get("RECORD_STATE_CHANGES"):
            delivery.deliver(POST_SET_STATE, data, found, sender=name, notes=notes)
    except SoftTimeLimit:
        raise
    except Exception as error:
        _report(POST_SET_STATE, found, error)


def _report(event_type: str, found: Ids | None, error: Exception) -> None:
    try:
        failures.failed(event_type, found, error)
    except SoftTimeLimit:
        raise
    except Exception:  # noqa: S110 - a logging handler of the host's raised: counted, nobody to tell
        pass


def _sender_name(sender: Any) -> str | None:
    if sender is None:
        return None
    kind = sender if isinstance(sender, type) else type(sender)
    return f"{kind.__module__}.{kind.__qualname__}"


def _ids(find: Callable[[], Ids], notes: list[Note]) -> Ids:
    """The ids, or none where the payload fights back: the event is recorded all the same."""
    try:
        return find()
    except SoftTimeLimit:
        raise
    except Exception as error:
        notes.append({"path": "ids", "was": "unreadable", "lost": describe(error)})
        return Ids()


def signals() -> Mapping[str, Signal]:
    """The engine's two signals, or nothing where bamboo-pipeline is not installed."""
    try:
        engine = importlib.import_module("pipeline.eri.signals")
    except ImportError:
        return {}
    return {EVENT_UID: engine.pipeline_event, STATE_UID: engine.post_set_state}


def connect() -> None:
    """Connect the receivers; again is harmless."""
    receivers = {EVENT_UID: on_pipeline_event, STATE_UID: on_post_set_state}
    for uid, signal in signals().items():
        signal.connect(receivers[uid], dispatch_uid=uid)


def are_connected() -> bool:
    """Whether this process records: the engine is one of its apps, and our receivers are there."""
    engine = signals()
    return (
        bool(engine)
        and apps.is_installed("pipeline.eri")
        and all(
            uid in [lookup_key[0] for (lookup_key, *_) in signal.receivers]
            for uid, signal in engine.items()
        )
    )
