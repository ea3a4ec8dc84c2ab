from __future__ import annotations

import datetime
import json
import os
import socket
from typing import Any

import pytest

import audit
from audit.capture import record
from audit.capture.encode import encode
from audit.capture.ids import MAX_ID, Ids
from audit.capture.writer import writer


def make(data: Any = None, event_type: str = "node_enter", **options: Any) -> record.Record:
    given: dict[str, Any] = {"ids": Ids(), "stamp": writer.stamp(), "secrets": ("password",)}
    return record.make(event_type, data, **(given | options))


def about(made: record.Record) -> dict[str, Any]:
    found = json.loads(made.context)
    assert isinstance(found, dict)
    return found


def test_a_record_is_what_happened_with_its_number():
    stamp, ids = writer.stamp(), Ids(root_pipeline_id="r", node_id="n")
    made = make({"node_id": "n"}, ids=ids, stamp=stamp)

    assert made.event_type == "node_enter"
    assert made.ids is ids
    assert json.loads(made.data) == {"node_id": "n"}
    assert (made.writer_id, made.writer_position) == (stamp.writer_id, stamp.position)
    assert made.occurred_at == stamp.occurred_at
    assert made.occurred_at.utcoffset() == datetime.timedelta(0)


def test_context_says_who_why_and_where():
    with audit.context(actor="alice", reason="disk full", ticket={"id": 7}):
        made = make()
    assert about(made) == {
        "actor": "alice",
        "reason": "disk full",
        "ticket": {"id": 7},
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


def test_what_the_recorder_knows_itself_cannot_be_claimed():
    with audit.context(host="elsewhere", pid=1, sender="engine"):
        found = about(make(sender="x.State"))
    assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
    assert found["sender"] == "x.State"


@pytest.mark.parametrize("name", ["sender", "changed", "redacted"])
def test_notes_of_the_recorder_cannot_be_claimed(name):
    with audit.context(**{name: "claimed"}):
        assert name not in about(make())


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
