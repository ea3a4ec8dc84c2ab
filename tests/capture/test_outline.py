"""The outline of a tree, of the engine's own and of anything that may be in its place."""

from __future__ import annotations

import copy
import json
from collections import UserDict
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.capture import outline, record
from audit.capture.ids import Ids
from audit.capture.outline import of_event, of_tree

MOST = 1 << 20
EVENT = "pre_prepare_run_pipeline"

TREE = {
    "id": "p",
    "name": "deploy",
    "start_event": {"id": "s", "type": "EmptyStartEvent", "name": None, "outgoing": "f1"},
    "end_event": {"id": "e", "type": "EmptyEndEvent", "name": "", "incoming": ["f2"]},
    "activities": {
        "a": {
            "id": "a",
            "type": "ServiceActivity",
            "name": "copy",
            "template_node_id": "t1",
            "component": {"code": "job", "version": "v1", "inputs": {"x": {"value": "secret"}}},
            "timeout": 5,
        },
        "b": {
            "id": "b",
            "type": "SubProcess",
            "params": {"x": "secret"},
            "pipeline": {"id": "b", "activities": {"c": {"id": "c"}}, "data": {"inputs": {"y": 1}}},
        },
    },
    "gateways": {
        "g": {
            "id": "g",
            "type": "ExclusiveGateway",
            "conditions": {"f3": {"evaluate": "${secret} == 1", "name": "if"}},
            "default_condition": {"flow_id": "f4", "name": "else"},
            "converge_gateway_id": "h",
        },
        "h": {"id": "h", "type": "ConvergeGateway", "default_condition": {}},
    },
    "flows": {"f1": {"id": "f1", "source": "s", "target": "a", "is_default": False}},
    "data": {"inputs": {"${k}": {"value": "secret"}}},
    "constants": {"k": "secret"},
}
OUTLINE = {
    "id": "p",
    "name": "deploy",
    "start_event": {"id": "s", "type": "EmptyStartEvent"},
    "end_event": {"id": "e", "type": "EmptyEndEvent"},
    "activities": {
        "a": {
            "id": "a",
            "type": "ServiceActivity",
            "name": "copy",
            "template_node_id": "t1",
            "component": {"code": "job", "version": "v1"},
        },
        "b": {
            "id": "b",
            "type": "SubProcess",
            "pipeline": {"id": "b", "activities": {"c": {"id": "c"}}},
        },
    },
    "gateways": {
        "g": {
            "id": "g",
            "type": "ExclusiveGateway",
            "conditions": {"f3": {}},
            "default_condition": {"flow_id": "f4"},
            "converge_gateway_id": "h",
        },
        "h": {"id": "h", "type": "ConvergeGateway"},
    },
    "flows": {"f1": {"id": "f1", "source": "s", "target": "a"}},
}
DATA = {
    "pipeline": TREE,
    "root_pipeline_data": {"task_id": 7, "operator": "alice"},
    "root_pipeline_context": {"${k}": "secret"},
    "subprocess_context": {},
}


@pytest.fixture
def trees(settings):
    def set_to(value: str) -> None:
        settings.BAMBOO_AUDIT = {"TREES": value}

    return set_to


def made(data: Any, event_type: str = EVENT) -> tuple[Any, dict[str, Any]]:
    answer = record.make(event_type, data, Ids(), ("password",))
    return json.loads(answer.data), json.loads(answer.context)


def test_an_outline_is_what_hangs_together_without_values():
    assert of_tree(TREE, MOST) == OUTLINE


def test_an_outline_of_an_outline_is_the_same():
    assert of_tree(OUTLINE, MOST) == OUTLINE


@pytest.mark.parametrize("event_type", sorted(outline.EVENTS))
def test_trees_outline_records_it_and_says_so(trees, event_type):
    trees("outline")
    before = copy.deepcopy(DATA)
    found, about = made(DATA, event_type)
    assert found == {
        "pipeline": OUTLINE,
        "left_out": {
            "root_pipeline_data": ["task_id", "operator"],
            "root_pipeline_context": ["${k}"],
        },
    }
    assert about["changed"] == [{"path": "$", "was": "the whole tree and its data"}]
    assert before == DATA


def test_trees_full_and_other_events_are_recorded_whole(trees):
    trees("outline")
    assert made(DATA, "pre_callback")[0] == DATA
    trees("full")
    found, about = made(DATA)
    assert found == DATA
    assert "changed" not in about


def test_secrets_in_names_of_an_outline_are_redacted(trees):
    trees("outline")
    tree = {"id": "p", "activities": {"password": {"id": "x"}}}
    found, about = made({"pipeline": tree})
    assert found["pipeline"]["activities"] == {"password": "[redacted]"}
    assert about["redacted"] == ["$.pipeline.activities.password"]


