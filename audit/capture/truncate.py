"""What is kept of an event that is larger than ``MAX_EVENT_BYTES``.

Its beginning, how long it was, a digest, its ids, and of a tree the outline. All of it after
redaction: a digest of a text with a secret in it would let the secret be guessed.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson

from audit.capture import outline
from audit.capture.encode import Note, encode
from audit.capture.ids import MAX_ID
from audit.capture.redact import redact
from audit.capture.text import clean_text

MAX_HEAD: Final = 64 << 10
_PIECE: Final = 2_047
"""hashlib gives up the GIL for more bytes than this at a time."""
_ID_KEYS: Final = (
    *("root_pipeline_id", "pipeline_id", "node_id", "root_id", "parent_id"),
    *("version", "old_version", "new_version", "flow_id", "converge_gateway_id", "to_state"),
)


def truncated(
    event_type: str,
    data: Any,
    encoded: bytes,
    whole: bool,
    most: int,
    secrets: tuple[str, ...],
) -> tuple[bytes, Note, list[str]]:
    """The JSON that is kept of ``encoded``, a note, and the paths of what was hidden in it.

    ``data``: the event's own, for its ids and its tree. ``whole``: ``encoded`` is all of it;
    else it was too much to be looked through, and neither its length nor its digest is known.
    """
    front = {
        "truncated": True,
        "bytes": len(encoded) if whole else None,
        "sha256": _sha256(encoded) if whole else None,
        "head": encoded[: min(MAX_HEAD, most // 8)].decode("utf-8", "ignore"),
    }
    kept: dict[str, Any] = {}
    for key in _ID_KEYS:
        value = outline.member(data, key)
        if type(value) is str:
            kept[key] = clean_text(value[:MAX_ID])
    if event_type in outline.EVENTS:
        kept["pipeline"] = outline.of_tree(outline.member(data, "pipeline"), most // 2)
    about, hidden = redact(encode(kept)[0], secrets)
    if len(about) > most * 5 // 8:  # names of control characters, which take six bytes each
        del kept["pipeline"]
        about, hidden = redact(encode(kept)[0], secrets)
    text = orjson.dumps(front)
    if about != b"{}":
        text = text[:-1] + b"," + about[1:]
    was = f"{len(encoded):,} bytes" if whole else "too much to be looked through"
    return text, {"path": "$", "was": was}, hidden


def _sha256(text: bytes) -> str:
    # Another thread that computes would keep the GIL for 5 ms once it was given up.
    digest = hashlib.sha256()
    for begin in range(0, len(text), _PIECE):
        digest.update(text[begin : begin + _PIECE])
    return digest.hexdigest()
