"""The straight way of nine events in ten: the same rows as the ordinary way, or not taken."""

from __future__ import annotations

import datetime
import json
import os
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import audit
from audit import delivery, receivers
from audit.capture import record, row
from audit.capture.failures import failures
from audit.capture.ids import Ids, known_nodes
from audit.capture.sampling import Suppressed, polls
from audit.delivery import spooled, straight
from audit.events import ENGINE_EVENTS
from audit.exceptions import SpoolFull
from audit.shipping.background import background
from audit.spool.segment import FAILED
from audit.spool.writer import writer

TREE = {
    "id": "run",
    "start_event": {"id": "start"},
    "activities": {"n": {}, "sub": {"pipeline": {"activities": {"inner": {}}}}},
}
WORKERS = [each.name for each in ENGINE_EVENTS if each.ids == ("root_pipeline_id", "node_id")]


class State:
    """Stands for the engine's class that sends changes of state."""


State.__module__ = "pipeline.eri.models"


def event(event_type="node_enter", /, **data):
    data = {"root_pipeline_id": "run", "node_id": "n"} | data
    receivers.on_pipeline_event(event=SimpleNamespace(event_type=event_type, data=data))


def change(sender=State, /, **values):
    usual = {"node_id": "n", "to_state": "RUNNING", "version": "v1"}
    usual |= {"root_id": "run", "parent_id": "run", "loop": 1}
    receivers.on_post_set_state(sender=sender, signal=None, **(usual | values))


class Recorder:
    """What is appended to the spool, and which way it went."""

    def __init__(self, patch):
        self.rows = []
        self.ordinary = 0
        deliver = delivery.deliver

        def delivering(*args):
            self.ordinary += 1
            deliver(*args)

        patch.setattr(delivery, "deliver", delivering)
        patch.setattr(writer, "append", lambda *given: self.rows.append(given))
        patch.setattr(background, "ensure", lambda: None)

    def run(self, send):
        """What ``send`` appends in a process that knows the tree and has encoded a context."""
        known_nodes._reset()
        known_nodes.learn_tree(TREE)
        spooled._open_calls.clear()
        event("post_prepare_run_pipeline", note="encodes the context")
        change()
        change()
        self.rows.clear()
        self.ordinary = 0
        send()
        return list(self.rows)

    def run_ordinarily(self, send):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(straight, "worker_event", lambda *_: False)
            patch.setattr(straight, "state_change", lambda *_: False)
            return self.run(send)


@pytest.fixture
def recorder(settings, monkeypatch):
    settings.BAMBOO_AUDIT = {**getattr(settings, "BAMBOO_AUDIT", {}), "DELIVERY": "spool"}
    yield Recorder(monkeypatch)
    known_nodes._reset()
    failures._begin()
    spooled._open_calls.clear()


def parsed(appended):
    return row.parse(row.front(0, 1, bytes(16)) + appended[0]).record


@pytest.mark.parametrize("event_type", WORKERS)
def test_a_workers_event_makes_the_row_of_the_ordinary_way(recorder, event_type):
    def send():
        for node in ("n", "start", "inner", "in no tree") * 2:
            event(event_type, node_id=node)

    went = recorder.run(send)
    assert recorder.ordinary == 0, "it did not go straight"
    assert went == recorder.run_ordinarily(send)
    assert recorder.ordinary == len(went) == 8
    assert parsed(went[2]).ids == Ids("run", "sub", "inner", "")
    assert json.loads(parsed(went[2]).data) == {"root_pipeline_id": "run", "node_id": "inner"}


def test_a_change_of_state_makes_the_row_of_the_ordinary_way(recorder):
    def send():
        for node in ("n", "run", "inner"):
            event("pre_execute", node_id=node)
            for state in ("RUNNING", "FINISHED", "FAILED"):
                change(node_id=node, to_state=state, version=f"v{state}", loop=-1)

    went = recorder.run(send)
    assert recorder.ordinary == 0, "it did not go straight"
    assert went == recorder.run_ordinarily(send)
    assert [flags for _, *flags in went] == [[0], [0], [FAILED], [FAILED]] * 3
    assert parsed(went[5]).ids == Ids("run", "run", "run", "vRUNNING")


ODD = ['"', "\\", "\0", "\x7f", " ", "\u00e9", "\ud800", "x" * 256, ""]
texts = st.text() | st.sampled_from(["n", "run", "inner", *ODD])


class Number(int):
    """None of JSON's own."""


@pytest.mark.parametrize(
    "values",
    [
        *({key: odd} for key in ("to_state", "version", "root_id", "parent_id") for odd in ODD),
        *({"loop": odd} for odd in (None, True, float("nan"), 1 << 80, Number(3), "1", [1])),
        {"parent_id": None},
        {"parent_id": datetime.date(2026, 1, 1)},
        {"version": object},
        {"more": "than the engine has"},
    ],
    ids=repr,
)
def test_an_odd_change_of_state_makes_the_row_of_the_ordinary_way(recorder, values):
    def send():
        change(**values)

    assert recorder.run(send) == recorder.run_ordinarily(send)


@pytest.mark.parametrize("odd", ODD)
def test_odd_ids_of_a_worker_make_the_row_of_the_ordinary_way(recorder, odd):
    def send():
        event(node_id=odd)
        event(node_id=odd)
        event(root_pipeline_id=odd)

    assert recorder.run(send) == recorder.run_ordinarily(send)


