"""A record before it is stored: what happened, encoded, with ids, context and number."""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from audit.capture import context, redact
from audit.capture.encode import clean_text, encode
from audit.capture.ids import MAX_ID, Ids
from audit.capture.writer import Stamp, host


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
) -> Record:
    """Encode an event at once: the engine's payloads are live objects that it goes on changing."""
    encoded, notes = encode(data)
    encoded, redacted = redact.redact(encoded, secrets)
    about: dict[str, Any] = {**context.current(), "host": host(), "pid": os.getpid()}
    if sender is not None:
        about["sender"] = sender
    if notes:
        about["changed"] = notes
    if redacted:
        about["redacted"] = [clean_text(path) for path in redacted]
    encoded_about, _ = redact.redact(encode(about)[0], secrets)
    return Record(
        event_type=clean_text(event_type)[:MAX_ID],
        ids=ids,
        data=encoded,
        context=encoded_about,
        occurred_at=stamp.occurred_at,
        writer_id=stamp.writer_id,
        writer_position=stamp.position,
    )
