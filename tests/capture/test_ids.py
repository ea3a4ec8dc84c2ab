from __future__ import annotations

import threading
import time
from types import MappingProxyType
from typing import Any

import pytest

from audit.capture import ids
from audit.capture.ids import MAX_ID, Ids, KnownNodes, Place, known_nodes

ENGINE = {"from_engine": True}


def activity(node_id: str, inside: dict[str, Any] | None = None) -> dict[str, Any]:
    node: dict[str, Any] = {"id": node_id, "type": "SubProcess" if inside else "ServiceActivity"}
    return node | ({"pipeline": inside} if inside else {"component": {"code": "x"}})


def tree(pipeline_id: str, *activities: dict[str, Any], gateways: tuple[str, ...] = ()) -> Any:
    """A pipeline in the form in which the engine sends it."""
    return {
        "id": pipeline_id,
        "start_event": {"id": f"{pipeline_id}-start", "type": "EmptyStartEvent"},
        "end_event": {"id": f"{pipeline_id}-end", "type": "EmptyEndEvent"},
        "activities": {node["id"]: node for node in activities},
        "gateways": {name: {"id": name, "type": "ParallelGateway"} for name in gateways},
        "flows": {f"{pipeline_id}-flow": {"source": "a", "target": "b"}},
        "data": {"inputs": {}, "outputs": []},
    }


@pytest.fixture
def three_deep() -> Any:
    """root > sub > subsub > subsubsub, each with an activity, a gateway and its two events."""
    inner = tree("subsubsub", activity("n4"), gateways=("g4",))
    inner = tree("subsub", activity("n3"), activity("subsubsub", inner), gateways=("g3",))
    inner = tree("sub", activity("n2"), activity("subsub", inner), gateways=("g2",))
    return tree("root", activity("n1"), activity("sub", inner), gateways=("g1",))


PLACES = {
    **dict.fromkeys(("n1", "sub", "g1", "root-start", "root-end"), "root"),
    **dict.fromkeys(("n2", "subsub", "g2", "sub-start", "sub-end"), "sub"),
    **dict.fromkeys(("n3", "subsubsub", "g3", "subsub-start", "subsub-end"), "subsub"),
    **dict.fromkeys(("n4", "g4", "subsubsub-start", "subsubsub-end"), "subsubsub"),
}


def prepare(pipeline: Any, prefix: str = "pre") -> Ids:
    return ids.of_pipeline_event(f"{prefix}_prepare_run_pipeline", {"pipeline": pipeline})


def test_a_tree_tells_where_every_node_stands(three_deep):
    assert prepare(three_deep) == Ids(root_pipeline_id="root", pipeline_id="root")
    assert {name: known_nodes.find(name) for name in PLACES} == {
        name: Place("root", parent) for name, parent in PLACES.items()
    }
    assert known_nodes.find("root") == Place("root", "")
    assert known_nodes.find("root-flow") is None
    assert len(known_nodes._places) == len(PLACES) + 1


def test_an_operators_event_gets_the_run_and_pipeline_of_its_node(three_deep):
    prepare(three_deep)
    for node, parent in PLACES.items():
        found = ids.of_pipeline_event("pre_retry_node", {"node_id": node, "data": None})
        assert found == Ids(root_pipeline_id="root", pipeline_id=parent, node_id=node)


def test_an_operators_event_on_a_subprocess_gets_its_run(three_deep):
    prepare(three_deep)
    found = ids.of_pipeline_event("pre_pause_pipeline", {"pipeline_id": "subsub"})
    assert found == Ids(root_pipeline_id="root", pipeline_id="subsub")


def test_a_workers_event_names_its_run_itself():
    found = ids.of_pipeline_event("node_enter", {"root_pipeline_id": "other", "node_id": "n"})
    assert found == Ids(root_pipeline_id="other", node_id="n")


def test_the_run_that_an_event_names_goes_before_the_one_in_the_tree(three_deep):
    prepare(three_deep)
    found = ids.of_pipeline_event("node_enter", {"root_pipeline_id": "foreign", "node_id": "n2"})
    assert found == Ids(root_pipeline_id="foreign", pipeline_id="sub", node_id="n2")


def test_nothing_is_invented_for_what_was_never_seen():
    assert ids.of_pipeline_event("pre_retry_node", {"node_id": "n"}) == Ids(node_id="n")
    assert ids.of_pipeline_event("pre_pause_pipeline", {"pipeline_id": "p"}) == Ids(pipeline_id="p")


def test_post_prepare_teaches_a_process_that_missed_pre_prepare(three_deep):
    prepare(three_deep, "post")
    assert known_nodes.find("n4") == Place("root", "subsubsub")


def test_post_prepare_of_a_known_tree_is_not_walked_again(three_deep):
    prepare(three_deep)
    three_deep["activities"]["late"] = activity("late")
    prepare(three_deep, "post")
    assert known_nodes.find("late") is None
    prepare(three_deep, "pre")
    assert known_nodes.find("late") == Place("root", "root")


