from __future__ import annotations

import datetime
import json
import uuid

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from lab.by_hand import WEB, WORKER, Records
from lab.stored import moment, store, writer_id

from audit import conf, timeline
from audit.exceptions import NotRecorded
from audit.fold.completeness import GAP, INCOMPLETE

pytestmark = pytest.mark.django_db(databases="__all__")

SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def records():
    return Records()


@pytest.fixture
def failed(records):
    """A run that stands at a failure of its activity, which alice retried once."""
    records.start({"task_id": 42})
    records.runs("a")
    records.add("node_execute_fail", "a")
    records.state("a", "FAILED")
    records.add("pre_retry_node", "a", by=WEB, context={"actor": "alice", "reason": "why not"})
    records.state("a", "READY", "v2", by=WEB)
    records.add("post_retry_node", "a", by=WEB)
    records.runs("a", "v2")
    records.add("node_execute_exception", "a", ex_data="Traceback\nValueError: no")
    records.state("a", "FAILED", "v2")
    return records


def gap(position: int, *, of: str | None = None, **data) -> None:
    """A gap record of a writer, told by itself or by another one (``of``)."""
    told = {"count": 3, "first_at": None, **data}
    if of:
        told["writer_id"] = str(writer_id(of))
    one = Records()
    found = one.add("gap", by="shipper" if of else WORKER, **told)
    store([found._replace(writer_position=position, at=10_000_000)], root="")


@pytest.mark.parametrize("asked_for", ["run", "a", "sub"])
def test_a_run_is_found_by_its_id_and_by_those_of_its_nodes(failed, asked_for):
    failed.state("sub", "RUNNING", loop=1)
    store(failed.all)
    found = timeline.load(asked_for)
    assert found.root_pipeline_id == "run"
    assert found.asked_for == asked_for
    assert found.tags == {"task_id": 42}
    assert found.nodes["a"].state == "FAILED"
    assert [each.no for each in found.attempts("a")] == [1, 2]
    assert found.attempts("a")[1].cause.actor == "alice"
    assert found.attempts("a")[1].error == "Traceback\nValueError: no"
    assert [each.outcome for each in found.interventions] == ["done"]


def test_what_is_not_recorded_is_told(failed):
    began = store(failed.all)
    with pytest.raises(NotRecorded, match="no record of 'nobody'"):
        timeline.load("nobody")
    with pytest.raises(NotRecorded, match="until"):
        timeline.load("run", at=began - SECOND)
    with pytest.raises(NotRecorded, match="has no node 'b2'"):
        timeline.load("run").attempts("b2")
    with pytest.raises(ValueError, match="no time zone"):
        timeline.load("run", at=datetime.datetime(2026, 3, 1))
    with pytest.raises(ValueError, match="before the start"):
        timeline.load("run").diff(began + SECOND, began)
    for moment_of in (timeline.load("run").state_at, lambda t: timeline.load("run", at=t)):
        with pytest.raises(ValueError, match="no time zone"):
            moment_of(datetime.datetime(2026, 3, 1))
        far = datetime.datetime.max.replace(tzinfo=datetime.timezone(-datetime.timedelta(hours=9)))
        with pytest.raises(ValueError, match="out of range"):
            moment_of(far)
    with pytest.raises(ValueError, match="load it again"):
        timeline.load("run", at=began + SECOND).state_at(began + 2 * SECOND)


@pytest.mark.parametrize("asked_for", ["", "\0", "\udcff", "x" * 9_000, "发布"])
def test_what_can_be_no_id_is_not_found(failed, asked_for):
    store(failed.all)
    with pytest.raises(NotRecorded):
        timeline.load(asked_for)


def test_any_instant_is_what_was_known_then(failed):
    began = store(failed.all)
    retried = next(each for each in failed.all if each.event_type == "pre_retry_node")
    before = timeline.load("run", at=moment(began, retried) - datetime.timedelta(microseconds=1))
    assert [each.no for each in before.attempts("a")] == [1]
    assert before.interventions == ()
    assert before.nodes["a"].state == "FAILED"
    # In the same instant it is there.
    assert len(timeline.load("run", at=moment(began, retried)).interventions) == 1
    now = timeline.load("run")
    assert (
        now.state_at(before.at) == before.state_at(before.at) == {"run": "RUNNING", "a": "FAILED"}
    )
    assert now.state_at(began) == {}
    changed = now.diff(before.at, now.now)
    assert [each.node_id for each in changed.nodes] == ["a"]
    (node,) = changed.nodes
    assert (node.from_state, node.state) == ("FAILED", "FAILED")
    assert [each.state for each in node.transitions] == ["READY", "RUNNING", "FAILED"]
    assert [each.operation for each in changed.interventions] == ["retry_node"]
    assert now.diff(now.now, now.now).nodes == ()


def test_operations_of_an_unknown_run_are_found_by_their_node(records):
    records.start()
    asked = records.add("pre_callback", "a", by=WEB, context={"actor": "alice"})
    records.runs("a")
    early = records.add("pre_pause_node", "b", by=WEB, context={"actor": "bob"})
    began = store([each for each in records.all if each not in (asked, early)])
    store([asked, early], root="", since=began)
    found = timeline.load("run").interventions
    assert [each.operation for each in found] == ["callback", "pause_node"], "b was never reached"
    # Also before any other record names the node.
    before = timeline.load("run", at=moment(began, asked)).interventions
    assert [each.operation for each in before] == ["callback"]


