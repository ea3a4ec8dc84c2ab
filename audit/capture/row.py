"""A record as the row that PostgreSQL's binary COPY takes, made once, on the engine's thread.

Whoever ships it sends these bytes as they are; numbers and time stand at fixed places in front.
The format: https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format").
"""

from __future__ import annotations

import datetime
import struct
import uuid
from typing import Final, NamedTuple

from audit.capture.ids import Ids
from audit.capture.record import Record

COLUMNS: Final = (
    "occurred_at",
    "writer_position",
    "writer_id",
    "event_type",
    "root_pipeline_id",
    "pipeline_id",
    "node_id",
    "node_version",
    "data",
    "context",
)
FILE_BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
FILE_END: Final = b"\xff\xff"

_EPOCH: Final = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000-01-01, Python from 1970-01-01."""
JSONB: Final = 1  # the version of jsonb's binary form
_FRONT: Final = struct.Struct(">hiqiqi16s")
FRONT_BYTES: Final = _FRONT.size
_pack_front: Final = _FRONT.pack
_COUNT: Final = len(COLUMNS)
_TIME: Final = struct.Struct(">q")
_TIME_AT: Final = 6
_LENGTH: Final = struct.Struct(">i")
pack_length: Final = _LENGTH.pack
pack_json: Final = struct.Struct(">ib").pack


def front(occurred_us: int, position: int, writer_id: bytes) -> bytes:
    """The first three columns. ``occurred_us``: microseconds since 1970 (UTC)."""
    return _pack_front(_COUNT, 8, occurred_us - _EPOCH, 8, position, 16, writer_id)


def rest(record: Record) -> bytes:
    """The other columns."""
    name = record.event_type.encode()
    context = record.context
    return b"".join(
        (
            pack_length(len(name)),
            name,
            ids_and_data(record.ids, record.data),
            pack_json(len(context) + 1, JSONB),
            context,
        )
    )


def ids_and_data(ids: Ids, data: bytes) -> bytes:
    """The columns between the event's type and its context."""
    root, pipeline, node, version = ids
    length = pack_length
    return b"".join(
        (
            *(length(len(text := root.encode())), text),
            *(length(len(text := pipeline.encode())), text),
            *(length(len(text := node.encode())), text),
            *(length(len(text := version.encode())), text),
            pack_json(len(data) + 1, JSONB),
            data,
        )
    )


def occurred_us(row: bytes) -> int:
    """When, in microseconds since 1970 (UTC), as the writer's clock had it."""
    (since,) = _TIME.unpack_from(row, _TIME_AT)
    return int(since) + _EPOCH


def at_time(row: bytes, us: int) -> bytes:
    """The same row at another time."""
    return b"%b%b%b" % (row[:_TIME_AT], _TIME.pack(us - _EPOCH), row[_TIME_AT + 8 :])


def split(rows: bytes) -> list[bytes]:
    """Rows that lie side by side, one by one."""
    found, at = [], 0
    while at < len(rows):
        began = at
        at += _FRONT.size
        for _ in range(_COUNT - 3):
            (length,) = _LENGTH.unpack_from(rows, at)
            at += 4 + length
        found.append(rows[began:at])
    return found


class Row(NamedTuple):
    """A row taken apart again."""

    occurred_at: datetime.datetime
    writer_position: int
    writer_id: uuid.UUID
    record: Record


def parse(row: bytes) -> Row:
    """Take a row apart; the slow way, for the few that somebody has to look into."""
    _, _, since, _, position, _, writer_id = _FRONT.unpack_from(row)
    at, fields = _FRONT.size, []
    for _ in range(len(COLUMNS) - 3):
        (length,) = _LENGTH.unpack_from(row, at)
        fields.append(row[at + 4 : at + 4 + length])
        at += 4 + length
    event_type, root, pipeline, node, version = (field.decode() for field in fields[:5])
    return Row(
        datetime.datetime.fromtimestamp(0, datetime.UTC)
        + datetime.timedelta(microseconds=since + _EPOCH),
        position,
        uuid.UUID(bytes=writer_id),
        Record(event_type, Ids(root, pipeline, node, version), fields[5][1:], fields[6][1:]),
    )


def build(row: Row) -> bytes:
    """The row as bytes again."""
    since_1970 = row.occurred_at - datetime.datetime.fromtimestamp(0, datetime.UTC)
    us = since_1970 // datetime.timedelta(microseconds=1)
    return front(us, row.writer_position, row.writer_id.bytes) + rest(row.record)
