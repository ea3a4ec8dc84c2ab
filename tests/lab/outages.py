"""Ways to lose the log for a while, and to have it back. Each is a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from audit.delivery import inline

TABLE = "bamboo_audit_pipelineeventrecord"
ROLE = "bamboo_audit_test_may_not_insert"


@contextmanager
def table_gone(connection: Any) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO gone_{TABLE}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE gone_{TABLE} RENAME TO {TABLE}")


@contextmanager
def table_locked(connection: Any) -> Iterator[None]:
    """Somebody else holds the log: an insert waits until its own time limit."""
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            # An insert without a time limit would wait for as long as its test waits for it.
            cursor.execute("SET idle_in_transaction_session_timeout = '30s'")
            cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        other.close()


@contextmanager
def insert_forbidden(connection: Any) -> Iterator[None]:
    """The role may do all that the engine needs, but not insert into the log."""
    role = f'"{ROLE}_{connection.settings_dict["NAME"]}"'
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role}")
        cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        cursor.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
        cursor.execute(f"REVOKE INSERT ON {TABLE} FROM {role}")
        cursor.execute(f"SET ROLE {role}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


@contextmanager
def another_database(alias: str, **changes: Any) -> Iterator[Any]:
    """Point an alias somewhere else; answers the new connection."""
    before = connections[alias]
    connections[alias] = before.__class__({**before.settings_dict, **changes}, alias)
    try:
        yield connections[alias]
    finally:
        connections[alias].close()
        connections[alias] = before


def log_is_back() -> None:
    """As if the rest that follows a slow failure were over."""
    inline.rest.until = 0.0
