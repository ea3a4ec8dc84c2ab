"""What the log's database says about the log itself; raises ``LogUnavailable`` where it cannot."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from audit.log.rows import rows
from audit.sql import read


@cache
def _guard() -> str:
    """What the guards' function does, word for word: another one is no guard."""
    definition = read("0001_log.sql").partition("bamboo_audit_refuse_change() RETURNS trigger")[2]
    return definition.split("$$")[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition: positions from ``low`` (inside) to ``high`` (outside).

    They are None where the bounds are not of our making: a default partition, an open end.
    """

    name: str
    low: int | None
    high: int | None
    bytes: int
    guarded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """Server, role and guards; all but the first three are None or False without a log."""

    server_version: int
    role: str
    present: bool
    owner: str | None
    may_change_guards: bool | None
    guarded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The record with the highest position."""

    position: int
    event_type: str
    occurred_at: datetime.datetime
    recorded_at: datetime.datetime


def log_facts(using: str) -> LogFacts:
    """The log's server, role and guards."""
    found = rows(using, "log_facts", {"guard": _guard()})
    (row,) = found
    return LogFacts(
        server_version=row[0],
        role=row[1],
        present=row[2],
        owner=row[3],
        may_change_guards=row[4],
        guarded=bool(row[5]),
    )


def partitions(using: str) -> list[Partition]:
    """The partitions, oldest first."""
    found = rows(using, "partitions", {"guard": _guard()})
    return [
        Partition(name=name, low=low, high=high, bytes=size, guarded=guarded)
        for name, low, high, size, guarded in found
    ]


def newest(using: str) -> Newest | None:
    """The newest record by position, or None in an empty log."""
    found = rows(using, "newest_record")
    for position, event_type, occurred_at, recorded_at in found:
        return Newest(
            position=position,
            event_type=event_type,
            occurred_at=occurred_at,
            recorded_at=recorded_at,
        )
    return None


def newest_position(using: str) -> int:
    """The highest position, 0 in an empty log."""
    found = newest(using)
    return found.position if found else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A projection: up to which position it has applied the log, and when it last did."""

    name: str
    position: int
    updated_at: datetime.datetime
    set_aside: int
    """How many records it could not apply."""
    held_by: int | None
    """The server process that moves it on just now."""
    held_since: datetime.datetime | None


def checkpoints(using: str) -> list[Checkpoint]:
    """The projections that were ever caught up."""
    return [
        Checkpoint(
            name=name,
            position=position,
            updated_at=at,
            set_aside=aside,
            held_by=pid,
            held_since=since,
        )
        for name, position, at, aside, pid, since in rows(using, "checkpoints")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """The ``gap`` records of a time span: how many, and how many events they tell of.

    ``unknown``: how many of them do not know how many events are missing.
    """

    records: int
    events: int
    unknown: int
    last_at: datetime.datetime | None


def gaps(using: str, since: datetime.datetime) -> Gaps:
    """Gaps that were recorded as having occurred since ``since``."""
    found = rows(using, "gaps", {"since": since})
    ((records, events, unknown, last_at),) = found
    return Gaps(records=records, events=int(events), unknown=unknown, last_at=last_at)


def without_reason(using: str, event_types: Sequence[str], since: datetime.datetime) -> int:
    """How many records of these types were marked as without a reason since ``since``."""
    parameters = {"event_types": list(event_types), "since": since}
    ((count,),) = rows(using, "without_reason", parameters)
    return int(count)


def role_powers(using: str, name: str) -> list[str] | None:
    """What the role of that name may do beyond inserting and reading; None if there is none."""
    found = rows(using, "role_powers", {"name": name})
    if not any(known for known, _ in found):
        return None
    return [words for _, words in found if words is not None]


def schema(using: str) -> str:
    """The schema that the log is in."""
    ((name,),) = rows(using, "log_schema")
    return str(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writers:
    """The processes that capture: how many are open, fell silent, were lost, and what is missing.

    One that was killed is open until a shipper has looked at what it left.
    """

    open: int
    silent: int
    lost: int
    missing: int
    seen_at: datetime.datetime | None


def writers(using: str, silence: datetime.timedelta) -> Writers:
    """The writers' books; ``silence``: for how long a silent one was not seen."""
    ((opened, silent, lost, missing, seen_at),) = rows(
        using, "writers_summary", {"silence": silence}
    )
    return Writers(open=opened, silent=silent, lost=lost, missing=int(missing), seen_at=seen_at)
