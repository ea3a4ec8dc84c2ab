"""Whatever comes with the engine's signals is recorded: older shapes, strange ids, anything."""

from __future__ import annotations

import json
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from lab import scenarios
from lab.engine import activity, tree_of
from lab.spy import send, written
from pipeline.eri.models import State
from pipeline.eri.signals import pipeline_event, post_set_state

from audit.capture.failures import failures
from audit.capture.ids import MAX_ID
from audit.events import GAP, POST_SET_STATE

TREE = {
    "id": "shapes-p1",
    "start_event": {"id": "shapes-s1"},
    "end_event": {"id": "shapes-e1"},
    "activities": {
        "shapes-a1": {"id": "shapes-a1"},
        "shapes-sub1": {
            "id": "shapes-sub1",
            "pipeline": {
                "id": "shapes-sub1",
                "start_event": {"id": "shapes-s2"},
                "end_event": {"id": "shapes-e2"},
                "activities": {"shapes-a2": {"id": "shapes-a2"}},
                "gateways": {"shapes-g2": {"id": "shapes-g2"}},
            },
        },
    },
    "gateways": {"shapes-g1": {"id": "shapes-g1"}},
}

# event type, data, and what the columns (run, pipeline, node, version) must say
DOCUMENTED = {
    "pre_pause_pipeline with an id": (
        "pre_pause_pipeline",
        {"pipeline": "shapes-p1"},
        ("shapes-p1", "shapes-p1", "", ""),
    ),
    "pre_pause_pipeline with a subprocess's id": (
        "pre_pause_pipeline",
        {"pipeline": "shapes-sub1"},
        ("shapes-p1", "shapes-sub1", "", ""),
    ),
    "pre_pause_pipeline with a tree": (
        "pre_pause_pipeline",
        {"pipeline": {"id": "shapes-p1"}},
        ("shapes-p1", "shapes-p1", "", ""),
    ),
    "node_enter with ex_data": (
        "node_enter",
        {"root_pipeline_id": "shapes-p1", "node_id": "shapes-a2", "ex_data": "why"},
        ("shapes-p1", "shapes-sub1", "shapes-a2", ""),
    ),
    "node_execute_fail with ex_data": (
        "node_execute_fail",
        {"root_pipeline_id": "shapes-p1", "node_id": "shapes-a1", "ex_data": {"code": 1}},
        ("shapes-p1", "shapes-p1", "shapes-a1", ""),
    ),
    "node_schedule_fail with ex_data": (
        "node_schedule_fail",
        {"root_pipeline_id": "shapes-p9", "node_id": "shapes-unseen", "ex_data": None},
        ("shapes-p9", "", "shapes-unseen", ""),
    ),
    "pipeline_finish with more keys": (
        "pipeline_finish",
        {
            "pipeline_id": "shapes-p7",
            "root_pipeline_id": "shapes-p7",
            "pipeline": "shapes-p7",
            "state": "FINISHED",
        },
        ("shapes-p7", "shapes-p7", "", ""),
    ),
    "callback with a string": (
        "pre_callback",
        {"node_id": "shapes-a2", "version": "v1", "data": "text"},
        ("shapes-p1", "shapes-sub1", "shapes-a2", "v1"),
    ),
    "flow_ids as a string": (
        "pre_skip_conditional_parallel_gateway",
        {"node_id": "shapes-g2", "flow_ids": "f1,f2", "converge_gateway_id": "c1"},
        ("shapes-p1", "shapes-sub1", "shapes-g2", ""),
    ),
    "retry data null": (
        "post_retry_node",
        {"node_id": "shapes-a1", "data": None},
        ("shapes-p1", "shapes-p1", "shapes-a1", ""),
    ),
    "a type that nobody knows": (
        "node_teleported",
        {"node_id": "shapes-g1", "to": "Mars"},
        ("shapes-p1", "shapes-p1", "shapes-g1", ""),
    ),
    "a type that nobody knows, without ids": ("weather", {"sun": True}, ("", "", "", "")),
}