def test_the_transitions_are_in_the_order_of_time(failed):
    store(failed.all)
    found = timeline.load("run").transitions
    assert [each.entered_at for each in found] == sorted(each.entered_at for each in found)
    assert {each.node_id for each in found} == {"run", "a"}
    assert found[0].left_at is None, "the run goes on"


def test_as_dict_is_what_json_has(failed):
    store(failed.all)
    found = timeline.load("run")
    shown = json.loads(json.dumps(found.as_dict()))
    assert shown["verdict"] == {"kind": "waiting", "reasons": []}
    assert shown["waiting"][0]["why"] == "failed"
    assert shown["waiting"][0]["cause"]["event_type"] == "node_execute_exception"
    node = next(each for each in shown["nodes"] if each["node_id"] == "a")
    assert node["attempts"][1]["phases"][0]["kind"] == "executing"
    entered = datetime.datetime.fromisoformat(node["transitions"][0]["entered_at"])
    assert entered == found.nodes["a"].transitions[0].entered_at
    assert shown["interventions"][0]["cause"]["reason"] == "why not"
    assert datetime.datetime.fromisoformat(shown["interventions"][0]["at"]).tzinfo


@pytest.mark.parametrize(
    ("position", "about", "verdict"),
    [
        # Of a writer that takes part, between its records.
        (10, {"first_at": "2026-01-01T00:00:00+00:00"}, INCOMPLETE),
        (4, {"of": WORKER, "first_position": 7, "last_position": 8}, INCOMPLETE),
        (4, {"of": WORKER, "first_position": 4_000, "last_position": None}, INCOMPLETE),
        # Of its time before the run, and of somebody else.
        (4, {"of": WEB, "first_position": 0, "last_position": 0}, "waiting"),
        # Who joined later may have missed something of it.
        (4, {"of": WORKER, "first_position": 1, "last_position": 2}, INCOMPLETE),
        (4, {"of": "another", "first_position": 4, "last_position": 5}, "waiting"),
    ],
)
def test_a_gap_makes_the_runs_incomplete_that_it_may_concern(failed, position, about, verdict):
    failed.all = [
        each._replace(writer_position=each.writer_position + 2)
        if each.writer_id == WORKER
        else each
        for each in failed.all
    ]
    store(failed.all)
    gap(position, **about)
    found = timeline.load("run").verdict()
    assert found.kind == verdict
    assert [each.kind for each in found.reasons] == ([GAP] if verdict == INCOMPLETE else [])


def test_a_gap_from_after_its_end_is_none_of_its(records):
    records.start()
    records.state("run", "FINISHED", "r1")
    store(records.all)
    gap(400, of=WORKER, first_position=400, last_position=None)
    assert timeline.load("run").verdict().kind == "complete"


def test_an_operation_without_an_answer_was_refused_once_its_writer_went_on(records, settings):
    records.start()
    records.add("pre_pause_pipeline", by=WEB, pipeline_id="run", context={"actor": "alice"})
    began = store(records.all)
    alias = conf.get("DATABASE")
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "INSERT INTO bamboo_audit_spoolwriter (writer_id, last_at) VALUES (%s, %s)",
            [writer_id(WEB), began + SECOND],
        )

        def outcome(**load):
            (found,) = timeline.load("run", **load).interventions
            return found.outcome

        assert outcome() == "unknown", "its writer may still tell"
        cursor.execute("UPDATE bamboo_audit_spoolwriter SET last_at = %s", [began + 120 * SECOND])
        assert outcome() == "refused"
        assert outcome(at=began + SECOND) == "unknown", "the answer may have been under way then"
        cursor.execute("UPDATE bamboo_audit_spoolwriter SET last_at = %s, ended = 'died'", [began])
        assert outcome() == "refused"
        cursor.execute("DELETE FROM bamboo_audit_spoolwriter")
        assert outcome() == "refused", "it closed long ago, and was forgotten"


def test_it_takes_few_queries(failed):
    store(failed.all)
    with CaptureQueriesContext(connections[conf.get("DATABASE")]) as queries:
        timeline.load("a")
    assert len(queries) <= 4


def test_any_data_can_be_folded(records):
    """jsonb has numbers that no double has, and the log may have data of any shape."""
    records.start()
    store(records.all)
    with connections[conf.get("DATABASE")].cursor() as cursor:
        for number, data in enumerate(("[]", "null", "1e400", '{"to_state": 1e400}', '"text"')):
            cursor.execute(
                "INSERT INTO bamboo_audit_pipelineeventrecord (occurred_at, writer_id,"
                " writer_position, event_type, root_pipeline_id, node_id, data, context)"
                " VALUES (now(), %s, %s, 'post_set_state', 'run', 'a', %s,"
                """ '{"sender": "pipeline.eri.models.State"}')""",
                [uuid.uuid4(), number, data],
            )
    found = timeline.load("run")
    json.dumps(found.as_dict())
    assert found.pipeline.state == "RUNNING"
