"""The receivers: from the engine's signals to the log, and never an exception back.

The engine calls them synchronously, with ``send`` and not ``send_robust``: whatever they raise
leaves pipelines stuck, fails nodes, or makes the engine send its task again without end.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from typing import Any, Final

from django.apps import apps
from django.db import router
from django.dispatch import Signal

from audit import conf
from audit.capture import ids, record
from audit.capture.failures import failures
from audit.capture.ids import Ids
from audit.capture.writer import writer
from audit.events import GAP, POST_SET_STATE
from audit.exceptions import LogUnavailable, OutcomeUnknown, SoftTimeLimit
from audit.log import append

EVENT_UID: Final = "bamboo_audit.pipeline_event"
STATE_UID: Final = "bamboo_audit.post_set_state"
ENGINE_SENDER: Final = "pipeline.eri.models.State"

PAUSE_AFTER: Final = 0.05
"""A failure that took longer than this many seconds makes the log rest, ..."""
PAUSE_FACTOR: Final = 10.0
"""... this many times as long, so that a sick database takes a tenth of the engine's time, ..."""
PAUSE_MOST: Final = 30.0
"""... and no longer than this."""


def on_pipeline_event(sender: Any = None, event: Any = None, **_: Any) -> None:
    """Receiver of ``pipeline.eri.signals.pipeline_event``."""
    event_type, found = "?", None
    try:
        event_type = str(getattr(event, "event_type", None) or "unknown")
        data = getattr(event, "data", None)
        # Ids first, whatever is recorded: the tree that says where nodes stand comes once.
        found = ids.of_pipeline_event(event_type, data)
        _deliver(event_type, data, found, None)
    except SoftTimeLimit:
        raise
    except Exception as error:
        _report(event_type, found, error)


def on_post_set_state(sender: Any = None, **values: Any) -> None:
    """Receiver of ``pipeline.eri.signals.post_set_state``; keeps who sent it."""
    found = None
    try:
        data = {key: value for key, value in values.items() if key != "signal"}
        name = _sender_name(sender)
        found = ids.of_state_change(data, from_engine=name == ENGINE_SENDER)
        if conf.get("RECORD_STATE_CHANGES"):
            _deliver(POST_SET_STATE, data, found, name)
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


def _deliver(event_type: str, data: Any, found: Ids, sender: str | None) -> None:
    if conf.get("DELIVERY") == "off" or event_type in conf.get("EXCLUDE_EVENTS"):
        return
    if not conf.enabled():
        failures.missed(event_type, "switched off")
        return
    if _rest.is_on():
        failures.missed(event_type, "log resting")
        return
    # The number is drawn before anything can fail, so that a failure leaves a visible hole.
    made = record.make(
        event_type,
        data,
        ids=found,
        stamp=writer.stamp(),
        secrets=conf.get("REDACT"),
        sender=sender,
    )
    if failures.pending:
        using = conf.get("DATABASE")
        if append.in_transaction(using):
            # Told in there, it would be gone with a rollback, and nobody would know of it.
            append.after_commit(using, _tell_gap_after_commit)
        else:
            _tell_gap()
    _append(made)


def _tell_gap_after_commit() -> None:
    try:
        if failures.pending:
            _tell_gap()
    except SoftTimeLimit:
        raise
    except Exception:  # noqa: S110 - it was given back; the next record tries again
        pass


def _tell_gap() -> None:
    """What was missed before goes into the log before what comes next."""
    gap, stamp = failures.take(), writer.stamp()
    try:
        _append(record.make(GAP, gap.as_data(), ids=Ids(), stamp=stamp, secrets=()))
    except OutcomeUnknown:
        raise  # it may be in the log: telling it again would count it twice
    except BaseException:
        failures.give_back(gap)
        writer.give_back(stamp)
        raise


def _append(made: record.Record) -> None:
    using, timeout = conf.get("DATABASE"), conf.get("INLINE_TIMEOUT")
    began = time.monotonic()
    try:
        used = append.open_connection(using)
        try:
            append.append(made, using=using, timeout=timeout)
        except OutcomeUnknown:
            raise
        except LogUnavailable:
            # The server was restarted under an idle connection. On the engine's own connection
            # the engine decides what follows; on ours one new connection is worth a try.
            shared = using == engine_database()
            if shared or used is None or not append.was_broken(using, used):
                raise
            append.append(made, using=using, timeout=timeout)
    except Exception:
        _rest.after(time.monotonic() - began)
        raise


class _Rest:
    """Keeps a slow, failing log from taking the engine's time: rest ten times what it took."""

    def __init__(self) -> None:
        self.until = 0.0

    def is_on(self) -> bool:
        return time.monotonic() < self.until

    def after(self, seconds: float) -> None:
        if seconds >= PAUSE_AFTER:
            self.until = time.monotonic() + min(seconds * PAUSE_FACTOR, PAUSE_MOST)


_rest: Final = _Rest()


def engine_database() -> str | None:
    """Alias of the database that the engine writes its states to; None without an engine."""
    try:
        state = apps.get_model("eri", "State")  # type: ignore[misc]  # not always there
    except LookupError:
        return None
    return router.db_for_write(state)


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
