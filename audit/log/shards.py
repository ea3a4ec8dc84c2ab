"""The records of many runs at once, each with no more than the fold looks at."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from audit.events import POST_PREPARE, POST_SET_STATE, PRE_PREPARE
from audit.fold import ENGINE_SENDER, tree
from audit.fold.clock import as_time
from audit.fold.completeness import Gap
from audit.fold.record import Record
from audit.log import runs
from audit.log.rows import parsed, rows

PLAIN: Final = (
    *("node_enter", "node_finish", "pre_execute", "post_execute", "pre_schedule"),
    *("post_schedule", "pipeline_finish"),
)
"""Events of which the fold takes that they came, when and from which task."""
_NOTHING: Final[dict[str, Any]] = {}
_OF_THE_ENGINE: Final = {"sender": ENGINE_SENDER}


def records(using: str, roots: Collection[str], first: int = 0) -> dict[str, list[Record]]:
    """The records of some runs, each run's in no order; ``first``: none is at a lower position."""
    found = _own(using, roots, first)
    for root, own in found.items():
        kinds = {each.event_type for each in own}
        if PRE_PREPARE not in kinds and POST_PREPARE in kinds:  # then it alone has the tree
            found[root] = runs.records(using, root)
    if rows(using, "any_rootless")[0][0]:
        _add_rootless(using, found)
    return found


def records_since(
    using: str, root: str, since: int, first: int, last: int, nodes: Mapping[str, object]
) -> list[Record]:
    """The records of a run that occurred after an instant (in microseconds), in no order.

    None is below the position ``first``, and none beyond ``last`` is answered. ``nodes``: those of
    the run, for what was stored before anybody knew it.
    """
    after = as_time(since)
    own = _own(using, [root], first, after, last)[root]
    others = runs.rootless_since(using, after, first, last)
    return own + [each for each in others if {each.node_id, each.pipeline_id} & nodes.keys()]


def _own(
    using: str,
    roots: Collection[str],
    first: int,
    since: datetime.datetime | None = None,
    last: int | None = None,
) -> dict[str, list[Record]]:
    """Those that were stored as records of these runs."""
    found: dict[str, list[Record]] = {root: [] for root in roots}
    tasks: dict[str | None, dict[str, Any]] = {None: _NOTHING}
    make = tuple.__new__
    parameters = {
        "roots": list(roots),
        "first": first,
        "since": since,
        "last": last,
        "plain": list(PLAIN),
        "sender": ENGINE_SENDER,
    }
    for row in rows(using, "shard_records", parameters):
        root, position, at, writer, number, kind, pipeline, node, version, data, context, task = row
        if context is not None:
            about = parsed(context)
        elif kind == POST_SET_STATE:
            about = _OF_THE_ENGINE
        else:
            known = tasks.get(task)
            about = tasks.setdefault(task, {"task": {"id": task}}) if known is None else known
        document = _NOTHING if data is None else parsed(data)
        fields = (position, at, writer, number, kind, pipeline, node, version, document, about)
        found[root].append(make(Record, fields))
    return found


def _add_rootless(using: str, found: dict[str, list[Record]]) -> None:
    """Operations that were stored before anybody knew their run."""
    of_nodes: dict[str, set[str]] = {}
    for root, own in found.items():
        for node in _nodes(root, own):
            of_nodes.setdefault(node, set()).add(root)
    for each in runs.rootless(using, of_nodes):
        mentioned = of_nodes.get(each.node_id, set()) | of_nodes.get(each.pipeline_id, set())
        for root in mentioned:
            found[root].append(each)


def _nodes(root: str, own: Iterable[Record]) -> set[str]:
    found = {root}
    for each in own:
        if each.node_id:
            found.add(each.node_id)
        if "pipeline" in each.data:
            found.update(tree.read(each.data["pipeline"]))
    return found


def gaps(using: str, since: datetime.datetime, writers: Collection[str]) -> dict[str, list[Gap]]:
    """What is missing of these writers, told since a moment, by writer."""
    found: dict[str, list[Gap]] = {}
    for gap in runs.gaps(using, writers, since):
        found.setdefault(gap.writer_id, []).append(gap)
    return found
