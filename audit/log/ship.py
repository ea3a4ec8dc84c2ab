"""Append a batch of rows by COPY, exactly once, and keep the writers' books."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, cast

from audit import conf
from audit.capture.row import FILE_BEGIN, FILE_END
from audit.exceptions import NoPartition, RecordRefused
from audit.log.link import Link
from audit.sql import queries


class Step(NamedTuple):
    """How far a batch takes one writer: from a position to a position.

    ``missed``: how many positions between them have no row.
    """

    writer_id: uuid.UUID
    expected: int
    reached: int
    missed: int
    latest: datetime.datetime | None


class Place(NamedTuple):
    """How far a writer's records are in the log, and when the last of them occurred."""

    position: int
    last_at: datetime.datetime | None


def append(link: Link, rows: Sequence[bytes], steps: Sequence[Step]) -> None:
    """Append rows and move their writers on, in one transaction.

    Raises:
        FenceMoved: a writer is not where the step expects it: nothing was appended.
        LogUnavailable: nothing was appended, or it was and the answer was lost; the writers'
            positions tell which.
        RecordRefused: the database does not take one of the rows: nothing was appended.
    """
    try:
        _append(link, rows, steps)
    except NoPartition:
        create_partitions(link)
        _append(link, rows, steps)


def _append(link: Link, rows: Sequence[bytes], steps: Sequence[Step]) -> None:
    moves = {
        "writers": _array(step.writer_id for step in steps),
        "expected": _array(step.expected for step in steps),
        "reached": _array(step.reached for step in steps),
        "missed": _array(step.missed for step in steps),
        "latest": _array(step.latest for step in steps),
    }
    if rows:
        link.copy("begin_append", moves, [FILE_BEGIN, *rows, FILE_END])
    else:
        link.rows("begin_append", moves)


def _array(values: Iterable[uuid.UUID | int | datetime.datetime | None]) -> str:
    """As PostgreSQL writes arrays: to bind lists took a quarter of a batch's processor time."""
    members = ("NULL" if value is None else f'"{value}"' for value in values)
    return "{" + ",".join(members) + "}"


class _TakenBack(Exception):
    """Ends a transaction that is not to be committed."""


def would_take(link: Link, rows: Sequence[bytes]) -> bool:
    """Whether the database takes these rows; appends none of them."""
    try:
        with link.transaction() as cursor:
            with cursor.copy(queries()["append_rows"]) as copy:
                copy.write(b"".join((FILE_BEGIN, *rows, FILE_END)))
            raise _TakenBack
    except _TakenBack:
        return True
    except RecordRefused:
        return False


def create_partitions(link: Link) -> None:
    """Make the partitions that are to be ahead."""
    link.rows(
        "create_partitions",
        {"size": conf.get("PARTITION_SIZE"), "ahead": conf.get("PARTITIONS_AHEAD")},
    )


def refusals(link: Link, documents: Sequence[tuple[str, str]]) -> dict[int, str]:
    """Which of some (data, context) jsonb does not take, by their index, and why."""
    found = link.rows(
        "refusals",
        {
            "data": [data for data, _ in documents],
            "context": [context for _, context in documents],
        },
    )
    return {ordinal - 1: why for ordinal, why in found}


class Registration(NamedTuple):
    """What is known of a writer that is to be registered."""

    writer_id: uuid.UUID
    host: str
    pid: int
    kind: str
    spool: str
    started_at: str | None


FORGET_AFTER: Final = datetime.timedelta(days=7)
"""Writers that ended well are forgotten after so long."""
_MAY_BE_FORGOTTEN: Final = FORGET_AFTER - datetime.timedelta(days=1)
"""... by the clock of a host, which may be wrong."""


def register(link: Link, writers: Sequence[Registration]) -> dict[uuid.UUID, Place]:
    """Make writers known where they are not yet; answers how far each one's records are."""
    link.rows(
        "register_writers",
        {
            "writers": [each.writer_id for each in writers],
            "hosts": [each.host for each in writers],
            "pids": [each.pid for each in writers],
            "kinds": [each.kind for each in writers],
            "spools": [each.spool for each in writers],
            "started": [each.started_at for each in writers],
            "forgotten": _MAY_BE_FORGOTTEN,
        },
    )
    return positions(link, [each.writer_id for each in writers])


def positions(link: Link, writer_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Place]:
    """How far the records of some writers are in the log."""
    found = link.rows("writer_positions", {"writers": list(writer_ids)})
    return {writer_id: Place(position, last_at) for writer_id, position, last_at in found}


def keep_alive(link: Link, writer_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Say that these writers are alive; answers how far their records are in the log."""
    return dict(link.rows("keep_writers_alive", {"writers": list(writer_ids)}))


def end(link: Link, writer_id: uuid.UUID, ended: str) -> None:
    """A writer goes on no more: it ``closed`` or ``died``, and all that it left is in the log."""
    link.rows("end_writer", {"writer": writer_id, "ended": ended})


def roots(link: Link, ids: Sequence[str]) -> dict[str, str]:
    """The runs of nodes and pipelines, as far as records in the log tell them."""
    return dict(link.rows("roots", {"ids": list(ids)}))


def database_time(link: Link) -> datetime.datetime:
    """The database's clock, aware."""
    ((now,),) = link.rows("database_time")
    return cast("datetime.datetime", now)


class Silent(NamedTuple):
    """A writer that neither closed nor was seen for long."""

    writer_id: uuid.UUID
    host: str
    pid: int
    kind: str
    position: int
    seen_at: datetime.datetime


def lose_silent(
    link: Link, silence: datetime.timedelta, tell: Callable[[Silent], None]
) -> list[Silent]:
    """Count the writers that were not seen for so long as lost; ``tell`` is called for each
    before that holds. Two callers at once do not both get the same one.
    """
    with link.transaction() as cursor:
        cursor.execute(queries()["silent_writers"], {"silence": silence})
        found = [Silent(*row) for row in cursor.fetchall()]
        for each in found:
            tell(each)
        if found:
            cursor.execute(
                queries()["lose_writers"], {"writers": [each.writer_id for each in found]}
            )
    return found


def prune(link: Link) -> None:
    """Forget the writers that ended well, and long ago."""
    link.rows("prune_writers", {"age": FORGET_AFTER})
