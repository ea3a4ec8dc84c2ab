"""The log against the engine's own ``State``: every difference, and what explains it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from audit import conf, engine, timeline
from audit.engine import StateRow
from audit.exceptions import AuditError, NotRecorded
from audit.fold.completeness import GAP, Reason
from audit.fold.completeness import reasons as reasons_of
from audit.fold.results import Node
from audit.fold.states import (
    FAILED,
    FINISHED,
    READY,
    ROLL_BACK_FAILED,
    ROLL_BACK_SUCCESS,
    ROLLING_BACK,
    RUNNING,
)
from audit.log import runs
from audit.timeline import Timeline

PHANTOM: Final = "phantom"
"""Begun, and no worker did any of it: rolled back with its transaction, or its broker was away."""
HOLE: Final = "hole of the engine"
"""The engine changed its rows and told nobody (a rollback, an update of root or parent), or two of
its processes changed one at once: its check and its write are not one step."""
PURGED: Final = "purged by the engine"
"""The engine has removed its rows."""
LOST: Final = "lost record"
"""Explained where a gap tells of it, or where the run began before recording did."""
UNDER_WAY: Final = "under way"
"""It changed while it was compared: look again."""
OURS: Final = "ours"
"""Nothing explains it: the log, or what is made of it, is wrong."""
KINDS: Final = (PHANTOM, HOLE, PURGED, LOST, UNDER_WAY, OURS)

FIELDS: Final = ("name", "version", "loop", "retry", "skip", "error_ignored")
_ROLLED_BACK: Final = frozenset({ROLLING_BACK, ROLL_BACK_SUCCESS, ROLL_BACK_FAILED})
_JUMPS: Final = frozenset({(FAILED, RUNNING), (FINISHED, READY)})
"""What a rollback looks like that deletes rows: no other way leads from one to the other."""
MOMENT: Final = datetime.timedelta(minutes=1)
"""What changed so lately may be under way from the engine to the log."""
AT_ONCE: Final = datetime.timedelta(seconds=1)
"""Within that two processes may have checked a state before either of them wrote."""
AGAIN_AFTER: Final = 1.0
"""Seconds after which a run that differs is compared once more."""


class Field(NamedTuple):
    """One value, as the engine and as the log have it."""

    name: str
    engine: Any
    log: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One node, or a whole run, that the engine and the log do not agree on."""

    kind: str
    root_pipeline_id: str
    node_id: str
    """The run's own id where it is about all of it."""
    name: str
    text: str
    explained: bool
    fields: tuple[Field, ...] = ()
    records: tuple[int, ...] = ()
    """Positions of the records that explain it, or that say otherwise."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What was compared, and what differs."""

    runs: int = 0
    rows: int = 0
    """Of the engine's ``State``."""
    differences: list[Difference] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Difference]:
        """The differences that nothing explains."""
        return [each for each in self.differences if not each.explained]


def reconcile(
    ids: Sequence[str] = (), since: datetime.datetime | None = None
) -> Iterator[tuple[int, int, Report]]:
    """Compare runs by id, or those begun since a moment (aware).

    Answers after each run how many are done, of how many, and the report so far; where there is
    none, nothing.

    Raises:
        AuditError: no engine is installed here, or an id is neither in the log nor in the engine.
    """
    if not engine.is_here():
        raise AuditError(
            "There is no engine here to compare with: pipeline.eri is not in INSTALLED_APPS."
        )
    using = conf.get("DATABASE")
    if since is None:
        roots = sorted({_root(using, any_id) for any_id in ids})
    else:
        roots = sorted(runs.begun(using, since) | engine.runs_since(since))
    report, began = Report(), runs.recording_began(using)
    for done, root in enumerate(roots, 1):
        found, rows = _compare(root, began)
        if any(not each.explained for each in found):
            time.sleep(AGAIN_AFTER)
            found, rows = _compare(root, began)
        report.runs += 1
        report.rows += rows
        report.differences += found
        yield done, len(roots), report


def _root(using: str, any_id: str) -> str:
    found = runs.find_root(using, any_id) or engine.root_of(any_id)
    if found is None:
        raise NotRecorded(f"Neither the log nor the engine has anything of {any_id!r}.")
    return found


def _compare(root: str, began: datetime.datetime | None) -> tuple[list[Difference], int]:
    """The differences of one run, and how many rows the engine has of it."""
    try:
        loaded = timeline.load(root)
    except NotRecorded:
        rows = engine.states(root, ())
        return [_unrecorded(root, rows, began)], len(rows)
    rows = engine.states(root, loaded.nodes)
    if not rows:
        return [_gone(loaded)], 0
    return list(_Comparison(loaded, rows, began).differences()), len(rows)


def _unrecorded(
    root: str, rows: dict[str, StateRow], began: datetime.datetime | None
) -> Difference:
    first = min((row.created_time for row in rows.values()), default=None)
    before = began is not None and first is not None and first < began
    return Difference(
        kind=LOST,
        root_pipeline_id=root,
        node_id=root,
        name="",
        text="It began before recording did."
        if before
        else f"The engine has {len(rows)} rows of it, and the log has no record.",
        explained=before,
    )


