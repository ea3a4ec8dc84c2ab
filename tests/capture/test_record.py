from __future__ import annotations

import datetime
import json
import os
import socket
from typing import Any

import pytest

import audit
from audit.capture import record
from audit.capture.context import OWN
from audit.capture.encode import encode
from audit.capture.ids import MAX_ID, Ids


def make(data: Any = None, event_type: str = "node_enter", **options: Any) -> record.Record:
    given: dict[str, Any] = {"ids": Ids(), "secrets": ("password",)}
    return record.make(event_type, data, **(given | options))


def about(made: record.Record) -> dict[str, Any]:
    found = json.loads(made.context)
    assert isinstance(found, dict)
    return found


def test_a_record_is_what_happened():
    ids = Ids(root_pipeline_id="r", node_id="n")
    made = make({"node_id": "n"}, ids=ids)

    assert made.event_type == "node_enter"
    assert made.ids is ids
    assert json.loads(made.data) == {"node_id": "n"}


def test_context_says_who_why_and_where():
    with audit.context(actor="alice", reason="disk full", ticket={"id": 7}):
        made = make()
    assert about(made) == {
        "actor": "alice",
        "reason": "disk full",
        "ticket": {"id": 7},
        "kind": "process",
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def test_what_the_recorder_knows_itself_cannot_be_claimed():
    with audit.context(host="elsewhere", pid=1, sender="engine"):
        found = about(make(sender="x.State"))
    assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
    assert found["sender"] == "x.State"


@pytest.mark.parametrize("name", sorted(OWN - {"host", "pid"}))
def test_what_the_recorder_says_cannot_be_claimed(name):
    with audit.context(**{name: "claimed"}):
        assert about(make()).get(name) != "claimed"


def test_a_record_is_a_copy_of_a_live_payload():
    payload = {"items": [1]}
    made = make(payload)
    payload["items"].append(2)
    assert json.loads(made.data) == {"items": [1]}


def test_changes_and_redactions_are_noted():
    found = about(make({"a": {1}, "password": "x"}))
    assert found["changed"] == [{"path": "$.a", "was": "set"}]
    assert found["redacted"] == ["$.password"]


def test_changes_of_the_context_are_noted_too():
    with audit.context(reason="nul \0", at=datetime.date(2026, 1, 2)):
        found = about(make({"b": b"x"}))
    assert (found["reason"], found["at"]) == ("nul ␀", "2026-01-02")
    assert found["changed"][0] == {"path": "$.b", "was": "bytes"}
    assert {note["path"]: note["was"] for note in found["changed"][1:]} == {
        "context.reason": "text with NUL or lone surrogates",
        "context.at": "date",
    }


def test_redactions_of_the_context_are_noted_too():
    with audit.context(password="x"):
        found = about(make({"password": "y"}))
    assert found["password"] == "[redacted]"
    assert found["redacted"] == ["$.password", "context.password"]


def test_a_context_that_fights_back_costs_only_itself():
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError("boom")

    with audit.context(actor="alice", bad=Bad()):
        found = about(make())
    assert found["actor"] == "alice"
    assert found["bad"] == "<Bad, whose repr raised RuntimeError>"


def test_paths_of_odd_keys_are_text_that_postgresql_takes():
    found = about(make({"\udc80\0": {"password": "x", "b": b"y"}}))
    assert found["redacted"] == ["$.\\udc80␀.password"]
    assert {"path": "$.\\udc80␀.b", "was": "bytes"} in found["changed"]


@pytest.mark.parametrize(
    ("name", "stored"),
    [("", ""), ("a\0b", "a␀b"), ("\udc80", "\\udc80"), ("é" * 1_000, "é" * MAX_ID)],
)
def test_any_event_type_is_text_that_an_index_takes(name, stored):
    assert make(event_type=name).event_type == stored


@pytest.mark.django_db(databases="__all__")
def test_a_queryset_in_a_payload_asks_nothing_of_the_database(django_assert_num_queries):
    from django.contrib.contenttypes.models import ContentType
    from django.db import connection

    payload = {"all": ContentType.objects.all(), "one": ContentType(pk=1)}
    with django_assert_num_queries(0, connection=connection):
        text, notes = encode(payload)
    assert b"QuerySet>" in text
    assert b"ContentType>" in text
    assert len(notes) == 2


def trees(count: int = 1) -> dict[str, Any]:
    return {"pipeline": {"id": "run", "activities": {f"n{i}": {} for i in range(count)}}}


def test_a_tree_is_looked_through_once_for_its_two_events(monkeypatch):
    looked = []
    redact = record.redact.redact
    monkeypatch.setattr(record.redact, "redact", lambda *of: looked.append(of) or redact(*of))
    data = trees(2)
    first = make(data, event_type="pre_prepare_run_pipeline")
    second = make(data, event_type="post_prepare_run_pipeline")
    assert second.data == first.data
    assert json.loads(second.data) == data
    assert len([encoded for encoded, _ in looked if encoded == first.data]) == 1


@pytest.mark.parametrize(
    "changed",
    [
        lambda data: data["pipeline"]["activities"].update(more={}),
        lambda data: data.update(password="hunter2"),
        lambda data: data.update(ratio=float("nan")),
    ],
)
def test_a_tree_that_changed_in_between_is_looked_through_again(changed):
    data = trees()
    make(data, event_type="pre_prepare_run_pipeline")
    changed(data)
    again = make(data, event_type="post_prepare_run_pipeline")
    expected = make(data, event_type="other")
    assert again == expected._replace(event_type="post_prepare_run_pipeline")
    assert b"hunter2" not in again.data


def test_a_tree_is_looked_through_again_for_other_secrets():
    data = trees() | {"ticket": "A-1"}
    make(data, event_type="pre_prepare_run_pipeline")
    again = make(data, event_type="post_prepare_run_pipeline", secrets=("ticket",))
    assert b"A-1" not in again.data


def test_a_tree_with_a_secret_hides_it_in_both_events():
    data = trees() | {"password": "hunter2"}
    for event_type in ("pre_prepare_run_pipeline", "post_prepare_run_pipeline"):
        made = make(data, event_type=event_type)
        assert b"hunter2" not in made.data
        assert json.loads(made.context)["redacted"] == ["$.password"]