@pytest.mark.parametrize(
    ("event_type", "data", "expected"),
    [
        # As the engine sends them.
        ("pipeline_finish", {"pipeline_id": "p"}, Ids(root_pipeline_id="p", pipeline_id="p")),
        (
            "post_forced_fail_activity",
            {"node_id": "n", "old_version": "v1", "new_version": "v2", "ex_data": ""},
            Ids(node_id="n", node_version="v2"),
        ),
        (
            "pre_callback",
            {"node_id": "n", "version": "v1", "data": {}},
            Ids(node_id="n", node_version="v1"),
        ),
        # As its documentation says, and older engines may.
        ("pre_pause_pipeline", {"pipeline": "p"}, Ids(pipeline_id="p")),
        ("pre_pause_pipeline", {"pipeline": {"id": "p"}}, Ids(pipeline_id="p")),
        (
            "pipeline_finish",
            {"pipeline": {"id": "p"}},
            Ids(root_pipeline_id="p", pipeline_id="p"),
        ),
        (
            "pipeline_finish",
            {"root_pipeline_id": "r", "pipeline_id": "p"},
            Ids(root_pipeline_id="r", pipeline_id="p"),
        ),
        ("future_event", {"node_id": "n", "novelty": 1}, Ids(node_id="n")),
        ("pre_retry_node", MappingProxyType({"node_id": "n"}), Ids(node_id="n")),
        # Nonsense is no reason to lose a record.
        ("node_enter", None, Ids()),
        ("node_enter", "text", Ids()),
        ("node_enter", ["node_id"], Ids()),
        ("node_enter", {"node_id": 5, "root_pipeline_id": None}, Ids()),
        ("node_enter", {"node_id": b"n", "version": {"a": 1}}, Ids()),
        ("pre_pause_pipeline", {"pipeline": 7, "pipeline_id": "p"}, Ids(pipeline_id="p")),
        ("pre_prepare_run_pipeline", {"pipeline": {}}, Ids()),
        ("pre_prepare_run_pipeline", {"pipeline": {"id": None}}, Ids()),
        ("pre_prepare_run_pipeline", {"pipeline": [1]}, Ids()),
    ],
)
def test_shapes(event_type, data, expected):
    assert ids.of_pipeline_event(event_type, data) == expected


@pytest.mark.parametrize(
    "broken",
    [
        {"activities": None, "gateways": [], "start_event": "x", "end_event": 5},
        {"activities": ["n"], "gateways": "n"},
        {"activities": {"n": None, "m": "text", "o": {"pipeline": "text"}}},
        {"activities": {None: {"id": "n"}, 5: {"pipeline": {"activities": {"x": {}}}}}},
        {"start_event": {}, "end_event": {"id": None}},
    ],
)
def test_a_tree_that_is_none_is_taken_for_what_it_is(broken):
    """A root is learnt, and a nameless node must not become the place of all nameless ones."""
    assert prepare({"id": "root", **broken}).root_pipeline_id == "root"
    assert known_nodes.find("") is None
    assert ids.of_pipeline_event("unknown", {}) == Ids()


def test_a_tree_inside_itself_comes_to_an_end():
    endless = tree("root")
    endless["activities"]["again"] = activity("again", endless)
    done = threading.Event()

    def learn() -> None:
        prepare(endless)
        done.set()

    threading.Thread(target=learn, daemon=True).start()
    assert done.wait(10)
    assert known_nodes.find("again") == Place("root", "root")


def test_ids_are_text_that_an_index_takes():
    found = ids.of_pipeline_event("node_enter", {"node_id": "n\0\udc80" + "é" * 5_000})
    assert found.node_id.startswith("n␀\\udc80é")
    assert len(found.node_id) == MAX_ID
    assert len(found.node_id.encode()) < 2_704, "what a B-tree takes at most"


# State changes.


def test_a_state_change_of_the_engine_teaches_where_a_node_stands():
    ids.of_state_change({"node_id": "n", "root_id": "r", "parent_id": "p"}, **ENGINE)
    assert ids.of_pipeline_event("pre_retry_node", {"node_id": "n"}) == Ids(
        root_pipeline_id="r", pipeline_id="p", node_id="n"
    )


def test_a_state_change_of_anybody_else_teaches_nothing():
    data = {"node_id": "n", "root_id": "foreign", "parent_id": "p", "version": "v"}
    assert ids.of_state_change(data, from_engine=False) == Ids(
        root_pipeline_id="foreign", pipeline_id="p", node_id="n", node_version="v"
    )
    assert known_nodes.find("n") is None


@pytest.mark.parametrize("from_engine", [True, False])
def test_the_tree_goes_before_a_foreign_or_empty_root(three_deep, from_engine):
    prepare(three_deep)
    for root in ("", None, "foreign"):
        data = {"node_id": "n2", "root_id": root, "parent_id": "foreign"}
        assert ids.of_state_change(data, from_engine=from_engine) == Ids(
            root_pipeline_id="root", pipeline_id="sub", node_id="n2"
        )
    assert known_nodes.find("n2") == Place("root", "sub")


def test_a_node_without_a_root_is_not_learnt_and_may_be_later():
    ids.of_state_change({"node_id": "n", "root_id": "", "parent_id": ""}, **ENGINE)
    assert known_nodes.find("n") is None
    ids.of_state_change({"node_id": "n", "root_id": "r", "parent_id": "r"}, **ENGINE)
    assert known_nodes.find("n") == Place("r", "r")