def columns(record: Any) -> tuple[str, str, str, str]:
    return record.root_pipeline_id, record.pipeline_id, record.node_id, record.node_version


@pytest.mark.parametrize("shape", DOCUMENTED)
def test_the_shapes_of_the_engines_documentation_are_recorded(shape):
    event_type, data, expected = DOCUMENTED[shape]
    send("pre_prepare_run_pipeline", {"pipeline": TREE})

    send(event_type, data)

    tree, record = written()
    assert columns(tree) == ("shapes-p1", "shapes-p1", "", "")
    assert record.event_type == event_type
    assert record.data == data
    assert columns(record) == expected


HOSTILE = {
    "10,000 characters": "x" * 10_000,
    "10,000 wide characters": "語" * 10_000,
    "NUL": "a\0b",
    "only NUL": "\0",
    "lone surrogate": "a\udc80b",
    "empty": "",
    "int": 5,
    "huge int": 10**5000,
    "float": float("nan"),
    "None": None,
    "bool": True,
    "bytes": b"\xff\x00",
    "list": ["shapes-p1"],
    "dict": {"id": None},
    "dict with a strange id": {"id": ["shapes-p1"]},
    "object": object(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_strange_ids_are_recorded(name):
    value = HOSTILE[name]

    for key in ("node_id", "pipeline_id", "root_pipeline_id", "version", "pipeline"):
        send("node_enter", {key: value})
    send("pipeline_finish", {"pipeline_id": value})
    send("pre_prepare_run_pipeline", {"pipeline": {**TREE, "id": value}})
    post_set_state.send(
        sender=State,
        node_id=value,
        to_state=value,
        version=value,
        root_id=value,
        parent_id=value,
        loop=value,
    )

    assert failures.summary().total == 0
    records = written()
    assert [record.event_type for record in records] == [
        *["node_enter"] * 5,
        "pipeline_finish",
        "pre_prepare_run_pipeline",
        POST_SET_STATE,
    ]
    for record in records:
        assert max(len(column) for column in columns(record)) <= MAX_ID
    if isinstance(value, str) and len(value) > MAX_ID:
        assert columns(records[0])[2] == value[:MAX_ID]
        assert records[0].data == {"node_id": value}


class Fights:
    """An object of which everything raises."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError("no")

    def __repr__(self) -> str:
        raise ValueError("no")

    __str__ = __repr__


EVENTS = {
    "None": (None, "unknown", None),
    "no attributes": (object(), "unknown", None),
    "only a type": (SimpleNamespace(event_type="node_enter"), "node_enter", None),
    "only data": (SimpleNamespace(data={"a": 1}), "unknown", {"a": 1}),
    "type None": (SimpleNamespace(event_type=None, data={}), "unknown", {}),
    "type empty": (SimpleNamespace(event_type="", data={}), "unknown", {}),
    "type a number": (SimpleNamespace(event_type=7, data={}), "7", {}),
    "type too long": (SimpleNamespace(event_type="t" * 9_999, data={}), "t" * MAX_ID, {}),
    "type with NUL": (SimpleNamespace(event_type="a\0\udc80", data={}), "a␀\\udc80", {}),
    "data a string": (SimpleNamespace(event_type="x", data="text"), "x", "text"),
    "data a number": (SimpleNamespace(event_type="x", data=5), "x", 5),
    "data a list": (SimpleNamespace(event_type="x", data=["node_id"]), "x", ["node_id"]),
    "data a set": (SimpleNamespace(event_type="x", data={2, 1}), "x", [1, 2]),
}


@pytest.mark.parametrize("name", EVENTS)
def test_events_of_any_make_are_recorded(name):
    event, event_type, data = EVENTS[name]

    pipeline_event.send(sender=None, event=event)

    (record,) = written()
    assert record.event_type == event_type
    assert record.data == data
    assert failures.summary().total == 0


def test_an_event_that_cannot_be_read_is_a_gap_and_no_error():
    pipeline_event.send(sender=None, event=Fights())
    send("x", {})

    assert [record.event_type for record in written()] == [GAP, "x"]
    assert written()[0].data["reasons"] == {"ValueError": 1}


def test_data_that_fights_back_is_recorded_as_far_as_it_goes():
    send("x", {"node_id": "shapes-n1", "inner": Fights()})
    send("x", Fights())

    first, second = written()
    assert first.node_id == "shapes-n1"
    assert "Fights" in first.data["inner"]
    assert "Fights" in second.data


def test_no_event_at_all_is_recorded_as_unknown():
    pipeline_event.send(sender=None)
    post_set_state.send(sender=None)

    assert [record.event_type for record in written()] == ["unknown", POST_SET_STATE]


FOREIGN = {
    "None": (None, None),
    "a string": ("dbm", "builtins.str"),
    "a class": (SimpleNamespace, "types.SimpleNamespace"),
    "an object": (object(), "builtins.object"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_state_change_from_someone_else_is_recorded_with_its_sender(name):
    sender, expected = FOREIGN[name]

    post_set_state.send(
        sender=sender,
        node_id="shapes-n1",
        to_state="FAILED",
        version="v1",
        root_id="shapes-p1",
        parent_id=None,
        loop=None,
    )

    (record,) = written()
    assert record.context.get("sender") == expected
    assert record.data == {
        "node_id": "shapes-n1",
        "to_state": "FAILED",
        "version": "v1",
        "root_id": "shapes-p1",
        "parent_id": None,
        "loop": None,
    }
    assert columns(record) == ("shapes-p1", "", "shapes-n1", "v1")


def test_what_someone_else_says_of_a_node_is_not_learnt():
    node = f"shapes-{uuid.uuid4().hex}"
    change = {"node_id": node, "to_state": "RUNNING", "version": "v", "parent_id": "p", "loop": 1}
    post_set_state.send(sender=None, root_id="wrong", **change)
    post_set_state.send(sender=State, root_id="right", **change)
    post_set_state.send(sender=None, root_id="wrong", **change)

    assert [record.root_pipeline_id for record in written()] == ["wrong", "right", "right"]


def test_the_tree_goes_before_what_someone_else_says():
    run = scenarios.Run(tree_of(activity("lab_ok", "A"))).start(work=False)
    post_set_state.send(
        sender=None, node_id=run.ids["A"], to_state="X", root_id="wrong", parent_id="wrong"
    )
    run.work()

    of_the_node = [record for record in written() if record.node_id == run.ids["A"]]
    assert len(of_the_node) > 3
    assert {record.root_pipeline_id for record in of_the_node} == {run.root}
    assert {record.pipeline_id for record in of_the_node} == {run.root}


STRANGE_TREES = {
    "activities a list": {**TREE, "activities": [1, 2]},
    "activities missing": {"id": "shapes-p1"},
    "nodes that are no dicts": {**TREE, "activities": {"shapes-a1": None, "shapes-a2": "text"}},
    "number for an id": {**TREE, "activities": {5: {"id": 5}}},
    "events that are no dicts": {**TREE, "start_event": "shapes-s1", "end_event": None},
    "no id": {key: value for key, value in TREE.items() if key != "id"},
}


@pytest.mark.parametrize("name", STRANGE_TREES)
def test_strange_trees_are_recorded(name):
    tree = STRANGE_TREES[name]

    send("pre_prepare_run_pipeline", {"pipeline": tree})
    send("x", {})

    record, nothing = written()
    assert record.data == {"pipeline": json.loads(json.dumps(tree))}
    assert columns(record) == (tree.get("id", ""), tree.get("id", ""), "", "")
    assert columns(nothing) == ("", "", "", "")


@pytest.mark.timeout(30)
def test_a_tree_inside_itself_is_recorded_and_ends():
    tree: dict[str, Any] = {**TREE, "activities": {"shapes-a1": {"id": "shapes-a1"}}}
    tree["activities"]["shapes-a1"]["pipeline"] = tree

    send("pre_prepare_run_pipeline", {"pipeline": tree})

    (record,) = written()
    assert record.root_pipeline_id == "shapes-p1"
    assert record.data["pipeline"]["activities"]["shapes-a1"]["pipeline"] == "[cycle]"
