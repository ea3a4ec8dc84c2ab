"""The timelines of a run against the engine's own rows, and against each other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Collection
from random import Random
from typing import Any

from bamboo_engine import api
from pipeline.eri.models import State

from audit import conf, timeline
from audit.events import POST_SET_STATE
from audit.fold import fold
from audit.fold.clock import as_us
from audit.fold.tree import FORKS, Place
from audit.log import runs
from audit.models import NodeTimeline, PipelineTimeline, StateTransition
from lab.engine import runtime
from lab.scenarios import Run

NEAR = datetime.timedelta(seconds=float(os.environ.get("AUDIT_TEST_NEAR", "5")))
"""Some milliseconds in truth; but a machine that others use may stand still in between."""


def check(run: Run) -> None:
    """All of it; the timelines are caught up."""
    check_rows(run)
    check_load(run)
    check_moments(run)
    check_events_alone(run)
    check_states(run)


def raced(run: Run) -> set[str]:
    """Nodes that two processes changed at once: the engine's check and its write are not one step.

    Whose write was the last its signals cannot tell; the fold flags such changes.
    """
    return {
        node_id
        for node_id, node in timeline.load(run.root).nodes.items()
        if any(each.irregular and each.from_state for each in node.transitions)
    }


def check_rows(run: Run, but: Collection[str] = ()) -> None:
    """State, version, loop, retry, skip, error_ignored, root and parent of every row."""
    nodes = {row.node_id: row for row in NodeTimeline.objects.for_run(run.root)}
    found, engine = {}, {}
    for row in State.objects.filter(node_id__in=set(run.names) - set(but)):
        name = run.names[row.node_id]
        if row.node_id == run.root:
            top = PipelineTimeline.objects.get(pk=run.root)
            assert (top.state, top.version) == (row.name, row.version)
            near(top.started_at, row.started_time)
            if row.name != "REVOKED":  # the engine does not tell when that was
                near(top.finished_at, row.archived_time)
            continue
        node = nodes[row.node_id]
        engine[name] = (
            *(row.name, row.version, row.loop, row.retry, row.skip, row.error_ignored),
            *(row.root_id or run.root, row.parent_id or run.parents[row.node_id]),
        )
        found[name] = (
            *(node.state, node.version, node.loop, node.retry, node.skip, node.error_ignored),
            *(node.root_pipeline_id, node.parent_id),
        )
        near(node.started_at, row.started_time, name)
        if row.name in ("FINISHED", "FAILED"):
            near(node.finished_at, row.archived_time, (name, node.state, row.name))
        else:
            assert node.finished_at is None
    wrong = {name: (found.get(name), row) for name, row in engine.items() if found.get(name) != row}
    assert not wrong, (wrong, run.answers)
    unreached = {run.names[each] for each, node in nodes.items() if not node.state}
    skipped = {run.names[each] for each in but}
    assert unreached - skipped == set(run.names.values()) - set(engine) - skipped - {"root"}


def near(ours: Any, theirs: Any, what: Any = "") -> None:
    assert (ours is None) == (theirs is None), (what, ours, theirs)
    assert ours is None or abs(ours - theirs) < NEAR, (what, ours, theirs)


def check_load(run: Run) -> None:
    """Straight from the log the same comes out as the tables have."""
    loaded = timeline.load(run.root)
    for node in NodeTimeline.objects.for_run(run.root):
        fresh = loaded.nodes[node.node_id]
        assert (node.state, node.version, node.attempts) == (
            *(fresh.state, fresh.version),
            len(fresh.attempts),
        )
        assert (node.name, node.node_type) == (fresh.place.name, fresh.place.node_type)
    stored = StateTransition.objects.for_run(run.root)
    assert {
        (row.node_id, row.ordinal, row.from_state, row.state, row.entered_at, row.left_at)
        for row in stored
    } == {
        (each.node_id, each.ordinal, each.from_state, each.state, each.entered_at, each.left_at)
        for each in loaded.transitions
    }
    top = PipelineTimeline.objects.get(pk=run.root)
    assert not top.reasons
    assert top.interventions == sum(each.outcome == "done" for each in loaded.interventions)
    verdict = loaded.verdict()
    assert top in PipelineTimeline.objects.with_verdict(verdict.kind)
    assert verdict.kind in ("complete", "running", "waiting")
    if not loaded._run.is_over:
        assert loaded.waiting()


def check_moments(run: Run) -> None:
    """At any moment it is the fold of what had occurred by then."""
    records = runs.records(conf.get("DATABASE"), run.root)
    loaded = timeline.load(run.root)
    chance = Random(run.root)
    for record in chance.sample(records, min(3, len(records))):
        moment = datetime.datetime.fromtimestamp(record.at / 1_000_000, datetime.UTC)
        until = fold(run.root, [each for each in records if each.at <= as_us(moment)])
        assert until is not None
        then = timeline.load(run.root, at=moment)
        assert then._run.nodes == until.nodes
        states = {each: node.state for each, node in until.nodes.items() if node.state}
        assert loaded.state_at(moment) == then.state_at(moment) == states
        changed = {each.node_id for each in loaded.diff(moment, loaded.now).nodes}
        later = {each for each, node in loaded.nodes.items() if node.transitions}
        assert {each for each in later if states.get(each) != loaded.nodes[each].state} <= changed


def check_events_alone(run: Run) -> None:
    """Final states from pipeline_event alone, where it tells of them at all."""
    records = [
        each
        for each in runs.records(conf.get("DATABASE"), run.root)
        if each.event_type != POST_SET_STATE
    ]
    found = fold(run.root, records)
    assert found is not None
    engine = {row.node_id: row.name for row in State.objects.filter(node_id__in=list(run.names))}
    told = {
        each: found.nodes[each].state
        for each, state in engine.items()
        # Of a fork nothing tells before a node behind it is entered, and of an end nothing where
        # the engine could not end its subprocess, which somebody paused in that moment.
        if found.nodes[each].place.component_code
        or (
            state in ("FINISHED", "REVOKED", "SUSPENDED")
            and (found.nodes[each].state or found.nodes[each].place.node_type not in FORKS)
            and not _end_of_what_has_not_ended(found.nodes[each].place, engine)
        )
    }
    wrong = {
        run.names[each]: (state, engine[each])
        for each, state in told.items()
        if state != engine[each]
    }
    assert not wrong, wrong


def _end_of_what_has_not_ended(place: Place, engine: dict[str, str]) -> bool:
    return place.node_type == "EmptyEndEvent" and engine.get(place.parent_id) != "FINISHED"


def check_states(run: Run) -> None:
    """As the engine answers for its states itself."""
    for flat in (True, False):
        engine = api.get_pipeline_states(runtime, run.root, flat_children=flat).data
        ours = timeline.load(run.root).as_states(flat_children=flat)
        for root in (ours[run.root], engine[run.root]):
            # The engine takes these of whichever row its database answers last.
            del root["error_ignorable"], root["error_ignored"]
        # When a paused node was reached the engine told nobody.
        paused = State.objects.filter(root_id=run.root, name="SUSPENDED", started_time=None)
        hidden = set(paused.values_list("node_id", flat=True))
        ours, engine = comparable(ours, hidden), comparable(engine, hidden)
        assert ours == engine, f"{ours}\n{engine}"


def comparable(states: dict[str, Any], hidden: set[str]) -> Any:
    times = ("created_time", "started_time", "archived_time")
    return {
        node_id: {
            **{key: value for key, value in found.items() if key not in ("name", "ex_data")},
            **{key: found[key] is not None for key in times},
            "children": comparable(found["children"], hidden),
        }
        for node_id, found in states.items()
        if node_id not in hidden
    }
