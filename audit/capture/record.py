"""A record before it is stored: what happened, encoded, with ids, context and number."""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from audit.capture import context, redact
from audit.capture.encode import Note, encode
from audit.capture.ids import MAX_ID, Ids
from audit.capture.text import clean_text
from audit.capture.writer import Stamp, host

_OWN: Final = frozenset({"host", "pid", "sender", "changed", "redacted"})
"""Keys of a record's context that only the recorder writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One event, ready for the log: a row without what the database adds (id, recorded_at)."""

    event_type: str
    ids: Ids
    data: bytes
    context: bytes
    occurred_at: datetime.datetime
    writer_id: uuid.UUID
    writer_position: int


def make(
    event_type: str,
    data: Any,
    *,
    ids: Ids,
    stamp: Stamp,
    secrets: Collection[str],
    sender: str | None = None,
    notes: Sequence[Note] = (),
    with_context: bool = True,
) -> Record:
    """Encode an event at once: the engine's payloads are live objects that it goes on changing.

    ``notes``: what the caller had to change. ``with_context=False``: of nobody's doing.
    """
    encoded, changed = encode(data)
    changed += notes
    encoded, hidden = redact.redact(encoded, secrets)
    about = _said(secrets, changed, hidden) if with_context else {}
    about |= {"host": host(), "pid": os.getpid()}
    if sender is not None:
        about["sender"] = sender
    if changed:
        about["changed"] = changed
    if hidden:
        about["redacted"] = hidden
    return Record(
        event_type=clean_text(event_type)[:MAX_ID],
        ids=ids,
        data=encoded,
        context=encode(about)[0],
        occurred_at=stamp.occurred_at,
        writer_id=stamp.writer_id,
        writer_position=stamp.position,
    )


def _said(secrets: Collection[str], changed: list[Note], hidden: list[str]) -> dict[str, Any]:
    """What ``audit.context`` says, as plain values; adds to the two lists what became of it."""
    said = context.current()
    if not said:  # most records: a worker acts for nobody
        return {}
    encoded, notes = encode({key: value for key, value in said.items() if key not in _OWN})
    encoded, paths = redact.redact(encoded, secrets)
    changed += [{**note, "path": f"context{note['path'][1:]}"} for note in notes]
    hidden += [f"context{path[1:]}" for path in paths]
    plain: dict[str, Any] = orjson.loads(encoded) or {}
    if "actor" in plain:
        plain["actor"] = _actor(plain["actor"], changed)
    return plain


def _actor(actor: Any, changed: list[Note]) -> str:
    """The actor as the log's index takes it: text, and no longer than an id."""
    text = actor if isinstance(actor, str) else orjson.dumps(actor).decode()
    if text is not actor:
        changed.append({"path": "context.actor", "was": type(actor).__name__})
    elif len(text) > MAX_ID:
        changed.append({"path": "context.actor", "was": f"text of {len(text):,} characters"})
    return text[:MAX_ID]
