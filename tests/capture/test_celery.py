"""What the header holds, and what becomes of the context where a task does not end well."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

import audit
from audit import conf
from audit.capture import celery, context, record
from audit.capture.ids import Ids


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert context.current() is context.NOTHING
    context.go_back_to(context.NOTHING)


def made(sender: str | None = None) -> dict[str, Any]:
    text = record.make("x", {}, Ids(), conf.get("REDACT"), sender).context
    return dict(json.loads(text))


def carried(**said: Any) -> Any:
    with audit.context(**said):
        text = celery.carried()
    return json.loads(text) if text else None


def task(**request: Any) -> Any:
    request.setdefault("is_eager", False)
    return SimpleNamespace(name="app.work", request=request_of(request))


def request_of(values: dict[str, Any]) -> Any:
    return SimpleNamespace(get=values.get, is_eager=values["is_eager"])


def test_nothing_is_carried_of_nobody():
    assert celery.carried() == ""
    headers: dict[str, Any] = {}
    celery.on_before_task_publish(headers=headers)
    assert headers == {}


def test_who_and_why_are_carried_as_text():
    headers: dict[str, Any] = {"id": "1"}
    with audit.context(actor="alice", at={1}, token="s3cret", pid=5, request="x"):
        celery.on_before_task_publish(headers=headers)
    assert headers.keys() == {"id", celery.HEADER}
    assert json.loads(headers[celery.HEADER]) == {
        "actor": "alice",
        "at": [1],
        "token": "[redacted]",
    }


@pytest.mark.parametrize("keys", [{"DELIVERY": "off"}, {"ENABLED": False}], ids=str)
def test_nothing_is_carried_while_nothing_is_recorded(settings, keys):
    settings.BAMBOO_AUDIT = keys
    assert carried(actor="alice") is None


def test_other_secrets_hold_at_once(settings):
    with audit.context(actor="alice", ticket=7):
        assert json.loads(celery.carried())["ticket"] == 7
        settings.BAMBOO_AUDIT = {"REDACT": ["ticket"]}
        assert json.loads(celery.carried())["ticket"] == "[redacted]"


def test_it_is_encoded_once(monkeypatch):
    with audit.context(actor="alice"):
        first = celery.carried()
        monkeypatch.setattr(celery, "_carried", None)
        assert celery.carried() is first


LONG = "x" * 5_000


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"actor": "a", "tree": LONG, "n": 1}, {"actor": "a", "left_out": 2}),
        ({"actor": "a", "reason": LONG}, {"actor": "a", "reason": "x" * 500 + "…", "left_out": 0}),
        (
            {"actor": "\1" * 5_000, "reason": "\1" * 5_000, "source": "s"},
            {
                "actor": "\1" * 100 + "…",
                "reason": "\1" * 100 + "…",
                "source": "s",
                "left_out": 0,
            },
        ),
        (
            {"actor": {"id": 1, "more": LONG}},
            {"actor": json.dumps({"id": 1, "more": LONG}, separators=(",", ":"))[:500] + "…"}
            | {"left_out": 0},
        ),
    ],
    ids=["extra", "reason", "escapes", "actor"],
)
def test_what_is_too_long_is_cut(said, expected):
    with audit.context(**said):
        assert len(celery.carried()) <= celery.MAX_BYTES
    assert carried(**said) == expected


def test_a_request_of_a_header_that_is_none_of_ours_is_not_carried_on():
    header = json.dumps({"request": LONG})
    celery.begin("1", "work", header)
    assert celery.carried() == ""
    celery.end("1")


@pytest.mark.parametrize("header", [None, "", "{", "[1]", "5", "\udc80", 5, {"actor": "x"}])
def test_a_header_that_is_none_of_ours_is_nothing(header):
    celery.begin("1", "work", header)
    assert "inherited" not in made()
    celery.end("1")


def test_what_a_task_that_died_left_is_not_the_next_ones():
    with audit.context(source="this worker"):
        celery.on_task_prerun(task=task(bamboo_audit='{"actor": "alice"}'), task_id="1")
        audit.context(actor="left behind").__enter__()
        celery.on_task_prerun(task=task(), task_id="2")
        found = made()
        assert "inherited" not in found
        assert "actor" not in found
        assert found["task"] == {"id": "2", "name": "app.work"}
        assert found["source"] == "this worker"
        celery.on_task_postrun(task_id="2")
        assert (made()["source"], made()["kind"]) == ("this worker", "process")


def test_a_task_that_ends_takes_its_open_blocks_with_it():
    celery.on_task_prerun(task=task(), task_id="1")
    audit.context(actor="left open").__enter__()
    celery.on_task_postrun(task_id="1")
    assert context.current() is context.NOTHING


def test_an_eager_task_inside_another_ends_alone():
    celery.on_task_prerun(task=task(bamboo_audit='{"actor": "alice"}'), task_id="1")
    with audit.context(reason="why"):
        before = context.current()
        # A retry of an eager task has the same id, and runs inside it.
        celery.on_task_prerun(task=task(is_eager=True), task_id="1")
        celery.on_task_prerun(task=task(is_eager=True), task_id="1")
        assert made()["inherited"] == {"actor": "alice", "reason": "why"}
        celery.on_task_postrun(task_id="1")
        celery.on_task_postrun(task_id="1")
        assert context.current() is before
    celery.on_task_postrun(task_id="1")


def test_the_end_of_a_task_that_never_began_is_nothing():
    with audit.context(actor="alice"):
        celery.on_task_postrun(task_id="1")
        assert made()["actor"] == "alice"


def test_a_task_is_encoded_once(monkeypatch):
    celery.begin("1", "work", '{"actor": "alice"}')
    first = made()
    monkeypatch.setattr(record, "_about", None)
    assert made() == first
    celery.end("1")


@pytest.mark.parametrize("place", ["carried", "begin", "end"])
def test_neither_publisher_nor_worker_notices(monkeypatch, caplog, place):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(celery, place, fail)
    celery.on_before_task_publish(headers={})
    celery.on_task_prerun(task=task(), task_id="1")
    celery.on_task_postrun(task_id="1")
    context.go_back_to(context.NOTHING)
    assert caplog.text.count("goes on without who and why") == 1


def test_odd_signals_are_nothing_to_notice(caplog):
    celery.on_before_task_publish()
    celery.on_task_prerun()
    celery.on_task_postrun()
    with audit.context(actor="alice"):
        celery.on_before_task_publish(headers=None)
    assert len(caplog.records) == 2


def test_threads_run_tasks_beside_each_other():
    ready, found = threading.Barrier(8), {}

    def work(name: str) -> None:
        celery.begin(name, "work", json.dumps({"actor": name}))
        ready.wait(10)
        found[name] = made()["inherited"]["actor"]
        ready.wait(10)
        celery.end(name)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"t{number}": f"t{number}" for number in range(8)}


def test_it_is_connected_where_there_is_a_celery():
    signals = pytest.importorskip("celery.signals")
    for signal in (signals.before_task_publish, signals.task_prerun, signals.task_postrun):
        assert [key for key, _ in signal.receivers if celery.UID in str(key)]


def test_without_celery_there_is_nothing_to_connect_to(monkeypatch):
    monkeypatch.setattr(celery, "signals", None)
    celery.connect()
