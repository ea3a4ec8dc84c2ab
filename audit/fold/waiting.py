"""Why a run does not go on: of each node that is under way, what it waits for and since when."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Final, NamedTuple

from audit.fold import results
from audit.fold.clock import as_time
from audit.fold.results import Attempt, Cause, Node, Phase, RunTimeline
from audit.fold.states import FAILED, FINISHED, LOOP_READY, READY, RUNNING, SUSPENDED
from audit.fold.tree import CONVERGE, PIPELINE, SUBPROCESSES

EXECUTING: Final = "executing"
"""Its plugin is at work, or a worker is with it."""
POLLING: Final = "polling"
"""Its plugin is called again and again until it is done."""
SCHEDULED: Final = "scheduled"
"""Its plugin is to be called again: for a first poll, or when a callback comes."""
CALLBACK: Final = "callback"
"""Its plugin has been called back before, and is to be again."""
CALLED_BACK: Final = "called_back"
"""A callback came, and no worker has taken it up."""
PAUSED: Final = "paused"
"""Somebody paused it."""
CONVERGING: Final = "converging"
"""A converge gateway waits for its other branches."""
FAILURE: Final = "failed"
"""It failed, and waits for somebody to retry or skip it."""
READY_TO_RUN: Final = "ready"
"""It is to run, and no worker has taken it up."""
HAND_OVER: Final = "hand_over"
"""The run was begun, and never given to a worker."""
BETWEEN: Final = "between"
"""It is done, and what follows it, in its branch or in the run, has not begun."""

GOES_ON: Final = frozenset({EXECUTING, POLLING, CALLED_BACK, READY_TO_RUN, HAND_OVER, BETWEEN})
"""What should go on of itself. All else may wait as long as people or other systems like."""
PATIENCE: Final = datetime.timedelta(hours=1)
"""For so long nothing may be heard of what should go on."""
POLLS_MISSED: Final = 10
"""After so many polls that did not come the same holds, where that is longer."""


class Wait(NamedTuple):
    """A node that is under way, and what it waits for."""

    node_id: str
    why: str
    since: datetime.datetime
    cause: Cause | None = None
    """Who paused it, made it ready, or the event that tells of its failure."""
    on: tuple[str, ...] = ()
    """The nodes that a converge gateway waits for."""
    polls: int = 0
    last_poll_at: datetime.datetime | None = None
    next_poll_at: datetime.datetime | None = None
    """When the next poll is to be expected, judged by the two before."""

    @property
    def expected_by(self) -> datetime.datetime | None:
        """By then more should be heard of it; None where it may take as long as it likes."""
        if self.why not in GOES_ON:
            return None
        since, patience = self.since, PATIENCE
        if self.last_poll_at is not None:
            since = self.last_poll_at
        if self.next_poll_at is not None and self.last_poll_at is not None:
            patience = max(patience, (self.next_poll_at - self.last_poll_at) * POLLS_MISSED)
        return since + patience


def waits(run: RunTimeline) -> tuple[Wait, ...]:
    """What is under way in a run, in the order of its tree; nothing where it is over."""
    if run.is_over:
        return ()
    facts = run.facts
    if not facts.handed_over and facts.started:
        return (Wait(run.root_pipeline_id, HAND_OVER, facts.first_at),)
    found = [wait for node in run.nodes.values() for wait in _of_node(run, node)]
    if facts.states_recorded:
        found += _between(run)
    if not found:
        found.append(Wait(run.root_pipeline_id, BETWEEN, facts.last_at))
    return tuple(found)


def is_held(run: RunTimeline, node_id: str) -> bool:
    """Whether the run, or a subprocess that a node is in, is paused."""
    seen: set[str] = set()
    while node_id and node_id not in seen:
        seen.add(node_id)
        node = run.nodes.get(node_id)
        if node is None:
            return False
        if node.state == SUSPENDED:
            return True
        node_id = node.place.parent_id
    return False


def _of_node(run: RunTimeline, node: Node) -> Iterator[Wait]:
    node_id, state = node.place.node_id, node.state
    if node.place.node_type == CONVERGE and state in ("", FINISHED):
        yield from _converging(run, node)
    if state in ("", FINISHED):
        return
    now = node.transitions[-1]
    if state == SUSPENDED:
        yield Wait(node_id, PAUSED, now.entered_at, now.cause)
    elif state == FAILED:
        yield Wait(node_id, FAILURE, now.entered_at, now.cause)
    elif state in (READY, LOOP_READY):
        yield Wait(node_id, READY_TO_RUN, now.entered_at, now.cause)
    elif state == RUNNING and node.place.node_type not in (PIPELINE, *SUBPROCESSES):
        yield _running(node, node.attempts[-1] if node.attempts else None)


def _running(node: Node, attempt: Attempt | None) -> Wait:
    node_id = node.place.node_id
    phase = attempt.phases[-1] if attempt is not None and attempt.phases else None
    if phase is None or phase.ended_at is not None:
        return Wait(node_id, EXECUTING, node.transitions[-1].entered_at)
    if phase.kind == results.POLLING:
        return _polling(node_id, phase)
    if phase.kind == results.CALLBACK and phase.arrived_at is not None:
        return Wait(node_id, CALLED_BACK, phase.arrived_at)
    kind = {results.SCHEDULED: SCHEDULED, results.CALLBACK: CALLBACK}.get(phase.kind, EXECUTING)
    return Wait(node_id, kind, phase.started_at)


def _polling(node_id: str, phase: Phase) -> Wait:
    last, interval = phase.last_poll_at, phase.poll_interval
    expected = last + interval if last is not None and interval is not None else None
    return Wait(node_id, POLLING, phase.started_at, None, (), phase.polls, last, expected)


def _converging(run: RunTimeline, gateway: Node) -> Iterator[Wait]:
    """Whether some branches have come since it last began, and others are under way."""
    began = gateway.attempts[-1].started_us if gateway.attempts else None
    came = []
    for source in gateway.place.sources:
        at = _came_at(run, source)
        if at is not None and (began is None or at > began):
            came.append((at, source))
    if not came:
        return
    others = set(gateway.place.sources) - {source for _, source in came}
    if on := _under_way(run, others):
        yield Wait(gateway.place.node_id, CONVERGING, as_time(min(came)[0]), None, on)


def _came_at(run: RunTimeline, source: str) -> int | None:
    node = run.nodes.get(source)
    return node.archived_us if node is not None and node.state == FINISHED else None


def _under_way(run: RunTimeline, ends: set[str]) -> tuple[str, ...]:
    """The nodes that are under way on the branches with these ends."""
    pending, seen, found = list(ends), set(ends), []
    while pending:
        node = run.nodes.get(pending.pop())
        if node is None:
            continue
        if node.state not in ("", FINISHED):
            found.append(node.place.node_id)
            continue
        if node.state == FINISHED:
            continue
        fresh = set(node.place.sources) - seen
        seen |= fresh
        pending += fresh
    order = list(run.nodes)
    return tuple(sorted(found, key=order.index))


def _between(run: RunTimeline) -> Iterator[Wait]:
    """Nodes that are done, of which none that follows has begun since."""
    following: dict[str, list[Node]] = {}
    for node in run.nodes.values():
        for source in node.place.sources:
            following.setdefault(source, []).append(node)
    for node_id, after in following.items():
        at = _came_at(run, node_id)
        if at is None or any(_has_gone_on(node, at) for node in after):
            continue
        yield Wait(node_id, BETWEEN, as_time(at))


def _has_gone_on(node: Node, since: int) -> bool:
    """Whether a node began since then, is paused, or waits for other branches anyway."""
    if node.place.node_type == CONVERGE or node.state not in ("", FINISHED):
        return True
    return bool(node.attempts) and node.attempts[-1].started_us >= since
