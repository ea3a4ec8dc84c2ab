"""A connection of our own to the log's database, for whoever works beside the host's threads.

Not Django's: that one belongs to a thread, joins the host's transactions, and keeps state in the
session. This one keeps none, so that it works through PgBouncer in transaction mode.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import tuple_row

from audit.exceptions import FenceMoved, LogUnavailable, NoPartition, RecordRefused
from audit.log import forks
from audit.sql import queries

_PATIENCE: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What a host did not set itself: seconds, and for the last one milliseconds."""
_FENCE: Final = "BA001"  # see bamboo_audit_advance
_NO_PARTITION: Final = "23514"
_REFUSALS: Final = ("22", "23", "54")
"""Classes of errors that are the data's: sending the same once more will not work."""


class Link:
    """Opened when it is needed, and again after it broke. For one thread at a time."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """A cursor in a transaction of its own: committed at the end, rolled back on an error.

        Raises:
            LogUnavailable: no connection, no log, or it broke; whether it was committed may
                not be known.
            RecordRefused: the database does not take what was sent.
            NoPartition: the positions have run past the last partition.
            FenceMoved: a writer was not where the sender expected it.
        """
        with self._errors():
            connection = self._open()
            with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
                if role := self._role():
                    cursor.execute(queries()["assume_role"], {"role": role})
                yield cursor

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ConnectionDoesNotExist as error:
            raise LogUnavailable(
                f"The log in database {self.using!r} cannot be reached: DATABASES has no such "
                "entry."
            ) from error
        except psycopg.Error as error:
            raise self._ours(error) from error
        finally:
            if self._connection is not None and self._connection.broken:
                self.close()

    def rows(self, query: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        """All rows of a named query, in a transaction of its own; none where it answers none."""
        with self.transaction() as cursor:
            cursor.execute(queries()[query], parameters)
            return cursor.fetchall() if cursor.description else []

    def copy(self, query: str, parameters: dict[str, Any], rows: Sequence[bytes]) -> None:
        """Run a named query and append rows, in one transaction.

        One message, then the rows, then one answer: each time that a thread waits in between it
        has to get the GIL back, which takes 5 ms beside a thread that computes. The cursor's ways
        have some fifty such waits for each batch: there a batch took 200 ms, and the engine's
        thread 17 % longer for its work. Under gevent, where all that would block the hub, the
        cursor's ways are taken.

        Raises:
            as ``transaction``.
        """
        if forks.wait_by_greenlets():
            with self.transaction() as cursor:
                cursor.execute(queries()[query], parameters)
                with cursor.copy(queries()["append_rows"]) as copy:
                    copy.write(b"".join(rows))
            return
        with self._errors():
            connection = self._open()
            bind = psycopg.ClientCursor(connection).mogrify
            statements = [bind(queries()[query], parameters), queries()["append_rows"]]
            if role := self._role():
                statements.insert(0, bind(queries()["assume_role"], {"role": role}))
            try:
                _copy(connection.pgconn, ";\n".join(statements).encode(), rows)
            except BaseException:
                if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                    self.close()  # cut off in the middle
                raise

    def close(self) -> None:
        """Close the connection, if there is one; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def leave_to_parent(self) -> None:
        """In a forked child: the connection is the parent's."""
        connection, self._connection = self._connection, None
        if connection is not None:
            forks.leave_to_parent(connection)

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def _role(self) -> str | None:
        """The role that Django is to assume, for hosts that connect as one that may."""
        options = connections[self.using].settings_dict.get("OPTIONS") or {}
        return options.get("assume_role")

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            wrapper = connections[self.using]
            if wrapper.vendor != "postgresql":
                raise LogUnavailable(
                    f"The log in database {self.using!r} cannot be reached: that is "
                    f"{wrapper.vendor}, and the log needs PostgreSQL."
                )
            parameters = {**_PATIENCE, **wrapper.get_connection_params()}
            # PgBouncer hands each transaction to another session: nothing is prepared in one.
            parameters["prepare_threshold"] = None
            parameters.pop("cursor_factory", None)
            parameters.setdefault("application_name", "bamboo-audit")
            parameters["autocommit"] = True
            self._connection = forks.connected(
                lambda: psycopg.connect(**parameters), psycopg.Connection.close
            )
        if self._connection is None:
            raise LogUnavailable(
                f"The log in database {self.using!r} cannot be reached: this process forks all "
                "the time."
            )
        return self._connection

    def _ours(self, error: psycopg.Error) -> Exception:
        state = error.sqlstate or ""
        where = f"The log in database {self.using!r}"
        if state == _FENCE:
            return FenceMoved(f"{where} has writers elsewhere than expected: {error}")
        if state == _NO_PARTITION and "no partition" in str(error):
            return NoPartition(f"{where} has no partition for the next position.")
        if state.startswith(_REFUSALS):
            return RecordRefused(f"{where} refused the record: {error}")
        if state in ("42P01", "42883"):
            return LogUnavailable(
                f"{where} is not migrated. Run: manage.py migrate bamboo_audit --database "
                f"{self.using}"
            )
        return LogUnavailable(f"{where} cannot be reached: {error}")


def _copy(pgconn: PGconn, statements: bytes, rows: Sequence[bytes]) -> None:
    """Statements that end in a COPY from here, as one implicit transaction, and its rows."""
    result = pgconn.exec_(statements)
    if result.status != ExecStatus.COPY_IN:
        raise psycopg.errors.error_from_result(result)
    for piece in rows:
        if pgconn.put_copy_data(piece) != 1:
            raise psycopg.OperationalError("there is no memory for the rows")
    pgconn.put_copy_end()
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
    while pgconn.flush():
        poll.poll()
        pgconn.consume_input()
    poll.modify(pgconn.socket, select.POLLIN)
    while True:
        while pgconn.is_busy():
            poll.poll()
            pgconn.consume_input()
        answer = pgconn.get_result()
        if answer is None:
            return
        if answer.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(answer)