@given(node=texts, root=texts, event_type=st.sampled_from(WORKERS))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_ids_of_a_worker_make_the_same_row(recorder, node, root, event_type):
    def send():
        event(event_type, node_id=node, root_pipeline_id=root)
        event(event_type, node_id=node, root_pipeline_id=root)

    assert recorder.run(send) == recorder.run_ordinarily(send)


@given(
    values=st.fixed_dictionaries(
        {"node_id": texts, "to_state": texts, "version": texts, "root_id": texts},
        optional={
            "parent_id": texts | st.none(),
            "loop": st.integers() | st.none() | st.booleans(),
            "more": texts,
        },
    )
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_change_of_state_makes_the_same_row(recorder, values):
    def send():
        change(**values)
        change(**values)

    assert recorder.run(send) == recorder.run_ordinarily(send)


@pytest.mark.parametrize(
    "keys",
    [
        {"EXCLUDE_EVENTS": ["node_enter", "post_set_state"]},
        {"REQUIRE_REASON": ["node_enter", "post_set_state"]},
        {"POLL_SAMPLING": 60},
        {"ENABLED": False},
        {"ENABLED": lambda: False},
        {"ENABLED": lambda: True},
        {"REDACT": ["node"]},
        {"REDACT": ["version"]},
    ],
    ids=lambda keys: " ".join(keys),
)
def test_what_the_settings_ask_for_is_done(recorder, settings, keys):
    before = settings.BAMBOO_AUDIT

    def send():
        settings.BAMBOO_AUDIT = {**before, **keys}
        event()
        change()
        settings.BAMBOO_AUDIT = before
        failures._begin()

    went = recorder.run(send)
    assert recorder.ordinary
    assert went == recorder.run_ordinarily(send)


def test_another_secret_holds_for_nodes_that_are_known(recorder, settings):
    before = settings.BAMBOO_AUDIT

    def send():
        for secrets in (["password"], ["node"], ["password"]):
            settings.BAMBOO_AUDIT = {**before, "REDACT": secrets}
            receivers.on_pipeline_event(  # fills in the context
                event=SimpleNamespace(event_type="pipeline_finish", data={"pipeline_id": "run"})
            )
            event()
            event()

    went = recorder.run(send)
    shown = [json.loads(parsed(each).data).get("node_id") for each in went]
    assert shown == [None, "n", "n", None, "[redacted]", "[redacted]", None, "n", "n"]
    assert went == recorder.run_ordinarily(send)


@pytest.mark.parametrize("send", [event, change])
def test_another_secret_holds_for_a_context_that_is_known(recorder, settings, send):
    recorder.run(send)
    before = settings.BAMBOO_AUDIT
    recorder.rows.clear()
    with audit.context(ticket="A-1"):
        for secrets in (["password"], ["password"], ["ticket"], ["password"]):
            settings.BAMBOO_AUDIT = {**before, "REDACT": secrets}
            send()
    shown = [json.loads(parsed(each).context)["ticket"] for each in recorder.rows]
    assert shown == ["A-1", "A-1", "[redacted]", "A-1"]


def test_who_and_why_are_told(recorder):
    def send():
        for actor in ("alice", "bob"):
            with audit.context(actor=actor):
                for _ in range(3):
                    event()
                    change()

    went = recorder.run(send)
    assert recorder.ordinary == 2 * 2, "the first of each fills in what the others find"
    actors = [json.loads(parsed(each).context)["actor"] for each in went]
    assert actors == ["alice"] * 6 + ["bob"] * 6
    assert went == recorder.run_ordinarily(send)


@pytest.mark.parametrize("next_one", [event, change])
def test_counts_that_wait_go_with_the_next_record(recorder, next_one):
    def send():
        polls.waiting["n"] = Suppressed(Ids("run", "run", "n"), 2, 1, float("inf"), "since")
        next_one()

    went = recorder.run(send)
    assert json.loads(parsed(went[0]).context)["suppressed"]["pre_schedule"] == 2
    assert not polls.waiting


def test_what_was_missed_is_told_before_the_next_record(recorder):
    def send():
        failures.missed("node_enter", "full")
        event()
        failures.missed("node_enter", "full")
        change()

    went = recorder.run(send)
    assert [parsed(each).event_type for each in went] == [
        *("gap", "node_enter"),
        *("gap", "post_set_state"),
    ]


@pytest.mark.parametrize(
    ("send", "of", "name"),
    [
        (event, writer, "append"),
        (event, record, "flat"),
        (change, writer, "append"),
        (change, straight, "_dumped"),
    ],
)
def test_what_passes_through_is_counted(recorder, monkeypatch, send, of, name):
    def interrupted(*_):
        raise KeyboardInterrupt

    recorder.run(send)
    known_nodes._workers.clear()
    monkeypatch.setattr(of, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        send()
    assert failures.summary().by_reason == {"interrupted by KeyboardInterrupt": 1}


@pytest.mark.parametrize("send", [event, change])
def test_what_cannot_be_kept_is_told_with_its_run_and_node(recorder, monkeypatch, send, caplog):
    def full(*_):
        raise SpoolFull("The spool is full.")

    recorder.run(send)
    monkeypatch.setattr(writer, "append", full)
    send()
    assert failures.summary().by_reason == {"SpoolFull": 1}
    assert "of run run, node n: audit.exceptions.SpoolFull" in caplog.text


@pytest.mark.parametrize("send", [event, change])
def test_a_child_tells_of_itself(recorder, in_child, send):
    recorder.run(send)

    def pid_of_the_next():
        known_nodes.learn_tree(TREE)
        recorder.rows.clear()
        send()
        return json.loads(parsed(recorder.rows[0]).context)["pid"] == os.getpid()

    assert in_child(pid_of_the_next)