def test_the_engines_own_tree():
    builder = pytest.importorskip("bamboo_engine.builder")
    start, act = builder.EmptyStartEvent(), builder.ServiceActivity(component_code="job")
    gateway = builder.ExclusiveGateway(conditions={0: "1 == 1"}, name="which")
    inner = builder.EmptyStartEvent()
    inner.extend(builder.ServiceActivity(component_code="in")).extend(builder.EmptyEndEvent())
    sub = builder.SubProcess(start=inner)
    end = builder.EmptyEndEvent()
    start.extend(gateway).connect(act).converge(builder.ConvergeGateway()).extend(sub).extend(end)
    tree = builder.build_tree(start)

    found = of_tree(tree, MOST)
    assert found["activities"][act.id]["component"] == {"code": "job"}
    assert found["activities"][sub.id]["pipeline"]["activities"].keys() == (
        tree["activities"][sub.id]["pipeline"]["activities"].keys()
    )
    assert found["gateways"][gateway.id]["conditions"].keys() == (
        tree["gateways"][gateway.id]["conditions"].keys()
    )
    assert {flow: (each["source"], each["target"]) for flow, each in found["flows"].items()} == {
        flow: (each["source"], each["target"]) for flow, each in tree["flows"].items()
    }
    assert found["start_event"]["id"] == start.id


@pytest.mark.parametrize("kind", [UserDict, MappingProxyType])
def test_any_mapping_will_do(trees, kind):
    trees("outline")
    assert of_tree(kind({**TREE, "flows": kind(TREE["flows"])}), MOST) == OUTLINE
    assert made(kind(DATA))[0]["pipeline"] == OUTLINE


def test_a_tree_inside_itself_and_thousands_deep():
    tree: dict[str, Any] = {"id": "p", "activities": {}}
    tree["activities"]["a"] = {"id": "a", "pipeline": tree}
    assert of_tree(tree, MOST) == {
        "id": "p",
        "activities": {"a": {"id": "a", "pipeline": {"id": "p"}}},
    }

    deep: dict[str, Any] = {"id": "innermost"}
    for number in range(5_000):
        deep = {"id": str(number), "activities": {"a": {"pipeline": deep}}}
    found = of_tree(deep, MOST)
    depth = 0
    while "activities" in found:
        found, depth = found["activities"]["a"]["pipeline"], depth + 1
    assert (depth, found) == (5_000, {"id": "innermost"})
    assert made({"pipeline": deep})[0]


def test_an_outline_is_as_large_as_it_may_be():
    nodes = {f"n{number}": {"id": f"n{number}", "name": "步" * 500} for number in range(10_000)}
    found = of_tree({"id": "p", "activities": nodes, "flows": nodes}, 100_000)
    assert 50_000 < len(json.dumps(found, ensure_ascii=False).encode()) <= 110_000
    assert found["activities"]["…"] == "[…more]"
    assert max(len(node["name"]) for key, node in found["activities"].items() if key != "…") == 255


def test_many_names_are_listed_in_part(trees):
    trees("outline")
    found, _ = made(
        {"pipeline": {"id": "p"}, "root_pipeline_data": {str(n): n for n in range(500)}}
    )
    assert found["left_out"]["root_pipeline_data"] == [*map(str, range(100)), "…"]


class Fighter(dict[str, Any]):
    def boom(self, *_: Any) -> Any:
        raise RuntimeError("boom")

    get = items = keys = __iter__ = __getitem__ = boom


NOT_TREES = [None, 5, "x", [], {}, {"pipeline": 1}, {"pipeline": []}, Fighter(), object()]


@pytest.mark.parametrize("data", NOT_TREES, ids=lambda data: type(data).__name__)
def test_what_is_no_tree_is_recorded_as_it_is(data):
    assert of_event(data, MOST) == (data, [])


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.just(b"x") | st.builds(Fighter),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("id", "name", "type", "activities", "gateways", "flows", "pipeline"),
                    *("conditions", "component", "start_event", "default_condition", "source"),
                    "\udc80\0",
                )
            )
            | st.integers()
            | st.none(),
            inner,
            max_size=6,
        )
    ),
    max_leaves=40,
)


@settings(max_examples=300, deadline=None, database=None)
@given(anything)
def test_any_shape_has_an_outline_that_is_json(value):
    json.dumps(of_tree(value, MOST), ensure_ascii=False).encode()
    _, notes = of_event({"pipeline": value}, MOST)
    assert bool(notes) == isinstance(value, dict)
