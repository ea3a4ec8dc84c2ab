"""A record before it is stored: what happened, encoded, with ids and context."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from audit import conf
from audit.capture import context, outline, redact
from audit.capture.encode import Note, encode, encode_within, limits_of
from audit.capture.ids import MAX_ID, Ids
from audit.capture.text import clean_text
from audit.capture.truncate import truncated
from audit.capture.writer import host, process_kind
from audit.events import GAP, VOCABULARY
from audit.exceptions import SoftTimeLimit

_UNKNOWN: Final[context.Encoded] = (None, None, b"")
_NONE: Final[Sequence[str]] = ()
_NO_NOTES: Final[Sequence[Note]] = ()
_FLAT: Final = frozenset({int, bool, type(None)})
_MAX_FLAT: Final = 32
"""Members of what is flat, ..."""
_MAX_TEXT: Final = 1_000
"""... characters of each, ..."""
_MAX_BYTES: Final = 16 << 10
"""... and bytes as JSON: no MAX_EVENT_BYTES is smaller."""


process = object()
"""This process, which what was encoded before a fork is not of."""


def _after_fork() -> None:
    global process
    process = object()


os.register_at_fork(after_in_child=_after_fork)


class Record(NamedTuple):
    """One event, ready for the log, before a writer gives it its number and time.

    A tuple: it is made for every event, and a frozen dataclass takes four times as long.
    """

    event_type: str
    ids: Ids
    data: bytes
    context: bytes


def make(
    event_type: str,
    data: Any,
    ids: Ids,
    secrets: tuple[str, ...],
    sender: str | None = None,
    notes: Sequence[Note] = (),
    *,
    own: Mapping[str, Any] | None = None,
    with_context: bool = True,
) -> Record:
    """Encode an event at once: the engine's payloads are live objects that it goes on changing.

    ``secrets``: parts of key names (``REDACT``). ``notes``: what the caller had to change.
    ``own``: what the recorder adds to the context of this record.
    ``with_context=False``: of nobody's doing.
    """
    said = context.current() if with_context else context.NOTHING
    changed, hidden = notes, _NONE
    if (plain := flat(data, secrets)) is not None:
        encoded = plain
    else:
        encoded, found, hidden = _any(event_type, data, secrets)
        changed = [*found, *notes]
    if changed or hidden or own:
        about = _about(said, sender, secrets, [*changed], [*hidden], own)
    else:
        # Most records: all that happens inside a block, or in a worker, has the same context.
        known_secrets, known_process, about = said.encoded.get(sender, _UNKNOWN)
        if known_secrets is not secrets or known_process is not process:
            lasts = said.settle()
            about = _about(said, sender, secrets, [], [])
            if lasts:
                said.encoded[sender] = (secrets, process, about)
    if event_type not in VOCABULARY:
        event_type = clean_text(event_type)[:MAX_ID]
    return Record(event_type, ids, encoded, about)


def of_gap(data: dict[str, Any]) -> Record:
    """A ``gap`` record: of nobody's doing, and without secrets to look for."""
    return make(GAP, data, ids=Ids(), secrets=(), with_context=False)


def flat(data: Any, secrets: tuple[str, ...]) -> bytes | None:
    """A flat dict of plain short values that hides nothing, as JSON; None where that is not sure.

    Nine events out of ten are one. What would have to be looked for in others cannot be there:
    text that is JSON itself has quotes, which are spelled with a backslash, and so is NUL.
    """
    if type(data) is not dict or len(data) > _MAX_FLAT:
        return None
    for value in data.values():
        kind = type(value)
        if kind is str:
            if len(value) > _MAX_TEXT:
                return None
        elif kind not in _FLAT:
            return None
    try:
        if not redact.tell_nothing(tuple(data), secrets):
            return None
        encoded = orjson.dumps(data)
    except SoftTimeLimit:
        raise
    except Exception:  # lone surrogates, integers over 64 bit, keys that fight back
        return None
    return None if b"\\" in encoded or len(encoded) > _MAX_BYTES else encoded


_MAX_TREE: Final = 256 << 10
_clean: tuple[bytes, tuple[str, ...]] = (b"", ())
"""The last tree that was looked through for secrets and had none, if it is not larger than that,
and what was looked for: the second event of a run carries the same tree as the first."""


def _any(
    event_type: str, data: Any, secrets: tuple[str, ...]
) -> tuple[bytes, Sequence[Note], Sequence[str]]:
    """Any payload as JSON without secrets and within the limits; what was changed and hidden."""
    settings = conf.current()
    most: int = settings["MAX_EVENT_BYTES"]
    shown, notes = data, _NO_NOTES
    if event_type in outline.EVENTS and settings["TREES"] == "outline":
        shown, notes = outline.of_event(data, most // 2)
    encoded, changed, whole = encode_within(shown, limits_of(most))
    encoded, hidden = _redacted(event_type, encoded, secrets)
    if notes:
        changed = [*notes, *changed]
    if len(encoded) > most or not whole:
        encoded, note, hidden_there = truncated(event_type, data, encoded, whole, most, secrets)
        changed = [note, *changed]
        hidden = [*hidden, *hidden_there]
    return encoded, changed, hidden


def _redacted(
    event_type: str, encoded: bytes, secrets: tuple[str, ...]
) -> tuple[bytes, Sequence[str]]:
    global _clean
    clean, of = _clean
    if of is secrets and clean == encoded:
        return encoded, _NONE
    found, hidden = redact.redact(encoded, secrets)
    if event_type in outline.EVENTS and not hidden and len(found) <= _MAX_TREE:
        _clean = found, secrets
    return found, hidden


def _about(
    said: context.Said,
    sender: str | None,
    secrets: tuple[str, ...],
    changed: list[Note],
    hidden: list[str],
    own: Mapping[str, Any] | None = None,
) -> bytes:
    about = _plainly(said, secrets, changed, hidden, own)
    about |= {"kind": process_kind() if said.frame is None else said.frame.kind}
    about |= {"host": host(), "pid": os.getpid()}
    if sender is not None:
        about["sender"] = sender
    if changed:
        about["changed"] = changed
    if hidden:
        about["redacted"] = hidden
    return encode(about)[0]


def _plainly(
    said: context.Said,
    secrets: tuple[str, ...],
    changed: list[Note],
    hidden: list[str],
    own: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Who and why, as plain values; adds to the two lists what became of it."""
    if not said and said.frame is None and not own:  # most records outside of a task
        return {}
    values = {key: value for key, value in said.spoken().items() if key not in context.OWN}
    if said.frame is not None:
        values |= said.frame.about()
        changed += [{**note, "path": f"context.{note['path']}"} for note in said.frame.notes]
    encoded, notes = encode({**values, **(own or {})})
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