def test_the_state_of_a_run_is_its_own_pipelines():
    found = ids.of_state_change({"node_id": "r", "root_id": "r", "parent_id": None}, **ENGINE)
    assert found == Ids(root_pipeline_id="r", pipeline_id="r", node_id="r")


# The memory.


def test_the_memory_is_bounded_and_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(ids, "MAX_KNOWN", 1_000)
    known = KnownNodes()
    for number in range(10_000):
        known.learn({f"n{number}": Place("r", "p")})
        assert len(known._places) <= 1_000
    assert known.find("n9999") is not None
    assert known.find("n9100") is not None
    assert known.find("n8999") is None


def test_a_tree_larger_than_the_memory_does_not_burst_it(monkeypatch):
    monkeypatch.setattr(ids, "MAX_KNOWN", 100)
    known = KnownNodes()
    inner: Any = None
    for number in range(1_000):
        inner = tree(f"p{number}", *([activity(f"p{number - 1}", inner)] if inner else []))
    known.learn_tree(inner)
    assert 0 < len(known._places) <= 100


def test_forgetting_costs_no_more_than_learning():
    """In a dict every deletion at the front leaves a hole that the next one walks over."""
    known = KnownNodes()

    def learn(prefix: str) -> float:
        began = time.thread_time()
        for number in range(ids.MAX_KNOWN):
            known.learn({f"{prefix}{number}": Place("r", "p")})
        return time.thread_time() - began

    learning = learn("n")
    learning_and_forgetting = learn("m")
    assert learning_and_forgetting < 4 * learning


def test_many_threads_learn_and_find():
    known = KnownNodes()
    failed: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(2_000):
                known.learn({f"{name}-{number}": Place(str(name), str(number))})
                assert known.find(f"{name}-{number}") == Place(str(name), str(number))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_child_that_is_forked_while_a_thread_learns_does_not_hang(in_child, held):
    known_nodes.learn({"before": Place("r", "p")})
    held(known_nodes._lock)

    def child() -> Any:
        ids.of_state_change({"node_id": "n", "root_id": "r", "parent_id": "p"}, **ENGINE)
        return [known_nodes.find("before"), known_nodes.find("n") is not None]

    assert in_child(child) == [None, True]


def test_a_signal_handler_in_the_middle_of_learning_does_not_deadlock():
    with known_nodes._lock:
        known_nodes.learn({"n": Place("r", "p")})
    assert known_nodes.find("n") is not None


# What was made of a worker's event is remembered with its node.


def worker_event(node: Any = "n1", root: Any = "root", **more: Any) -> Ids:
    return ids.of_pipeline_event("node_enter", {"root_pipeline_id": root, "node_id": node} | more)


def test_a_nodes_events_have_the_same_ids(three_deep):
    prepare(three_deep)
    first = worker_event()
    assert first == Ids("root", "root", "n1")
    assert worker_event() is first
    assert worker_event("n2") == Ids("root", "sub", "n2")


def test_more_is_learnt_of_a_node_after_its_first_event(three_deep):
    assert worker_event() == Ids("root", "", "n1")
    prepare(three_deep)
    assert worker_event() == Ids("root", "root", "n1")


@pytest.mark.parametrize("more", [{"version": "v1"}, {"loop": 1}])
def test_a_payload_that_says_more_is_another(more):
    plain = worker_event()
    found = worker_event(**more)
    assert type(found) is Ids
    assert found.node_version == more.get("version", "")
    assert worker_event() is plain


@pytest.mark.parametrize(
    ("node", "root"),
    [("n1", "other"), ("n1", 7), ("n1", ""), ("", "root"), ("n1\0", "root"), ("n" * 300, "root")],
)
def test_what_is_not_quite_that_payload_is_looked_into(three_deep, node, root):
    prepare(three_deep)
    worker_event()
    found = worker_event(node, root)
    assert type(found) is Ids
    assert "\0" not in found.node_id
    assert len(found.node_id) <= MAX_ID


def test_nodes_with_remembered_events_are_bounded():
    for number in range(3 * ids._MAX_WORKERS):
        worker_event(f"n{number}")
    assert len(known_nodes._workers) <= ids._MAX_WORKERS


class EqualToAll(str):
    """Claims to be any node."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("n1")


class Mine(dict[str, Any]):
    """Answers others than it has."""

    def get(self, key: str, default: Any = None) -> Any:
        return {"root_pipeline_id": "root", "node_id": "n1"}.get(key, default)


@pytest.mark.parametrize(
    "data",
    [
        Mine(a=1, b=2),
        {"root_pipeline_id": "root", "node_id": EqualToAll("other")},
        {"root_pipeline_id": EqualToAll("other"), "node_id": "n1"},
        MappingProxyType({"root_pipeline_id": "root", "node_id": "n1"}),
    ],
)
def test_what_only_claims_to_be_that_payload_is_looked_into(data):
    worker_event()
    assert type(ids.of_pipeline_event("node_enter", data)) is Ids
