"""Append records to the log, one transaction or savepoint each (``DELIVERY = "inline"``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.db import connections, transaction
from django.db.utils import IntegrityError, InterfaceError, OperationalError
from psycopg import ClientCursor

from audit import conf
from audit.capture.record import Record
from audit.exceptions import OutcomeUnknown
from audit.log.errors import sqlstate, translated
from audit.sql import queries

NO_PARTITION: Final = "23514"  # check_violation: "no partition of relation found for row"
TOP_UP_EVERY: Final = 65_536
"""Positions between two looks at whether partitions are ahead: one takes 4 ms, so 60 ns each."""


def append(record: Record, *, using: str, timeout: float) -> int:
    """Append one record and answer its position.

    Inside a transaction of the caller's it is a savepoint, so that a failure leaves that
    transaction as it was; it shares the transaction's fate. Otherwise a transaction of its
    own. ``timeout``: seconds that any of its statements may take.

    Raises:
        LogUnavailable: no connection, no table, or no answer in time.
        RecordRefused: the database does not take this record.
    """
    with translated(using):
        try:
            position = _insert(record, using, timeout)
        except IntegrityError as error:
            if sqlstate(error) != NO_PARTITION:
                raise
            create_partitions(using)
            position = _insert(record, using, timeout)
        if position % TOP_UP_EVERY == 0:
            create_partitions(using)
        return position


def _insert(record: Record, using: str, timeout: float) -> int:
    connection = connections[using]
    nested = connection.in_atomic_block
    position = None
    try:
        with transaction.atomic(using=using), connection.cursor() as cursor:
            # Bound here, because several statements fit into one message only without parameters.
            bound = ClientCursor(connection.connection).mogrify(
                queries()["append_record"], _parameters(record, timeout)
            )
            cursor.execute(bound)
            cursor.nextset()
            (position,) = cursor.fetchone()
    except (OperationalError, InterfaceError) as error:
        if position is not None and not nested:
            raise OutcomeUnknown from error
        raise
    return int(position)


def _parameters(record: Record, timeout: float) -> dict[str, Any]:
    return {
        "timeout": str(int(timeout * 1000)),
        "event_type": record.event_type,
        "root_pipeline_id": record.ids.root_pipeline_id,
        "pipeline_id": record.ids.pipeline_id,
        "node_id": record.ids.node_id,
        "node_version": record.ids.node_version,
        "data": record.data.decode(),
        "context": record.context.decode(),
        "occurred_at": record.occurred_at,
        "writer_id": record.writer_id,
        "writer_position": record.writer_position,
    }


def create_partitions(using: str) -> list[str]:
    """Make the partitions that are to be ahead; answers the names of the new ones."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            queries()["create_partitions"],
            {"size": conf.get("PARTITION_SIZE"), "ahead": conf.get("PARTITIONS_AHEAD")},
        )
        return [name for (name,) in cursor.fetchall()]


def in_transaction(using: str) -> bool:
    """Whether what is appended now shares the fate of a transaction of the caller's."""
    return connections[using].in_atomic_block


def after_commit(using: str, action: Callable[[], None]) -> None:
    """Do something when the caller's transaction has been committed, and only then."""
    transaction.on_commit(action, using=using)


def open_connection(using: str) -> object | None:
    """This thread's open connection to the log's database, to be recognised later."""
    found: object | None = connections[using].connection
    return found


def was_broken(using: str, used: object) -> bool:
    """After a failure: whether ``used`` no longer reaches the server, so that a new one may."""
    connection = connections[using]
    if connection.in_atomic_block:
        return False
    if connection.connection is not used:
        return True  # Django noticed when it rolled back, and has opened a new one already
    if connection.is_usable():
        return False
    connection.close()
    return True
