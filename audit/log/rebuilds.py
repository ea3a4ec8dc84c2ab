"""The tables beside: where projections are made anew while those that serve go on."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from django.db import connections, transaction
from psycopg import sql as compose

from audit.exceptions import RebuildRefused
from audit.log import facts
from audit.log.ddl import NEXT
from audit.log.errors import sqlstate, translated
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


class Done(NamedTuple):
    """How far the load is."""

    records: int
    parts: int
    records_done: int
    parts_done: int


class Differing(NamedTuple):
    """Of a table, how many rows only the one that serves has, and only the one beside."""

    table: str
    gone: int
    fresh: int


class Beside:
    """The schema beside that of the log, and what is in it."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._schema = facts.schema(using)
        # No name is longer on the server.
        self.name = (NEXT + self._schema).encode()[:MAX_NAME].decode(errors="ignore")

    @contextmanager
    def meant(self) -> Iterator[None]:
        """A transaction in which its tables are meant, where it has those."""
        with translated(self.using), transaction.atomic(using=self.using):
            self._execute("look_beside", {"next": self.name})
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A transaction of who begins, ends or gives up a rebuild."""
        with translated(self.using), transaction.atomic(using=self.using):
            self._execute("lock_rebuild")
            yield

    def under_way(self) -> UnderWay | None:
        """What was begun here."""
        if BOOKS not in self._tables():
            return None
        found = self._rows("rebuild_under_way")
        if not found:
            return None  # the server crashed: all that is beside is empty
        ((projections, selection, head, started_at),) = found
        return UnderWay(json.loads(projections), json.loads(selection), head, started_at)

    def progress(self) -> tuple[UnderWay, Done] | None:
        """What was begun here, and how far its load is."""
        # In one transaction: who has looked at the tables keeps others from dropping them.
        with translated(self.using), transaction.atomic(using=self.using):
            found = self.under_way()
            return None if found is None else (found, Done(*self._rows("shards_done")[0]))

    def create(
        self,
        tables: Mapping[str, bool],
        *,
        projections: Mapping[str, int],
        selection: Mapping[str, Any],
        head: int,
    ) -> None:
        """Make the tables, each with its keys or without, and begin the books.

        Raises:
            RebuildRefused: the role may not make a schema, or tables in it.
        """
        self.drop()
        try:
            if not rows(self.using, "has_schema", {"name": self.name})[0][0]:
                self._composed("create_next_schema")
            self._composed("create_books")
            for table, with_keys in tables.items():
                self._composed(
                    "create_next_table" if with_keys else "create_next_heap",
                    table=compose.Identifier(table),
                    live=self._live(table),
                )
        except Exception as error:
            if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                raise
            raise RebuildRefused(
                f"A rebuild makes tables in schema {self.name}, which this role may not: "
                f"{error}. Run audit_grants, or as the database's owner: CREATE SCHEMA IF NOT "
                f'EXISTS "{self.name}"; GRANT USAGE, CREATE ON SCHEMA "{self.name}" TO this role.'
            ) from error
        self._composed(
            "add_rebuild",
            {
                "projections": json.dumps(dict(projections)),
                "selection": json.dumps(dict(selection)),
                "head": head,
            },
        )

    def drop(self) -> None:
        """Let go of all that is beside."""
        for table in self._tables():
            self._composed("drop_next_table", table=compose.Identifier(table))

    def report(self, error: str) -> None:
        """Keep why somebody cannot go on."""
        self._composed("report", {"error": error})

    def reported(self) -> str:
        """What was kept last."""
        found = self._rows("reported")
        return str(found[0][0]) if found else ""

    # Parts of the load.

    def plan(self, head: int, roots: Collection[str] | None, size: int) -> None:
        """Divide runs into parts of about ``size`` records."""
        chosen = None if roots is None else list(roots)
        self._composed("plan_shards", {"head": head, "roots": chosen, "size": size})

    def claim(self) -> tuple[int, list[str], int] | None:
        """A part that nobody is at, its runs, and the first position of their records.

        Until the transaction ends it is ours.
        """
        found = [] if self.under_way() is None else self._rows("claim_shard")
        return found[0] if found else None

    def end(self, part: int) -> None:
        """A part is done, once this is committed."""
        self._composed("end_shard", {"shard": part})

    def done(self) -> Done:
        """How far the load is; all done where another process has brought it to its end."""
        found = self.progress()
        return Done(0, 0, 0, 0) if found is None else found[1]

    def roots(self) -> set[str]:
        """The runs of all parts."""
        return {root for (root,) in self._rows("planned_runs")}

    # The end.

    def take_checkpoint(self, name: str) -> None:
        """What is made here knows how far this one is that serves."""
        self._composed("take_checkpoint", {"name": name})

    def merge(self, table: str, roots: Collection[str] | None) -> Differing:
        """Make the table that serves as the one beside: only what differs is written.

        ``roots``: only of these runs. Rows of runs whose beginning the log has no more stay.
        """
        names, parameters = self._compared(table, roots)
        gone = self._count("merge_gone", names, parameters)
        return Differing(table, gone, self._count("merge_fresh", names, parameters))

    def compare(self, table: str, roots: Collection[str] | None) -> Differing:
        """What a merge would write."""
        names, parameters = self._compared(table, roots)
        with connections[self.using].cursor() as cursor:
            cursor.execute(self._text("count_differing", names), parameters)
            return Differing(table, *cursor.fetchone())

    def merge_books(self, names: Collection[str], roots: Collection[str] | None) -> None:
        """Take over how far the projections are (not of some runs only), and what was set aside."""
        parameters = {"names": list(names), "roots": None if roots is None else list(roots)}
        if roots is None:
            self._composed("merge_checkpoints", parameters)
        self._composed("forget_aside", parameters)
        self._composed("take_aside", parameters)

    def _compared(
        self, table: str, roots: Collection[str] | None
    ) -> tuple[dict[str, compose.Composable], dict[str, Any]]:
        columns = dict(rows(self.using, "columns", {"table": self._live(table).as_string(None)}))
        own = [compose.Identifier(name) for name, is_drawn in columns.items() if not is_drawn]
        root = "each.root_pipeline_id" if "root_pipeline_id" in columns else "NULL::text"
        listed = compose.SQL(", ").join(own)
        content: compose.Composable = compose.SQL("each")
        number: compose.Composable = compose.SQL("1")
        if len(own) < len(columns):  # rows without a key of their own may be there twice
            content = compose.SQL("ROW({})").format(listed)
            number = compose.SQL("row_number() OVER (PARTITION BY {}::text)").format(content)
        ((horizon,),) = rows(self.using, "horizon")
        names = {
            "live": self._live(table),
            "beside": compose.Identifier(self.name, table),
            "columns": listed,
            "content": content,
            "number": number,
            "root": compose.SQL(root),
        }
        chosen = None if roots is None else list(roots)
        return names, {"roots": chosen, "horizon": horizon}

    def _tables(self) -> list[str]:
        return [table for (table,) in rows(self.using, "next_tables", {"next": self.name})]

    def _live(self, table: str) -> compose.Identifier:
        """The table that serves, also where those beside are meant."""
        return compose.Identifier(self._schema, table)

    def _names(self) -> dict[str, compose.Composable]:
        return {
            "next": compose.Identifier(self.name),
            "schema": compose.Identifier(self._schema),
        }

    def _text(self, query: str, names: Mapping[str, compose.Composable]) -> str:
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
            cursor.execute(self._text(query, names), parameters)

    def _rows(self, query: str) -> list[Any]:
        with translated(self.using), connections[self.using].cursor() as cursor:
            cursor.execute(self._text(query, {}))
            return list(cursor.fetchall())

    def _count(
        self, query: str, names: Mapping[str, compose.Composable], parameters: Mapping[str, Any]
    ) -> int:
        with connections[self.using].cursor() as cursor:
            cursor.execute(self._text(query, names), parameters)
            return int(cursor.rowcount)

    def _execute(self, query: str, parameters: Mapping[str, Any] | None = None) -> None:
        with connections[self.using].cursor() as cursor:
            cursor.execute(queries()[query], parameters)
