"""Records written by hand, as they are in the log."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable

import orjson
from django.db import connections, transaction
from django.utils import timezone

from audit import conf
from audit.fold import Record

INSERT = """
    INSERT INTO bamboo_audit_pipelineeventrecord (
        occurred_at, writer_id, writer_position, event_type, root_pipeline_id, pipeline_id,
        node_id, node_version, data, context
    ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
SPACE = uuid.UUID("b2f1bb8c-93a1-4a34-8f7d-000000000000")


def writer_id(name: str) -> uuid.UUID:
    """The writer that a record of ``by_hand`` names."""
    return uuid.uuid5(SPACE, name)


def an_hour_ago() -> datetime.datetime:
    return timezone.now().replace(microsecond=0) - datetime.timedelta(hours=1)


def store(
    records: Iterable[Record], root: str = "run", since: datetime.datetime | None = None
) -> datetime.datetime:
    """Append records of a run; their times count from ``since``, which is answered."""
    began = since or an_hour_ago()
    with connections[conf.get("DATABASE")].cursor() as cursor:
        for each in records:
            cursor.execute(
                INSERT,
                (
                    began + datetime.timedelta(microseconds=each.at),
                    *(writer_id(each.writer_id), each.writer_position, each.event_type, root),
                    *(each.pipeline_id, each.node_id, each.node_version),
                    *(orjson.dumps(each.data).decode(), orjson.dumps(each.context).decode()),
                ),
            )
    return began


def moment(began: datetime.datetime, record: Record) -> datetime.datetime:
    """When a stored record occurred."""
    return began + datetime.timedelta(microseconds=record.at)


def empty_log() -> None:
    """Begin with an empty log and empty tables at position 1, whatever other tests have left."""
    using = conf.get("DATABASE")
    with transaction.atomic(using), connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger "
            "WHERE tgrelid IN (SELECT relid FROM pg_partition_tree(%s)) AND tgtype & 32 <> 0",
            ["bamboo_audit_pipelineeventrecord"],
        )
        guards = cursor.fetchall()
        for table, guard in guards:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {guard}")
        cursor.execute("TRUNCATE bamboo_audit_pipelineeventrecord RESTART IDENTITY")
        for table, guard in guards:
            cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {guard}")
        for name in ("pipelinetimeline", "nodetimeline", "statetransition", "recordsetaside"):
            cursor.execute(f"DELETE FROM bamboo_audit_{name}")
        cursor.execute("DELETE FROM bamboo_audit_projectioncheckpoint")
