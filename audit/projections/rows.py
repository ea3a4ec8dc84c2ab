"""The rows of a folded run: facts of its records only, so whoever makes them makes the same.

Each is a tuple of its table's columns, in the order of ``audit.log.timelines``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from audit.fold import RunTimeline
from audit.fold.clock import as_us
from audit.fold.completeness import Gap, expected_by, reasons
from audit.fold.operations import DONE
from audit.fold.results import Intervention, Node, Transition
from audit.fold.states import FAILED, FINISHED, LOOP_READY, READY, RUNNING, SUSPENDED
from audit.fold.waiting import waits
from audit.log.values import interval_text, list_text, time_text

MAX_TEXT: Final = 255
"""Characters of names, codes and actors: indexes take no long ones. The log has them whole."""
MAX_ERROR: Final = 10_000

Row = tuple[Any, ...]


class Counts(NamedTuple):
    """What a run's row counts of one of its nodes."""

    attempts: int
    failures: int
    retries: int
    skips: int
    is_failed: bool


def of_run(run: RunTimeline, gaps: Iterable[Gap], memo: dict[str, Counts] | None = None) -> Row:
    """The row of the run itself; ``memo``: what was counted of nodes that are as they were."""
    root, facts, memo = run.pipeline, run.facts, {} if memo is None else memo
    for node_id, node in run.nodes.items():
        if node_id not in memo and node is not root:
            memo[node_id] = _counted(node)
    memo.pop(run.root_pipeline_id, None)
    counts = memo.values()
    actor = run.start.actor if run.start is not None else ""
    expected = None if run.is_over else expected_by(run, waits(run))
    return (
        run.root_pipeline_id,
        root.place.name[:MAX_TEXT],
        run.tags,
        root.state[:MAX_TEXT],
        root.version,
        actor[:MAX_TEXT],
        time_text(root.started_us),
        time_text(root.finished_us),
        time_text(as_us(facts.first_at)),
        time_text(as_us(facts.last_at)),
        time_text(None if expected is None else as_us(expected)),
        len(counts),
        0 if run.is_over else sum(each.is_failed for each in counts),
        sum(each.attempts for each in counts),
        sum(each.failures for each in counts),
        sum(each.retries for each in counts),
        sum(each.skips for each in counts),
        sum(each.outcome == DONE for each in run.interventions),
        interval_text(_us(root.transitions, SUSPENDED)),
        [reason._asdict() for reason in reasons(run, gaps)],
        list_text(_actors([actor, *(each.cause.actor for each in run.interventions)])),
        list_text(sorted(facts.writers)),
        facts.first_position,
        facts.last_position,
    )


def _counted(node: Node) -> Counts:
    failures = retries = skips = 0
    for each in node.transitions:
        if each.state == FAILED:
            failures += 1
        elif each.from_state == FAILED:
            retries += each.state in (READY, LOOP_READY)
            skips += each.state == FINISHED and not each.irregular
    return Counts(len(node.attempts), failures, retries, skips, node.state == FAILED)


def of_nodes(run: RunTimeline, only: Collection[str] | None = None) -> list[Row]:
    """The rows of its nodes; ``only``: of these."""
    last = run.facts.positions
    done: dict[str, list[Intervention]] = {}
    for each in run.interventions:
        done.setdefault(each.node_id, []).append(each)
    # Of a run that never came to be its nodes may be another's: the engine refuses a tree whose
    # nodes it knows already.
    is_real = run.facts.handed_over or not run.facts.started
    root, root_id = run.pipeline, run.root_pipeline_id
    return [
        _of_node(root_id, node, done.get(node_id, ()), last.get(node_id, 0))
        for node_id, node in _some(run, only)
        if node is not root and (node.state or is_real)
    ]


def _of_node(
    root_id: str, node: Node, interventions: Iterable[Intervention], last_position: int
) -> Row:
    place, failures, running = node.place, 0, 0
    for each in node.transitions:
        if each.state == RUNNING and each.left_us is not None:
            running += each.left_us - each.entered_us
        elif each.state == FAILED:
            failures += 1
    return (
        place.node_id,
        root_id,
        place.parent_id or node.parent_id,
        place.name[:MAX_TEXT],
        place.node_type[:MAX_TEXT],
        place.component_code[:MAX_TEXT],
        place.template_node_id[:MAX_TEXT],
        node.state[:MAX_TEXT],
        node.version,
        node.loop,
        node.retry,
        node.skip,
        node.error_ignored,
        len(node.attempts),
        failures,
        sum(each.outcome == DONE for each in interventions) if interventions else 0,
        list_text(_actors(each.cause.actor for each in interventions)) if interventions else "{}",
        time_text(node.started_us),
        time_text(node.finished_us),
        interval_text(running),
        node.error[:MAX_ERROR],
        last_position,
    )


def _some(run: RunTimeline, only: Collection[str] | None) -> Iterable[tuple[str, Node]]:
    if only is None:
        return run.nodes.items()
    return [(each, run.nodes[each]) for each in only if each in run.nodes]


def of_transitions(
    run: RunTimeline, only: Collection[str] | None = None, since: int = 0
) -> list[Row]:
    """The rows of the transitions of the run and of its nodes; ``only``: of these.

    ``since``: without those that were left by then, in microseconds.
    """
    root_id = run.root_pipeline_id
    found: list[Row] = []
    for _, node in _some(run, only):
        for each in node.transitions:
            node_id, no, before, state, entered, left, version, loop, attempt, cause, odd = each
            if left is not None and left <= since:
                continue
            position, event_type, actor, _, reason, _ = cause
            found.append(
                (
                    *(node_id, no, root_id, before[:MAX_TEXT], state[:MAX_TEXT]),
                    *(time_text(entered), time_text(left), version, loop, attempt),
                    *(position, event_type, actor[:MAX_TEXT], reason[:MAX_ERROR], odd),
                )
            )
    return found


def _actors(names: Iterable[str]) -> list[str]:
    return sorted({name[:MAX_TEXT] for name in names if name})


def _us(transitions: Iterable[Transition], state: str) -> int:
    """How long it was in a state that it has left."""
    return sum(
        each.left_us - each.entered_us
        for each in transitions
        if each.state == state and each.left_us is not None
    )