def _gone(loaded: Timeline) -> Difference:
    facts, root = loaded.facts, loaded.root_pipeline_id
    others = [node for node_id, node in loaded.nodes.items() if node_id != root]
    is_phantom = facts.started and not any(node.state for node in others)
    return Difference(
        kind=PHANTOM if is_phantom else PURGED,
        root_pipeline_id=root,
        node_id=root,
        name=loaded.pipeline.place.name,
        text="It was begun, and never came to be in the engine."
        if is_phantom
        else "The engine has no row of it any more.",
        explained=True,
        records=(facts.first_position, facts.last_position),
    )


class _Comparison:
    """One run, as both have it."""

    def __init__(
        self, loaded: Timeline, rows: dict[str, StateRow], began: datetime.datetime | None
    ) -> None:
        self.loaded, self.rows = loaded, rows
        self.gaps = _gaps(reasons_of(loaded._run, loaded.gaps))
        self.rolled_back = any(
            each.state in _ROLLED_BACK or (each.from_state, each.state) in _JUMPS
            for each in loaded.transitions
        )
        first = min(row.created_time for row in rows.values())
        self.from_before = began is not None and first < began

    def is_under_way(self, node_id: str) -> bool:
        """Whether the engine, or the log, has something so fresh of this node or of the run."""
        lately = self.loaded.now - MOMENT
        row = self.rows.get(node_id)
        node = self.loaded.nodes.get(node_id)
        times = [] if row is None else [row.created_time, row.started_time, row.archived_time]
        if node is not None and node.transitions:
            times.append(node.transitions[-1].entered_at)
        return any(each is not None and each > lately for each in times)

    def differences(self) -> Iterator[Difference]:
        for node_id, row in self.rows.items():
            node = self.loaded.nodes.get(node_id)
            if node is None or not node.state:
                yield self.difference(LOST, node_id, node, "The log does not tell that it began.")
            else:
                yield from self.fields(row, node)
        for node_id, node in self.loaded.nodes.items():
            if node.state and node_id not in self.rows:
                text = f"The log has it as {node.state}, and the engine has no row of it."
                yield self.difference(HOLE, node_id, node, text)

    def fields(self, row: StateRow, node: Node) -> Iterator[Difference]:
        names = FIELDS if self.loaded.facts.states_recorded else FIELDS[:1]
        found = [
            Field(name, getattr(row, name), node.state if name == "name" else getattr(node, name))
            for name in names
        ]
        differing = tuple(each for each in found if each.engine != each.log)
        if differing:
            text = ", ".join(
                f"{'state' if each.name == 'name' else each.name}: {each.engine!r} in the engine, "
                f"{each.log!r} by the log"
                for each in differing
            )
            yield self.difference(OURS, row.node_id, node, text, differing)
        places = (
            Field("root_id", row.root_id, self.loaded.root_pipeline_id),
            Field("parent_id", row.parent_id, node.place.parent_id or node.parent_id),
        )
        if row.node_id != self.loaded.root_pipeline_id:
            unlike = tuple(each for each in places if each.log and each.engine != each.log)
            if unlike and all(each.engine == "" for each in unlike):
                yield Difference(
                    kind=HOLE,
                    root_pipeline_id=self.loaded.root_pipeline_id,
                    node_id=row.node_id,
                    name=node.place.name,
                    text="It was paused before it was reached: the engine has no run for it yet.",
                    explained=True,
                    fields=unlike,
                    records=_positions(node),
                )
            elif unlike:
                yield self.difference(OURS, row.node_id, node, "It is in another place.", unlike)

    def difference(
        self, kind: str, node_id: str, node: Node | None, text: str, fields: tuple[Field, ...] = ()
    ) -> Difference:
        """With what explains it, if anything does: a gap first of all."""
        records, explained = _positions(node), False
        if self.gaps:
            kind, records, explained = LOST, self.gaps, True
        elif self.from_before:
            kind, explained = LOST, True
            text += " The run began before recording did."
        elif self.rolled_back or _was_raced(node):
            kind, explained = HOLE, True
        elif self.is_under_way(node_id):
            kind, explained = UNDER_WAY, True
        elif kind == HOLE:
            kind = OURS
        return Difference(
            kind=kind,
            root_pipeline_id=self.loaded.root_pipeline_id,
            node_id=node_id,
            name=node.place.name if node is not None else "",
            text=text,
            explained=explained,
            fields=fields,
            records=records,
        )


def _was_raced(node: Node | None) -> bool:
    """Whether two processes changed it at once: whose write was the last no signal tells."""
    if node is None:
        return False
    pairs = zip(node.transitions, node.transitions[1:], strict=False)
    return any(
        after.irregular and after.entered_at - before.entered_at < AT_ONCE
        for before, after in pairs
    )


def _gaps(reasons: Iterable[Reason]) -> tuple[int, ...]:
    return tuple(
        position for reason in reasons if reason.kind == GAP for position in reason.positions
    )


def _positions(node: Node | None) -> tuple[int, ...]:
    if node is None:
        return ()
    return tuple(each.cause.position for each in node.transitions[-2:])
