"""A timeline as plain values: as JSON for front ends, and as the engine answers for its states."""

from __future__ import annotations

import datetime
from typing import Any

from audit.fold.completeness import Verdict
from audit.fold.results import Attempt, Cause, Intervention, Node, RunTimeline, Transition
from audit.fold.states import RUNNING
from audit.fold.waiting import Wait


def of_run(
    run: RunTimeline, waiting: tuple[Wait, ...], verdict: Verdict, at: datetime.datetime | None
) -> dict[str, Any]:
    """The whole timeline: JSON has all of its values."""
    facts = run.facts
    return {
        "root_pipeline_id": run.root_pipeline_id,
        "name": run.pipeline.place.name,
        "tags": dict(run.tags),
        "at": _time(at),
        "state": run.pipeline.state,
        "started_at": _time(run.pipeline.started_at),
        "finished_at": _time(run.pipeline.finished_at),
        "verdict": {
            "kind": verdict.kind,
            "reasons": [
                {**reason._asdict(), "nodes": list(reason.nodes)} for reason in verdict.reasons
            ],
        },
        "waiting": [_plain(wait) for wait in waiting],
        "interventions": [_intervention(each) for each in run.interventions],
        "facts": {
            "started": facts.started,
            "handed_over": facts.handed_over,
            "states_recorded": facts.states_recorded,
            "first_at": _time(facts.first_at),
            "last_at": _time(facts.last_at),
            "first_position": facts.first_position,
            "last_position": facts.last_position,
            "irregular": facts.irregular,
            "foreign": facts.foreign,
            "polls_suppressed": facts.polls_suppressed,
        },
        "nodes": [_node(node) for node in run.nodes.values()],
    }


def as_states(run: RunTimeline, *, flat_children: bool) -> dict[str, Any]:
    """As ``bamboo_engine.api.get_pipeline_states`` answers, with its spelling and its quirks.

    Of a node that was paused before it was reached the engine does not know the run: it is left
    out there, and here. (When a paused node is reached the engine tells nobody: here it is left
    out until somebody resumes it.) Whether the run's own error was ignored the engine takes from
    whichever row its database answers last; here it is the run's.
    """
    root = run.pipeline
    if not root.state:
        return {}
    reached = [
        node
        for node in run.nodes.values()
        if node.state and (node.root_id or any(map(_has_run, node.transitions)))
    ]
    reached.sort(key=lambda node: node.transitions[0].cause.position)
    children = {
        node.place.node_id: _state(
            node, run.root_pipeline_id, node.place.parent_id or node.parent_id
        )
        for node in reached
        if node is not root
    }
    if not flat_children:
        for node_id, state in children.items():
            if state["parent_id"] in children:
                children[state["parent_id"]]["children"][node_id] = state
        children = {
            node_id: state
            for node_id, state in children.items()
            if state["parent_id"] == run.root_pipeline_id
        }
    found = _state(root, run.root_pipeline_id, run.root_pipeline_id)
    found["children"] = children
    return {run.root_pipeline_id: found}


def _has_run(transition: Transition) -> bool:
    return transition.state == RUNNING


def _state(node: Node, root_id: str, parent_id: str) -> dict[str, Any]:
    return {
        "id": node.place.node_id,
        "state": node.state,
        "root_id:": root_id,  # the engine's spelling
        "parent_id": parent_id,
        "version": node.version,
        "loop": node.loop,
        "retry": node.retry,
        "skip": node.skip,
        "error_ignorable": node.error_ignored,
        "error_ignored": node.error_ignored,
        "created_time": node.created_at,
        "started_time": node.started_at,
        "archived_time": node.archived_at,
        "children": {},
        "name": node.place.name,
        "ex_data": node.error,
    }


def _node(node: Node) -> dict[str, Any]:
    place = node.place
    return {
        "node_id": place.node_id,
        "parent_id": place.parent_id,
        "name": place.name,
        "node_type": place.node_type,
        "component_code": place.component_code,
        "template_node_id": place.template_node_id,
        "state": node.state,
        "version": node.version,
        "loop": node.loop,
        "retry": node.retry,
        "skip": node.skip,
        "error_ignored": node.error_ignored,
        "started_at": _time(node.started_at),
        "finished_at": _time(node.finished_at),
        "error": node.error,
        "transitions": [_transition(each) for each in node.transitions],
        "attempts": [_attempt(each) for each in node.attempts],
    }


def _transition(transition: Transition) -> dict[str, Any]:
    return _plain(transition) | {"cause": _cause(transition.cause)}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    phases = [_plain(phase) for phase in attempt.phases]
    return _plain(attempt) | {"cause": _cause(attempt.cause), "phases": phases}


def _intervention(intervention: Intervention) -> dict[str, Any]:
    return _plain(intervention) | {"cause": _cause(intervention.cause)}


def _cause(cause: Cause) -> dict[str, Any]:
    return cause._asdict()


def _plain(found: Any) -> dict[str, Any]:
    """The fields of a result; those that it keeps in microseconds as times."""
    names = (_public(found, name) for name in found._fields)
    return {name: _value(getattr(found, name)) for name in names}


def _public(found: Any, name: str) -> str:
    base = name.removesuffix("_us")
    if base == name or hasattr(found, base):
        return base
    return f"{base}_at"


def _value(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return _time(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Cause):
        return _cause(value)
    return list(value) if type(value) is tuple else value


def _time(value: datetime.datetime | None) -> str | None:
    return None if value is None else value.isoformat()
