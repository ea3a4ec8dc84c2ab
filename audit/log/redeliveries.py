"""What is sent to a receiver again, and how far that is; raises ``LogUnavailable``.

How far a redelivery is stands in a row of the checkpoints' table. Whoever goes on with it holds
that row by a number of its own and not by a lock: a lock would keep a transaction open while the
receiver works, and a session's lock is lost in a pool of connections.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from audit.log.rows import parsed, rows, value

PREFIX: Final = "redeliver:"
"""What the names of these rows begin with, and no projection's name does."""


class Wanted(NamedTuple):
    """Which events; None and empty leave a side open. Times are aware."""

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    """Not inclusive."""
    event_types: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    """Ids of runs."""


class Recorded(NamedTuple):
    """An event as the log has it; ``occurred_at`` is aware."""

    position: int
    event_type: str
    root_pipeline_id: str
    """Empty where it was not known when it was stored."""
    data: Any
    context: Mapping[str, Any]
    occurred_at: datetime.datetime


def events(
    using: str,
    after: int,
    until: int,
    wanted: Wanted,
    *,
    nodes: Collection[str],
    not_sent: Collection[str],
    most: int,
) -> Iterator[Recorded]:
    """The first ``most`` events after one position, up to another, each made when it is asked for.

    ``nodes``: those of the runs that are wanted. ``not_sent``: types that are never among them.
    """
    parameters = {
        "after": after,
        "until": until,
        "not_sent": list(not_sent),
        "types": list(wanted.event_types) or None,
        "since": wanted.since,
        "before": wanted.until,
        "roots": list(wanted.roots) or None,
        "nodes": list(nodes),
        "most": most,
    }
    for position, event_type, root, data, context, at in rows(
        using, "events_to_redeliver", parameters
    ):
        yield Recorded(position, event_type, root, value(data), parsed(context), at)


def nodes_of(using: str, roots: Collection[str]) -> list[str]:
    """The nodes of some runs, the runs among them."""
    found = {node for root in roots for (node,) in rows(using, "run_nodes", {"root": root})}
    return sorted(found | {*roots})


def span(using: str, roots: Collection[str], nodes: Collection[str]) -> tuple[int, int]:
    """The first and the last position of what some runs have."""
    ((first, last),) = rows(using, "span_of_runs", {"roots": list(roots), "nodes": list(nodes)})
    return first, last


def is_recorded(using: str, event_type: str) -> bool:
    """Whether the log has an event of this type."""
    ((found,),) = rows(using, "type_is_recorded", {"event_type": event_type})
    return bool(found)


class Holder(NamedTuple):
    """Who goes on with a redelivery, 0 for nobody, and when it last showed that it lives."""

    number: int
    seen_at: datetime.datetime


def take(
    using: str, name: str, holder: int, lease: datetime.timedelta, *, anew: bool
) -> int | None:
    """How far a redelivery is, which from now on is this holder's; None where it is another's.

    ``lease``: for so long its holder may show no life. ``anew``: it begins again.
    """
    rows(using, "add_redelivery", {"name": name})
    parameters = {"name": name, "holder": holder, "lease": lease, "anew": anew}
    return _position(rows(using, "take_redelivery", parameters))


def held(using: str, name: str) -> Holder | None:
    """Who holds a redelivery; None where there is no such one."""
    found = rows(using, "redelivery_held", {"name": name})
    return Holder._make(found[0]) if found else None


def move(using: str, name: str, holder: int, position: int) -> bool:
    """All up to this position is delivered; False where somebody else holds it by now."""
    parameters = {"name": name, "holder": holder, "position": position}
    return _position(rows(using, "move_redelivery", parameters)) is not None


def renew(using: str, name: str, holder: int) -> None:
    """Its holder lives."""
    rows(using, "renew_redelivery", {"name": name, "holder": holder})


def release(using: str, name: str, holder: int) -> None:
    """Nobody holds it any more."""
    rows(using, "release_redelivery", {"name": name, "holder": holder})


def _position(found: list[Any]) -> int | None:
    return int(found[0][0]) if found else None
