"""Rows that the database refuses: exactly those are set aside, and told in their place."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson

from audit.capture import row
from audit.exceptions import RecordRefused
from audit.log import ship
from audit.log.link import Link
from audit.log.ship import Step

logger = logging.getLogger("audit")

FILE: Final = "refused.jsonl"
HEAD: Final = 65_536
"""Characters of a refused payload that are recorded, as text, in its place."""


def append(
    link: Link,
    rows: Sequence[bytes],
    steps: Sequence[Step],
    error: RecordRefused,
    path: Path | None,
) -> None:
    """Append a batch that was refused, with what could be wrong replaced.

    The whole payload of a refused record is kept in ``refused.jsonl`` beside the segments.
    """
    parsed = [row.parse(each) for each in rows]
    documents = [
        (each.record.data.decode(errors="replace"), each.record.context.decode(errors="replace"))
        for each in parsed
    ]
    why = ship.refusals(link, documents)
    if why:
        try:
            _append(link, rows, steps, why, path)
        except RecordRefused as again:
            error = again
        else:
            return
    _one_by_one(link, rows, steps, error, path)


def _one_by_one(
    link: Link,
    rows: Sequence[bytes],
    steps: Sequence[Step],
    error: RecordRefused,
    path: Path | None,
) -> None:
    """Find by halves what nothing tells of: the row that is refused whatever its documents are.

    Everything is one transaction in the end: the steps are of the whole batch.
    """
    _append(link, rows, steps, dict.fromkeys(_bad(link, rows), str(error)), path)


def _append(
    link: Link,
    rows: Sequence[bytes],
    steps: Sequence[Step],
    why: Mapping[int, str],
    path: Path | None,
) -> None:
    """Append with the refused rows replaced; told and kept once that has succeeded."""
    mended = list(rows)
    for index, reason in why.items():
        mended[index] = _in_its_place(row.parse(rows[index]), reason)
    ship.append(link, mended, steps)
    for index, reason in why.items():
        _tell(row.parse(rows[index]), reason, path)


def _bad(link: Link, rows: Sequence[bytes]) -> list[int]:
    bad = []
    todo = [range(len(rows))]
    while todo:
        part = todo.pop()
        if ship.would_take(link, [rows[index] for index in part]):
            continue
        if len(part) == 1:
            bad.append(part[0])
            continue
        middle = len(part) // 2
        todo += [part[:middle], part[middle:]]
    return bad


def _tell(found: row.Row, why: str, path: Path | None) -> None:
    logger.error(
        "bamboo-audit: the log's database refused the payload of %s (writer %s, number %d): %s "
        "Its text is recorded in its place, and kept whole in %s.",
        found.record.event_type,
        found.writer_id,
        found.writer_position,
        why,
        path / FILE if path is not None else "no file, since there is no spool folder",
    )
    if path is not None:
        _keep(found, why, path / FILE)


def _in_its_place(found: row.Row, why: str) -> bytes:
    """The row that says of a refused one what it was."""
    made = found.record
    told = {
        "refused": why[:1_000],
        "bytes": len(made.data),
        "sha256": hashlib.sha256(made.data).hexdigest(),
        "text": made.data.decode(errors="replace")[:HEAD].replace("\0", "␀"),
    }
    context = {"changed": [{"path": "$", "was": "refused by the database"}]}
    return row.build(
        found._replace(record=made._replace(data=orjson.dumps(told), context=orjson.dumps(context)))
    )


def _keep(found: row.Row, why: str, path: Path) -> None:
    line = orjson.dumps(
        {
            "writer_id": str(found.writer_id),
            "writer_position": found.writer_position,
            "occurred_at": found.occurred_at,
            "event_type": found.record.event_type,
            "ids": found.record.ids._asdict(),
            "why": why,
            "data": found.record.data.decode(errors="replace"),
            "context": found.record.context.decode(errors="replace"),
        }
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, line + b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        logger.error("bamboo-audit could not keep a refused payload in %s: %s", path, error)
