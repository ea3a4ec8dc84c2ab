"""The tables beside: where projections are made anew while those that serve go on."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from django.db import ProgrammingError, connections, transaction
from psycopg import sql as compose

from audit.exceptions import RebuildOver, RebuildRefused
from audit.log import facts
from audit.log.ddl import NEXT
from audit.log.errors import UNDEFINED, sqlstate, translated
from audit.log.rows import rows
from audit.sql import queries

MAX_NAME: Final = 63
"""Bytes."""
BOOKS: Final = "bamboo_audit_rebuild"
_INSUFFICIENT_PRIVILEGE: Final = "42501"


class UnderWay(NamedTuple):
    """A rebuild that was begun and did not come to its end."""

    projections: dict[str, int]
    """The version of each that is rebuilt."""
    selection: dict[str, Any]
    head: int
    """Runs are loaded with all that the log had up to here, at least."""
    started_at: datetime.datetime
    token: str
    """Another one in each: whoever works at it knows by it whether it is still the same."""


class Done(NamedTuple):
    """How far the load is."""

    records: int
    parts: int
    records_done: int
    parts_done: int


def _under_way(row: Any) -> UnderWay:
    projections, selection, head, started_at, token = row
    return UnderWay(json.loads(projections), json.loads(selection), head, started_at, token)


@contextmanager
def _gone() -> Iterator[None]:
    """Tables that another process drops just now are those of a rebuild that is over."""
    try:
        yield
    except ProgrammingError as error:
        if sqlstate(error) not in UNDEFINED:
            raise
        raise RebuildOver from error


class Beside:
    """The schema beside that of the log, and what is in it."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.schema = facts.schema(using)
        # No name is longer on the server.
        self.name = (NEXT + self.schema).encode()[:MAX_NAME].decode(errors="ignore")

    @contextmanager
    def meant(self, token: str) -> Iterator[UnderWay]:
        """A transaction of a rebuild in which its tables are meant, and nobody drops them.

        Raises:
            RebuildOver: it is under way no more.
            RebuildRefused: a table was written to that is none of those.
        """
        with translated(self.using), transaction.atomic(using=self.using):
            found = self._held(token)
            self._execute("look_beside", {"next": self.name})
            before = self._written_elsewhere()
            yield found
            if fresh := self._written_elsewhere() - before:
                names = ", ".join(sorted({name for name, _ in fresh}))
                raise RebuildRefused(
                    f"What is rebuilt has written to {names}, which serves, and that was taken "
                    "back. Name it among the models of its projection."
                )

    def _written_elsewhere(self) -> set[tuple[str, int]]:
        return set(rows(self.using, "written_elsewhere", {"next": self.name}))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A transaction of who begins, ends or gives up a rebuild."""
        with translated(self.using), transaction.atomic(using=self.using):
            self._execute("lock_rebuild")
            yield

    def _held(self, token: str) -> UnderWay:
        if BOOKS not in self._tables():
            raise RebuildOver
        with _gone():
            found = self._rows("hold_books", {"token": token})
        if not found:
            raise RebuildOver
        return _under_way(found[0])

    def under_way(self) -> UnderWay | None:
        """What was begun here."""
        if BOOKS not in self._tables():
            return None
        try:
            with _gone(), transaction.atomic(using=self.using):
                found = self._rows("rebuild_under_way")
        except RebuildOver:
            return None
        # None: the server crashed, and all that is beside is empty.
        return _under_way(found[0]) if found else None

    def progress(self) -> tuple[UnderWay, Done] | None:
        """What was begun here, and how far its load is."""
        # In one transaction: who has looked at the tables keeps others from dropping them.
        with translated(self.using), transaction.atomic(using=self.using):
            found = self.under_way()
            return None if found is None else (found, self._done())

    def create(
        self,
        tables: Mapping[str, bool],
        *,
        projections: Mapping[str, int],
        selection: Mapping[str, Any],
        head: int,
    ) -> UnderWay:
        """Make the tables, each with its keys or without, and begin the books.

        Raises:
            RebuildRefused: the role may not make a schema, or tables in it.
        """
        try:
            self.drop()
            if not rows(self.using, "has_schema", {"name": self.name})[0][0]:
                self._composed("create_next_schema")
            self._composed("create_books")
            for table, with_keys in tables.items():
                self._composed(
                    "create_next_table" if with_keys else "create_next_heap",
                    table=compose.Identifier(table),
                    live=self.live(table),
                )
        except Exception as error:
            if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                raise
            raise RebuildRefused(
                f"A rebuild makes and drops tables in schema {self.name}, which this role may not: "
                f"{error}. Run audit_grants, or as the database's owner: CREATE SCHEMA IF NOT "
                f'EXISTS "{self.name}"; GRANT USAGE, CREATE ON SCHEMA "{self.name}" TO this role.'
            ) from error
        self._composed(
            "add_rebuild",
            {
                "projections": json.dumps(dict(projections)),
                "selection": json.dumps(dict(selection)),
                "head": head,
                "token": secrets.token_hex(8),
            },
        )
        (found,) = self._rows("rebuild_under_way")
        return _under_way(found)

    def lock(self) -> None:
        """Keep everybody else from working at it, until the transaction ends."""
        self._composed("lock_books")

    def drop(self) -> None:
        """Let go of all that is beside."""
        tables = self._tables()
        if BOOKS in tables:
            self.lock()
        for table in tables:
            self._composed("drop_next_table", table=compose.Identifier(table))

    def report(self, token: str, error: str) -> None:
        """Keep why somebody cannot go on."""
        with self._still(token):
            self._composed("report", {"token": token, "error": error})

    def reported(self, token: str) -> str:
        """What was kept last."""
        with self._still(token):
            return str(self._rows("reported")[0][0])

    def next_turn(self, token: str) -> int:
        """A number for the tasks that are sent now: those with another one are not to go on."""
        with self._still(token):
            return int(self._rows("next_turn", {"token": token})[0][0])

    def turn(self, token: str) -> int:
        """The number of the tasks that are to go on."""
        with self._still(token):
            return int(self._rows("present_turn", {"token": token})[0][0])

    @contextmanager
    def _still(self, token: str) -> Iterator[None]:
        with translated(self.using), transaction.atomic(using=self.using):
            self._held(token)
            yield

    # Parts of the load.

    def plan(self, head: int, roots: Collection[str] | None, size: int) -> None:
        """Divide runs into parts of about ``size`` records."""
        chosen = None if roots is None else list(roots)
        self._composed("plan_shards", {"head": head, "roots": chosen, "size": size})

    def claim(self) -> tuple[int, list[str], int] | None:
        """A part that nobody is at, its runs, and the first position of their records.

        Until the transaction ends it is ours.
        """
        found = self._rows("claim_shard")
        return found[0] if found else None

    def end(self, part: int) -> None:
        """A part is done, once this is committed."""
        self._composed("end_shard", {"shard": part})

    def done(self, token: str) -> Done:
        """How far the load is.

        Raises:
            RebuildOver: it is under way no more.
        """
        with self._still(token):
            return self._done()

    def _done(self) -> Done:
        return Done(*self._rows("shards_done")[0])

    def left_out(self, name: str) -> int:
        """How many runs and records a projection is made without."""
        return int(self._rows("left_out", {"name": name})[0][0])

    def roots(self) -> set[str]:
        """The runs of all parts."""
        return {root for (root,) in self._rows("planned_runs")}

    def take_checkpoint(self, name: str) -> None:
        """What is made here knows how far this one is that serves."""
        self._composed("take_checkpoint", {"name": name})

    def merge_books(self, names: Collection[str], roots: Collection[str] | None) -> None:
        """Take over how far the projections are (not of some runs only), and what was set aside."""
        parameters = {"names": list(names), "roots": None if roots is None else list(roots)}
        if roots is None:
            self._composed("merge_checkpoints", parameters)
        self._composed("forget_aside", parameters)
        self._composed("take_aside", parameters)

    def _tables(self) -> list[str]:
        return [table for (table,) in rows(self.using, "next_tables", {"next": self.name})]

    def live(self, table: str) -> compose.Identifier:
        """The table that serves, also where those beside are meant."""
        return compose.Identifier(self.schema, table)

    def _names(self) -> dict[str, compose.Composable]:
        return {
            "next": compose.Identifier(self.name),
            "schema": compose.Identifier(self.schema),
        }

    def text(self, query: str, names: Mapping[str, compose.Composable]) -> str:
        with connections[self.using].cursor() as cursor:
            found = compose.SQL(queries()[query]).format(**self._names(), **names)
            return found.as_string(cursor.connection)

    def _composed(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        **names: compose.Composable,
    ) -> None:
        with connections[self.using].cursor() as cursor:
            cursor.execute(self.text(query, names), parameters)

    def _rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(self.text(query, {}), parameters)
            return list(cursor.fetchall())

    def _execute(self, query: str, parameters: Mapping[str, Any] | None = None) -> None:
        with connections[self.using].cursor() as cursor:
            cursor.execute(queries()[query], parameters)
