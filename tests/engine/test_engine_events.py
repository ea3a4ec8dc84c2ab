"""Every event that the engine sends is recorded: once, whole, and with its run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab import scenarios
from lab.scenarios import Run, subprocess
from lab.spy import Seen, Spy, written
from pipeline.eri.models import State

from audit import receivers
from audit.capture.failures import failures
from audit.capture.ids import known_nodes
from audit.events import ENGINE_EVENTS, POST_SET_STATE
from audit.models import PipelineEventRecord


def as_stored(value: Any) -> Any:
    """The JSON of what was sent, but for what PostgreSQL refuses in a string."""
    if isinstance(value, dict):
        return {key: as_stored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_stored(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "␀")
    return value


def pipeline_of(seen: Seen, run: Run) -> str:
    """Which pipeline a signal is about, from the scenario's own tree."""
    data = seen.data
    if "node_id" in data:
        return run.root if data["node_id"] == run.root else run.parents[data["node_id"]]
    return str(data.get("pipeline_id") or data["pipeline"]["id"])


def check(seen: Seen, record: PipelineEventRecord, run: Run) -> None:
    assert record.event_type == seen.event_type
    assert record.data == as_stored(json.loads(json.dumps(seen.data)))
    assert record.root_pipeline_id == run.root
    assert record.pipeline_id == pipeline_of(seen, run)
    assert record.node_id == seen.data.get("node_id", "")
    assert record.node_version == (seen.data.get("version") or seen.data.get("new_version") or "")
    if seen.event_type == POST_SET_STATE:
        assert seen.sender is State
        assert record.context["sender"] == "pipeline.eri.models.State"
    else:
        assert "sender" not in record.context


@pytest.mark.parametrize("name", scenarios.ALL)
def test_every_signal_of_a_run_is_recorded_once_and_whole(name, spy):
    run = scenarios.ALL[name]()

    assert all(done for _, done in run.answers)
    assert run.crashes == []
    records = written()
    assert [record.event_type for record in records] == spy.types()
    for seen, record in zip(spy.seen, records, strict=True):
        check(seen, record, run)
    assert [record.writer_position for record in records] == list(range(1, len(records) + 1))
    assert failures.summary().total == 0


def test_the_scenarios_make_the_engine_send_each_of_its_37_types(spy, configure):
    configure(DELIVERY="off")

    for scenario in scenarios.ALL.values():
        scenario()

    sent = set(spy.types()) - {POST_SET_STATE}
    assert sent == {event.name for event in ENGINE_EVENTS}
    assert len(sent) == 37


def test_a_receiver_in_front_of_ours_changes_nothing():
    spy = Spy()
    for uid, signal in receivers.signals().items():
        assert signal.disconnect(dispatch_uid=uid)
    with spy.listening():
        receivers.connect()
        run = scenarios.execute_false_then_retry()

    for seen, record in zip(spy.seen, written(), strict=True):
        check(seen, record, run)


def test_an_operation_on_a_subprocess_belongs_to_the_run():
    run = scenarios.pause_and_resume_subprocess()

    operations = [record for record in written() if record.event_type.endswith("e_pipeline")]
    assert [record.event_type for record in operations] == [
        "pre_pause_pipeline",
        "post_pause_pipeline",
        "pre_resume_pipeline",
        "post_resume_pipeline",
    ]
    for record in operations:
        assert record.data == {"pipeline_id": run.ids["sub"]}
        assert record.pipeline_id == run.ids["sub"]
        assert record.root_pipeline_id == run.root


def test_a_node_that_is_paused_before_it_is_reached_belongs_to_the_run():
    run = scenarios.pause_and_resume_node_before_it_is_reached()

    states = [r for r in written() if (r.event_type, r.node_id) == (POST_SET_STATE, run.ids["B"])]
    assert [(record.data["to_state"], record.data["root_id"]) for record in states] == [
        ("SUSPENDED", ""),  # what the engine says, kept as it was said
        ("READY", ""),
        ("RUNNING", ""),
        ("FINISHED", run.root),
    ]
    assert {record.root_pipeline_id for record in states} == {run.root}
    assert {record.pipeline_id for record in states} == {run.root}


@pytest.mark.parametrize(
    ("scenario", "operation", "name"),
    [
        (scenarios.callback_waits, "pause_pipeline", "root"),
        (scenarios.callback_waits, "pause_pipeline", "sub"),
        (scenarios.callback_waits, "pause_node_appoint", "sub/A"),
        (scenarios.callback_waits, "revoke_pipeline", "root"),
        (scenarios.execute_false, "retry_node", "A"),
        (scenarios.execute_false, "skip_node", "A"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_process_that_never_saw_the_tree_finds_the_run_in_the_log(scenario, operation, name):
    run = scenario()
    before = len(written())
    known_nodes._reset()

    assert run.call(operation, name, work=False).result

    records = written()[before:]
    assert records[0].event_type.startswith("pre_")
    assert records[0].root_pipeline_id == run.root
    assert records[-1].event_type.startswith("post_")
    assert records[-1].root_pipeline_id == run.root


@pytest.mark.parametrize("name", ["root", "sub"])
def test_the_log_knows_the_run_without_state_changes_too(name, configure):
    configure(RECORD_STATE_CHANGES=False)
    run = scenarios.callback_waits()
    known_nodes._reset()

    run.call("pause_pipeline", name, work=False)

    pre, post = written()[-2:]
    assert (pre.event_type, post.event_type) == ("pre_pause_pipeline", "post_pause_pipeline")
    assert pre.root_pipeline_id == run.root
    assert post.root_pipeline_id == run.root


def test_a_node_that_nobody_has_seen_is_recorded_without_a_run():
    run = Run(scenarios.tree_of(scenarios.activity("lab_ok", "A"))).start(work=False)
    known_nodes._reset()

    run.call("pause_node_appoint", "A", work=False)

    for record in written()[-3:]:
        assert record.node_id == run.ids["A"]
        assert record.root_pipeline_id == ""


def test_ids_are_learnt_while_nothing_is_recorded(configure):
    configure(EXCLUDE_EVENTS=["pre_prepare_run_pipeline"], RECORD_STATE_CHANGES=False)
    run = Run(scenarios.tree_of(subprocess("sub", scenarios.activity("lab_ok", "A"))))
    run.start(work=False)

    run.call("pause_node_appoint", "sub/A", work=False)

    record = written()[-1]
    assert record.event_type == "post_pause_node"
    assert (record.root_pipeline_id, record.pipeline_id) == (run.root, run.ids["sub"])
