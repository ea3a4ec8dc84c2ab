"""Run the SQL files that make the log, in migrations."""

from __future__ import annotations

from typing import Any, LiteralString

from django.db import connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.utils import NotSupportedError
from psycopg import Connection
from psycopg import sql as compose

from audit import conf, sql
from audit.exceptions import AuditError
from audit.log import facts
from audit.log.append import create_partitions

TABLE = "bamboo_audit_pipelineeventrecord"
NEXT = "bamboo_audit_next_"
"""With the log's schema the name of that beside it, in which projections are rebuilt."""
OLDEST_SERVER = 140000


def rendered(connection: Connection[Any], file_name: str, schema: str, **roles: str) -> str:
    """One SQL file with its placeholders filled in, every identifier quoted by psycopg.

    ``connection``: psycopg quotes for one, and before 3.2 not without one.
    For each role there is also ``{name_text}``, the name as a string, and ``{name_in_sql}``,
    the quoted identifier as a string, for ``format('… %s')``.
    """

    def as_text(*identifier: str) -> compose.Literal:
        return compose.Literal(compose.Identifier(*identifier).as_string(connection))

    names: dict[str, compose.Composable] = {
        "schema": compose.Identifier(schema),
        "schema_text": as_text(schema),
        "next": compose.Identifier(NEXT + schema),
        "table_text": as_text(schema, TABLE),
    }
    for name, role in roles.items():
        names[name] = compose.Identifier(role)
        names[f"{name}_text"] = compose.Literal(role)
        names[f"{name}_in_sql"] = as_text(role)
    if any("$$" in name for name in (schema, *roles.values())):
        raise AuditError("A schema or role with $$ in its name cannot be quoted in SQL. Rename it.")
    template: LiteralString = sql.read(file_name)
    return compose.SQL(template).format(**names).as_string(connection)


def grants(using: str, *, owner: str, application: str) -> str:
    """The SQL that sets up the two roles, for the schema that the log is in."""
    schema = facts.schema(using)
    connection = connections[using].connection
    return rendered(connection, "grants.sql", schema, owner=owner, application=application)


class RunLogSQL(Operation):
    """Run a SQL file of ``audit.sql`` on the log's database; elsewhere do nothing.

    A host may keep its engine on MySQL or SQLite: there is nothing to make there. Where the
    log itself is configured to be on such a database, ``manage.py check`` says so.
    """

    reversible = True
    reduces_to_sql = False

    def __init__(self, forwards: str, backwards: str) -> None:
        self.forwards = forwards
        self.backwards = backwards

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self.forwards, self.backwards], {}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Tables only; the models are told by the operations beside this one."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if self._run(self.forwards, app_label, schema_editor):
            create_partitions(schema_editor.connection.alias)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._run(self.backwards, app_label, schema_editor)

    def describe(self) -> str:
        return f"Run {self.forwards} on the log's database"

    def _run(self, file_name: str, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        connection = schema_editor.connection
        if connection.vendor != "postgresql" or connection.alias != conf.get("DATABASE"):
            return False
        if connection.pg_version < OLDEST_SERVER:  # type: ignore[attr-defined]
            raise NotSupportedError(
                f"The log needs PostgreSQL 14 or newer; database {connection.alias!r} is older. "
                "Upgrade it, or point BAMBOO_AUDIT['DATABASE'] at another."
            )
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            (schema,) = cursor.fetchone()
            if schema is None:
                raise AuditError(
                    "The search_path of the log's database names no schema that exists, so "
                    "there is nowhere to make the log. Create the schema and migrate again."
                )
            cursor.execute(rendered(connection.connection, file_name, schema))
        return True
