"""Append records to the log, one transaction or savepoint each (``DELIVERY = "inline"``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.db import connections, transaction
from django.db.utils import IntegrityError, InterfaceError, OperationalError
from psycopg import ClientCursor

from audit import conf
from audit.capture.record import Record
from audit.capture.writer import Stamp
from audit.exceptions import OutcomeUnknown
from audit.log.errors import sqlstate, translated
from audit.sql import queries

NO_PARTITION: Final = "23514"  # check_violation: "no partition of relation found for row"
CREATE_SECONDS: Final = 5.0
"""The most that making partitions may take; it takes some ten milliseconds."""

_inherited: Final[list[object]] = []


def append(record: Record, stamp: Stamp, *, using: str, timeout: float) -> int:
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
            return _insert(_parameters(record, stamp, timeout), using)
        except IntegrityError as error:
            if sqlstate(error) != NO_PARTITION:
                raise
            create_partitions(using)
            return _insert(_parameters(record, stamp, timeout), using)


def _insert(parameters: dict[str, Any], using: str) -> int:
    connection = connections[using]
    nested = connection.in_atomic_block or not connection.get_autocommit()
    doomed = connection.in_atomic_block and connection.get_rollback()
    position = None
    try:
        with transaction.atomic(using=using), connection.cursor() as cursor:
            # Bound here, because several statements fit into one message only without parameters.
            bound = ClientCursor(connection.connection).mogrify(
                queries()["append_record"], {**parameters, "nested": nested}
            )
            cursor.execute(bound)
            cursor.nextset()
            (position,) = cursor.fetchone()
    except (OperationalError, InterfaceError) as error:
        if connection.in_atomic_block and not doomed:
            # Where the connection died, Django would roll the caller's transaction back without
            # a word to it. Left alone, its next statement or COMMIT fails, as without us.
            connection.set_rollback(False)
        if position is not None and not nested:
            raise OutcomeUnknown from error
        raise
    return int(position)


def _parameters(record: Record, stamp: Stamp, timeout: float) -> dict[str, Any]:
    return {
        "timeout": _milliseconds(timeout),
        "event_type": record.event_type,
        "root_pipeline_id": record.ids.root_pipeline_id,
        "pipeline_id": record.ids.pipeline_id,
        "node_id": record.ids.node_id,
        "node_version": record.ids.node_version,
        "data": record.data.decode(),
        "context": record.context.decode(),
        "occurred_at": stamp.occurred_at,
        "writer_id": stamp.writer_id,
        "writer_position": stamp.position,
    }


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def create_partitions(using: str) -> list[str]:
    """Make the partitions that are to be ahead; answers the names of the new ones.

    Inside a transaction of the caller's it is a savepoint, so that a failure leaves that
    transaction as it was.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(queries()["bound_statements"], {"timeout": _milliseconds(CREATE_SECONDS)})
        (before, _) = cursor.fetchone()
        cursor.execute(
            queries()["create_partitions"],
            {"size": conf.get("PARTITION_SIZE"), "ahead": conf.get("PARTITIONS_AHEAD")},
        )
        made = [name for (name,) in cursor.fetchall()]
        cursor.execute(queries()["bound_statements"], {"timeout": before})
        return made


def is_alone(using: str) -> bool:
    """Whether what is appended now is a transaction of its own, not a part of the caller's."""
    connection = connections[using]
    return not connection.in_atomic_block and bool(connection.get_autocommit())


def after_commit(using: str, action: Callable[[], None]) -> None:
    """Do something when the caller's transaction has been committed, and only then.

    Never where the host manages transactions by hand: nobody says when that is.
    """
    if connections[using].in_atomic_block:
        transaction.on_commit(action, using=using)


def leave_to_parent(using: str) -> None:
    """After a fork: open a connection of our own next time, and leave the inherited one alone.

    It is kept, not closed: closing it would end the parent's session.
    """
    for connection in connections.all(initialized_only=True):
        if connection.alias == using and connection.connection is not None:
            _inherited.append(connection)
            del connections[using]


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
