"""Delivery: where a record goes from the engine's thread."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from audit import conf
from audit.capture import context, record, tags
from audit.capture.encode import Note
from audit.capture.failures import failures
from audit.capture.ids import Ids
from audit.capture.sampling import Suppressed, polls
from audit.delivery import inline, spooled
from audit.events import POLLS_SUPPRESSED, POST_SET_STATE, PRE_PREPARE
from audit.exceptions import LogUnavailable, SoftTimeLimit
from audit.shipping.background import background

_TOLD_AT_ONCE: Final = 10
"""Records of suppressed polls that one event's thread writes beside its own."""


def deliver(
    event_type: str, data: Any, found: Ids, sender: str | None, notes: Sequence[Note]
) -> None:
    """Record one event, unless the settings say otherwise; count it where it is not.

    Raises:
        AuditError: it could not be kept. So does whatever else goes wrong.
    """
    settings = conf.current()
    delivery = settings["DELIVERY"]
    if delivery == "off" or event_type in settings["EXCLUDE_EVENTS"]:
        return
    if event_type == POST_SET_STATE and not settings["RECORD_STATE_CHANGES"]:
        return
    if settings["ENABLED"] is not True and not conf.enabled(settings):
        failures.missed(event_type, "switched off")
        return
    suppressed, kept = None, False
    if settings["POLL_SAMPLING"] is not None or polls.waiting:
        if polls.skips(event_type, data, found, settings["POLL_SAMPLING"]):
            spooled.not_recorded(event_type, found.node_id)
            return
        suppressed = polls.take(found.node_id)
    own = None
    try:
        if event_type == PRE_PREPARE or event_type in settings["REQUIRE_REASON"]:
            own, unreadable = _own(event_type, data, settings)
            notes = [*notes, *unreadable]
        if suppressed is not None:
            own = {**(own or {}), "suppressed": suppressed.as_context()}
        secrets = settings["REDACT"]
        if delivery == "spool":
            made = record.make(event_type, data, found, secrets, sender, notes, own=own)
            spooled.deliver(made, data)
            kept = True
        else:
            kept = inline.deliver(event_type, data, found, secrets, sender, notes, own)
    except BaseException as interruption:
        failures.interrupted(event_type, interruption)  # what is ordinary, whoever catches it
        raise
    finally:
        if suppressed is not None and not kept:
            polls.give_back(suppressed)
    if polls.waiting and polls.is_due():
        tell_suppressed(time.monotonic(), _TOLD_AT_ONCE)


def tell_suppressed(now: float, most: int | None = None) -> bool:
    """Record the polls that were not recorded and that no record of their node has told.

    ``now``: ``time.monotonic()``, or infinity for all, as at the end of the process. What cannot
    be told is kept for later; False then.
    """
    settings = conf.current()
    if settings["DELIVERY"] == "off" or not conf.enabled(settings):
        return False
    todo = polls.leftovers(now, most)
    if POLLS_SUPPRESSED in settings["EXCLUDE_EVENTS"]:
        return True
    told = 0
    try:
        for counts in todo:
            _tell(counts, settings["DELIVERY"])
            told += 1
    except SoftTimeLimit:
        raise
    except Exception:
        return False
    finally:
        if told < len(todo):
            for counts in todo[told:]:
                polls.give_back(counts)
            polls.put_off()
    return True


def _tell(counts: Suppressed, delivery: str) -> None:
    # Other ids than those of the poll: these are no longer of an event that says nothing else.
    data, found = counts.as_data(), Ids(*counts.ids)
    if delivery == "spool":
        spooled.deliver(record.make(POLLS_SUPPRESSED, data, found, (), with_context=False), data)
    elif not inline.deliver(POLLS_SUPPRESSED, data, found, (), None, (), None, with_context=False):
        raise LogUnavailable


def _own(
    event_type: str, data: Any, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Note]]:
    """What the recorder adds to the context of this one record."""
    own: dict[str, Any] = {}
    notes: list[Note] = []
    if event_type == PRE_PREPARE and settings["RUN_TAGS"]:
        own["tags"], notes = tags.of_run(data, settings["RUN_TAGS"])
    if event_type in settings["REQUIRE_REASON"] and not context.current().gives_a_reason():
        own["reason_missing"] = True
    return own, notes


def _tell_rest(now: float) -> None:
    """What was counted and is not told yet, for the thread beside the engine's and at exit."""
    if polls.waiting:
        tell_suppressed(now)
    if failures.pending and conf.get("DELIVERY") == "spool":
        spooled.tell_gap()


background.chores.append(_tell_rest)
