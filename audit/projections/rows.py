"""The rows of a folded run: facts of its records only, so whoever makes them makes the same.

Each is a tuple of its table's columns, in the order of ``audit.log.timelines``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

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


def of_run(run: RunTimeline, gaps: Iterable[Gap]) -> Row:
    """The row of the run itself."""
    root, facts = run.pipeline, run.facts
    inner = [node for node in run.nodes.values() if node is not root]
    changes = [each for node in inner for each in node.transitions]
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
        len(inner),
        0 if run.is_over else sum(node.state == FAILED for node in inner),
        sum(len(node.attempts) for node in inner),
        sum(each.state == FAILED for each in changes),
        _count(changes, FAILED, READY, LOOP_READY),
        _count([each for each in changes if not each.irregular], FAILED, FINISHED),
        sum(each.outcome == DONE for each in run.interventions),
        interval_text(_us(root.transitions, SUSPENDED)),
        [reason._asdict() for reason in reasons(run, gaps)],
        list_text(_actors([actor, *(each.cause.actor for each in run.interventions)])),
        list_text(sorted(facts.writers)),
        facts.first_position,
        facts.last_position,
    )


def of_nodes(run: RunTimeline) -> list[Row]:
    """The rows of its nodes."""
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
        for node_id, node in run.nodes.items()
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


def of_transitions(run: RunTimeline) -> list[Row]:
    """The rows of the transitions of the run and of its nodes."""
    root_id = run.root_pipeline_id
    found: list[Row] = []
    for node in run.nodes.values():
        for each in node.transitions:
            node_id, no, before, state, entered, left, version, loop, attempt, cause, odd = each
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


def _count(transitions: Iterable[Transition], before: str, *states: str) -> int:
    """How many transitions lead from a state to one of these."""
    return sum(each.from_state == before and each.state in states for each in transitions)


def _us(transitions: Iterable[Transition], state: str) -> int:
    """How long it was in a state that it has left."""
    return sum(
        each.left_us - each.entered_us
        for each in transitions
        if each.state == state and each.left_us is not None
    )
