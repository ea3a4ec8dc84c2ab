"""The rows of a folded run: facts of its records only, so whoever makes them makes the same."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, Final

from audit.fold import RunTimeline
from audit.fold.completeness import Gap, expected_by, reasons
from audit.fold.operations import DONE
from audit.fold.results import Intervention, Node, Transition
from audit.fold.states import FAILED, FINISHED, LOOP_READY, READY, RUNNING, SUSPENDED
from audit.fold.waiting import waits

MAX_TEXT: Final = 255
"""Characters of names, codes and actors: indexes take no long ones. The log has them whole."""
MAX_ERROR: Final = 10_000

Row = dict[str, Any]


def of_run(run: RunTimeline, gaps: Iterable[Gap]) -> Row:
    """The row of the run itself."""
    root, facts = run.pipeline, run.facts
    inner = [node for node in run.nodes.values() if node is not root]
    changes = [each for node in inner for each in node.transitions]
    actor = run.start.actor if run.start is not None else ""
    return {
        "root_pipeline_id": run.root_pipeline_id,
        "name": root.place.name[:MAX_TEXT],
        "tags": run.tags,
        "state": root.state[:MAX_TEXT],
        "version": root.version,
        "actor": actor[:MAX_TEXT],
        "started_at": root.started_at,
        "finished_at": root.finished_at,
        "first_at": facts.first_at,
        "last_at": facts.last_at,
        "expected_by": None if run.is_over else expected_by(run, waits(run)),
        "nodes": len(inner),
        "failed_nodes": 0 if run.is_over else sum(node.state == FAILED for node in inner),
        "attempts": sum(len(node.attempts) for node in inner),
        "failures": _count(changes, "", FAILED),
        "retries": _count(changes, FAILED, READY, LOOP_READY),
        "skips": _count([each for each in changes if not each.irregular], FAILED, FINISHED),
        "interventions": sum(each.outcome == DONE for each in run.interventions),
        "paused": _seconds(root.transitions, SUSPENDED),
        "reasons": [reason._asdict() for reason in reasons(run, gaps)],
        "actors": _actors([actor, *(each.cause.actor for each in run.interventions)]),
        "writers": sorted(facts.writers),
        "first_position": facts.first_position,
        "last_position": facts.last_position,
    }


def of_nodes(run: RunTimeline) -> list[Row]:
    """The rows of its nodes."""
    last = run.facts.positions
    done: dict[str, list[Intervention]] = {}
    for each in run.interventions:
        done.setdefault(each.node_id, []).append(each)
    # Of a run that never came to be its nodes may be another's: the engine refuses a tree whose
    # nodes it knows already.
    is_real = run.facts.handed_over or not run.facts.started
    return [
        _of_node(run, node, done.get(node.place.node_id, []), last.get(node.place.node_id, 0))
        for node in run.nodes.values()
        if node is not run.pipeline and (node.state or is_real)
    ]


def _of_node(
    run: RunTimeline, node: Node, interventions: list[Intervention], last_position: int
) -> Row:
    place = node.place
    return {
        "node_id": place.node_id,
        "root_pipeline_id": run.root_pipeline_id,
        "parent_id": place.parent_id or node.parent_id,
        "name": place.name[:MAX_TEXT],
        "node_type": place.node_type[:MAX_TEXT],
        "component_code": place.component_code[:MAX_TEXT],
        "template_node_id": place.template_node_id[:MAX_TEXT],
        "state": node.state[:MAX_TEXT],
        "version": node.version,
        "loop": node.loop,
        "retry": node.retry,
        "skip": node.skip,
        "error_ignored": node.error_ignored,
        "attempts": len(node.attempts),
        "failures": _count(node.transitions, "", FAILED),
        "interventions": sum(each.outcome == DONE for each in interventions),
        "actors": _actors(each.cause.actor for each in interventions),
        "started_at": node.started_at,
        "finished_at": node.finished_at,
        "running": _seconds(node.transitions, RUNNING),
        "last_error": node.error[:MAX_ERROR],
        "last_position": last_position,
    }


def of_transitions(run: RunTimeline) -> list[Row]:
    """The rows of the transitions of the run and of its nodes."""
    return [
        {
            "node_id": each.node_id,
            "ordinal": each.ordinal,
            "root_pipeline_id": run.root_pipeline_id,
            "from_state": each.from_state[:MAX_TEXT],
            "state": each.state[:MAX_TEXT],
            "entered_at": each.entered_at,
            "left_at": each.left_at,
            "version": each.version,
            "loop": each.loop,
            "attempt": each.attempt,
            "cause": each.cause.position,
            "cause_type": each.cause.event_type,
            "actor": each.cause.actor[:MAX_TEXT],
            "reason": each.cause.reason[:MAX_ERROR],
            "irregular": each.irregular,
        }
        for node in run.nodes.values()
        for each in node.transitions
    ]


def _actors(names: Iterable[str]) -> list[str]:
    return sorted({name[:MAX_TEXT] for name in names if name})


def _count(transitions: Iterable[Transition], before: str, *states: str) -> int:
    """How many transitions lead to one of these states; ``before``: from that one only."""
    return sum(
        each.state in states and (not before or each.from_state == before) for each in transitions
    )


def _seconds(transitions: Iterable[Transition], state: str) -> str:
    """How long it was in a state that it has left, as PostgreSQL reads intervals."""
    total = datetime.timedelta()
    for each in transitions:
        if each.state == state and each.left_at is not None:
            total += each.left_at - each.entered_at
    return f"{total // datetime.timedelta(microseconds=1)} microseconds"
