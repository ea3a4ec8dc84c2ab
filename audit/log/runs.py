"""What the log has of one run; raises ``LogUnavailable`` where it cannot be asked."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from typing import Any

from audit.fold import tree
from audit.fold.completeness import Gap
from audit.fold.record import Record
from audit.log.rows import parsed, rows


def find_root(using: str, any_id: str) -> str | None:
    """The run that an id belongs to: its own, or that of a node or subprocess with records."""
    if not (any_id.isprintable() and any_id.isascii()):
        return None  # no column holds it; a command line brings anything
    found = rows(using, "roots", {"ids": [any_id]}) if any_id else []
    return str(found[0][1]) if found else None


def records(using: str, root: str, until: datetime.datetime | None = None) -> list[Record]:
    """The records of a run, in no order; ``until``: those that occurred up to then, inclusive.

    Among them operations that were stored before anybody knew their run: they are found by the
    nodes of its tree, and by those that its other records name.
    """
    own = _records(rows(using, "run_records", {"root": root, "until": until}))
    nodes = {root, *(each.node_id for each in own if each.node_id)}
    trees = [tree.read(each.data["pipeline"]) for each in own if "pipeline" in each.data]
    if not any(trees):
        nodes |= {node for (node,) in rows(using, "run_nodes", {"root": root})}
    nodes.update(*trees)
    return own + rootless(using, nodes, until)


def rootless(
    using: str, nodes: Iterable[str], until: datetime.datetime | None = None
) -> list[Record]:
    """Operations on some nodes and pipelines that were stored before anybody knew their run."""
    return _records(rows(using, "rootless_records", {"nodes": sorted(nodes), "until": until}))


def rootless_since(using: str, since: datetime.datetime, first: int, last: int) -> list[Record]:
    """What was stored before anybody knew its run: after a moment, and between two positions."""
    return _records(rows(using, "rootless_since", {"since": since, "first": first, "last": last}))


def _records(found: list[Any]) -> list[Record]:
    return [Record._make((*row[:-2], parsed(row[-2]), parsed(row[-1]))) for row in found]


def gaps(
    using: str,
    writers: Collection[str],
    since: datetime.datetime,
    until: datetime.datetime | None = None,
) -> list[Gap]:
    """What is missing of these writers, told since a moment."""
    found = rows(using, "run_gaps", {"writers": list(writers), "since": since, "until": until})
    return [
        Gap(
            *(position, writer, _whole(events), _whole(first), _whole(last)),
            *(_time(first_at), _time(last_at) or told_at, told_at),
        )
        for position, writer, events, first, last, first_at, last_at, told_at in found
    ]


def open_writers(using: str, writers: Collection[str]) -> dict[str, datetime.datetime | None]:
    """Of these writers those that did not end, with when the last shipped record occurred."""
    return dict(rows(using, "open_writers", {"writers": list(writers)}))


def _whole(number: Any) -> int | None:
    return None if number is None else int(number)


def _time(text: str | None) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def begun(using: str, since: datetime.datetime) -> set[str]:
    """The runs that were begun since a moment."""
    return {root for (root,) in rows(using, "begun_runs", {"since": since})}


def recording_began(using: str) -> datetime.datetime | None:
    """When the log's first record was stored; None where there is none."""
    found = rows(using, "recording_began")
    return found[0][0] if found else None


def between(
    using: str, since: datetime.datetime | None, until: datetime.datetime | None
) -> set[str]:
    """The runs of which anything was recorded in a time; ``until`` is exclusive."""
    return {root for (root,) in rows(using, "runs_between", {"since": since, "until": until})}
