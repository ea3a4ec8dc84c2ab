"""The fold of what the real engine sent, against the engine's own rows."""

from __future__ import annotations

import datetime
import random
from typing import Any

import pytest
from bamboo_engine import states as engine_states
from lab import scenarios
from lab.scenarios import Run
from lab.spy import written
from pipeline.eri.models import State

from audit.events import POST_SET_STATE
from audit.fold import Record, RunTimeline, fold
from audit.fold.clock import as_us
from audit.fold.states import LOOP_READY, TABLE
from audit.models import PipelineEventRecord

ALL = pytest.mark.parametrize(
    "scenario", scenarios.ALL.values(), ids=lambda scenario: scenario.__name__
)
NEAR = datetime.timedelta(seconds=5)
"""Milliseconds in truth; but a machine that others use may stand still in between."""


def as_record(stored: PipelineEventRecord) -> Record:
    return Record(
        stored.pk,
        as_us(stored.occurred_at),
        str(stored.writer_id),
        stored.writer_position,
        stored.event_type,
        stored.pipeline_id,
        stored.node_id,
        stored.node_version,
        stored.data,
        stored.context,
    )


def records_of(run: Run) -> list[Record]:
    return [as_record(each) for each in written() if each.root_pipeline_id == run.root]


def folded(run: Run, records: list[Record] | None = None) -> RunTimeline:
    found = fold(run.root, records_of(run) if records is None else records)
    assert found is not None
    return found


def rows(run: Run) -> dict[str, State]:
    return {row.node_id: row for row in State.objects.filter(node_id__in=list(run.names))}


@ALL
def test_every_row_of_the_engine_is_found_again(scenario: Any) -> None:
    run = scenario()
    timeline = folded(run)
    found, engine = {}, {}
    for node_id, row in rows(run).items():
        node, name = timeline.nodes[node_id], run.names[node_id]
        engine[name] = (
            *(row.name, row.version, row.loop, row.retry, row.skip, row.error_ignored),
            *(row.root_id or run.root, row.parent_id or run.parents[node_id]),
        )
        found[name] = (
            *(node.state, node.version, node.loop, node.retry, node.skip, node.error_ignored),
            *(node.place.root_pipeline_id, node.place.parent_id),
        )
        for theirs, ours in (
            (row.created_time, node.created_at),
            (row.started_time, node.started_at),
            (row.archived_time, node.archived_at),
        ):
            assert (theirs is None) == (ours is None), name
            assert theirs is None or abs(theirs - ours) < NEAR, name
    assert found == engine
    unreached = {run.names[each] for each, node in timeline.nodes.items() if not node.state}
    assert unreached == set(run.names.values()) - set(engine)


@ALL
def test_the_order_of_arrival_makes_no_difference(scenario: Any) -> None:
    run = scenario()
    records = records_of(run)
    expected = folded(run, records)
    chance = random.Random(scenario.__name__)
    for _ in range(3):
        shuffled = [*records, *chance.sample(records, len(records) // 2)]
        chance.shuffle(shuffled)
        assert folded(run, shuffled) == expected


@ALL
def test_events_alone_lead_to_the_same_final_states(scenario: Any) -> None:
    run = scenario()
    timeline = folded(run, [each for each in records_of(run) if each.event_type != POST_SET_STATE])
    found = {run.names[each]: timeline.nodes[each].state for each in rows(run)}
    engine = {run.names[each]: row.name for each, row in rows(run).items()}
    assert found == engine
    assert not timeline.facts.states_recorded


def test_the_table_of_transitions_is_the_engines() -> None:
    engine = engine_states.TRANSITION
    missing = {each: engine[each] - TABLE[each] for each in engine}
    assert not any(missing.values()), missing
    more = {each: TABLE[each] - engine.get(each, frozenset()) for each in TABLE if each}
    # Older engines have no retries of a loop.
    assert {*more} - {*engine} <= {LOOP_READY}
    assert all(allowed <= {LOOP_READY} for each, allowed in more.items() if each != LOOP_READY)
