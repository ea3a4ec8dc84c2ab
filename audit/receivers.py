"""The receivers: from the engine's signals to the log, and never an exception back.

The engine calls them synchronously, with ``send`` and not ``send_robust``: whatever they raise
leaves pipelines stuck, fails nodes, or makes the engine send its task again without end.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.apps import apps
from django.dispatch import Signal

from audit import delivery
from audit.capture import ids
from audit.capture.encode import Note
from audit.capture.failures import failures
from audit.capture.ids import Ids
from audit.capture.text import describe
from audit.delivery import straight
from audit.events import POST_SET_STATE
from audit.exceptions import SoftTimeLimit

EVENT_UID: Final = "bamboo_audit.pipeline_event"
STATE_UID: Final = "bamboo_audit.post_set_state"
ENGINE_SENDER: Final = "pipeline.eri.models.State"


_left_out: type | None = None
"""Of this class are the events that the log has already."""


def leave_out(kind: type) -> None:
    """Record no event of exactly this class in this process, whoever sends it.

    What takes the straight way is not asked for its class, which would be felt there: from now on
    nothing takes it here.
    """
    global _left_out
    if _left_out is not kind:
        _left_out = kind
        straight.close()


def on_pipeline_event(sender: Any = None, event: Any = None, **_: Any) -> None:
    """Receiver of ``pipeline.eri.signals.pipeline_event``."""
    event_type, found = "?", None
    notes: Sequence[Note] = ()
    try:
        try:
            event_type, data = event.event_type, event.data
        except AttributeError:
            event_type = getattr(event, "event_type", "")
            data = getattr(event, "data", None)
        if type(event_type) is not str or not event_type:
            event_type = str(event_type or "unknown")
        # Ids first, whatever is recorded: the tree that says where nodes stand comes once.
        try:
            found = ids.of_pipeline_event(event_type, data)
        except SoftTimeLimit:
            raise
        except Exception as error:
            found, notes = Ids(), _unreadable(error)
        if not straight.worker_event(event_type, data, found) and type(event) is not _left_out:
            delivery.deliver(event_type, data, found, None, notes)
    except SoftTimeLimit:
        raise
    except Exception as error:
        report(event_type, found, error)


def on_post_set_state(sender: Any = None, **values: Any) -> None:
    """Receiver of ``pipeline.eri.signals.post_set_state``; keeps who sent it."""
    found = None
    notes: Sequence[Note] = ()
    try:
        values.pop("signal", None)
        usual, usual_name = _usual
        name: str | None = usual_name
        if sender is not usual:
            name = _sender_name(sender)
        elif straight.state_change(usual_name, values):
            return
        try:
            found = ids.of_state_change(values, from_engine=name == ENGINE_SENDER)
        except SoftTimeLimit:
            raise
        except Exception as error:
            found, notes = Ids(), _unreadable(error)
        delivery.deliver(POST_SET_STATE, values, found, name, notes)
    except SoftTimeLimit:
        raise
    except Exception as error:
        report(POST_SET_STATE, found or _ids_of(values), error)


def _ids_of(values: Mapping[str, Any]) -> Ids | None:
    try:
        return ids.of_state_change(values, from_engine=False)
    except SoftTimeLimit:
        raise
    except Exception:
        return None


def report(event_type: str, found: Ids | None, error: Exception) -> None:
    """Count and log what could not be recorded; nothing comes back."""
    try:
        failures.failed(event_type, found, error)
    except SoftTimeLimit:
        raise
    except Exception:  # noqa: S110 - a logging handler of the host's raised: counted, nobody to tell
        pass


_usual: tuple[type, str] = (type(None), "")
"""The last class that sent a state change, which is the engine's, and its name."""


def _sender_name(sender: Any) -> str | None:
    global _usual
    if sender is None:
        return None
    kind = sender if isinstance(sender, type) else type(sender)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind is sender:
        _usual = kind, name
    return name


def _unreadable(error: Exception) -> list[Note]:
    """The payload fights back; the event is recorded all the same, without ids."""
    return [{"path": "ids", "was": "unreadable", "lost": describe(error)}]


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
