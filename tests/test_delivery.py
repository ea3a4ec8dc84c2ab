"""Delivery "inline" beside transactions, other threads, and itself."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest
from django.db import connections, transaction
from django.db.utils import OperationalError

import audit
from audit import conf, receivers
from audit.capture.failures import failures
from audit.delivery import inline
from audit.events import GAP
from audit.log import append
from audit.models import PipelineEventRecord

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def using():
    return conf.get("DATABASE")


@pytest.fixture
def since():
    """The newest position before the test: the log only grows, so earlier records are there."""
    newest = PipelineEventRecord.objects.order_by("-id").first()
    return newest.pk if newest else 0


def send(event_type="node_enter", **data):
    receivers.on_pipeline_event(event=SimpleNamespace(event_type=event_type, data=data))


def written(since):
    return list(PipelineEventRecord.objects.filter(pk__gt=since).order_by("pk"))


@pytest.fixture
def top_up_always(monkeypatch):
    monkeypatch.setattr(inline, "TOP_UP_EVERY", 1)


@pytest.fixture
def top_up_fails(top_up_always, monkeypatch):
    queries = {**append.queries(), "create_partitions": "SELECT no_such_function()"}
    monkeypatch.setattr(append, "queries", lambda: queries)


def test_a_failing_top_up_is_not_a_lost_record(since, top_up_fails, caplog):
    send()

    assert len(written(since)) == 1
    assert failures.summary().total == 0
    assert "could not make partitions ahead" in caplog.text


def test_a_failing_top_up_leaves_the_callers_transaction_usable(
    since, using, top_up_fails, monkeypatch
):
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        send()
        cursor.execute("SELECT 1")

    assert len(written(since)) == 1


def test_partitions_are_topped_up_when_the_callers_transaction_is_over(using, top_up_always):
    made = []
    with pytest.MonkeyPatch.context() as patch, transaction.atomic(using=using):
        patch.setattr(append, "create_partitions", made.append)
        send()
        assert made == []
        connections[using].run_on_commit[0][1]()
    assert made[0] == using


def test_a_gap_is_told_when_the_callers_transaction_is_committed(since, using):
    failures.missed("lost", "for a test")
    with transaction.atomic(using=using):
        send("first")
        assert failures.pending
    assert [each.event_type for each in written(since)] == ["first", GAP]
    assert not failures.pending


def test_a_gap_survives_a_rollback(since, using):
    failures.missed("lost", "for a test")
    with transaction.atomic(using=using):
        send("first")
        transaction.set_rollback(True, using=using)
    assert written(since) == []
    send("second")
    gap, second = written(since)
    assert (gap.event_type, second.event_type) == (GAP, "second")
    assert gap.data["event_types"] == {"lost": 1}


def test_a_gap_is_of_nobodys_doing_and_holds_no_secret(since):
    failures.missed("lost", "for a test")
    with audit.context(actor="alice", token="s3cret-of-alice"):
        send("after")

    gap, after = written(since)
    assert "actor" not in gap.context
    assert "s3cret-of-alice" not in f"{gap.context}{gap.data}{after.context}"


def test_an_empty_gap_is_not_told(since):
    inline._tell_gap()
    assert written(since) == []


def test_an_event_that_is_sent_while_another_is_recorded_is_counted(since, monkeypatch):
    """A signal handler, a __del__ or a log handler: the driver's lock is not reentrant."""
    insert = append._insert

    def inserting(made, *args):
        if made["event_type"] == "outer":
            send("inner")
        return insert(made, *args)

    monkeypatch.setattr(append, "_insert", inserting)
    send("outer")
    send("later")

    assert [each.event_type for each in written(since)] == ["outer", GAP, "later"]
    assert written(since)[1].data["event_types"] == {"inner": 1}


@pytest.mark.parametrize("size", [255, 256, 8_000, 100_000])
@pytest.mark.parametrize("letter", ["x", "审", "😀"])
def test_an_actor_of_any_length_is_recorded_and_found(since, size, letter):
    with audit.context(actor=letter * size):
        send()

    (found,) = written(since)
    assert found.context["actor"] == (letter * size)[:255]
    assert ("changed" in found.context) == (size > 255)
    assert found in PipelineEventRecord.objects.by_actor(letter * min(size, 255))


def test_a_refused_record_does_not_make_the_log_rest(monkeypatch):
    monkeypatch.setattr(inline, "PAUSE_AFTER", 0.0)
    broken = append.queries()["append_record"].replace("node_version", "no_such_column", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(append, "queries", lambda: {"append_record": broken})
        send()
    assert failures.summary().total == 1
    assert not inline.rest.is_on()


def test_a_log_that_fails_slowly_rests(monkeypatch):
    monkeypatch.setattr(inline, "PAUSE_AFTER", 0.0)
    monkeypatch.setattr(inline, "PAUSE_FACTOR", 1e9)

    def fail(*_):
        raise OperationalError("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(append, "_insert", fail)
        send()
    send()
    assert failures.summary().by_reason == {"OperationalError": 1, "log resting": 1}


@pytest.mark.parametrize("key", ["version", "pipeline", "node_id"])
def test_ids_that_fight_back_do_not_lose_the_event(since, key):
    class Hostile(dict):
        def get(self, *_):
            raise RuntimeError("no")

        def __bool__(self):
            raise RuntimeError("no")

    send("pre_prepare_run_pipeline", **{key: Hostile(id="x")})
    assert [each.event_type for each in written(since)] == ["pre_prepare_run_pipeline"]


def test_threads_tell_a_gap_once(since):
    for _ in range(50):
        failures.missed("lost", "for a test")

    def work():
        for _ in range(5):
            send()
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gaps = [each for each in written(since) if each.event_type == GAP]
    assert sum(gap.data["count"] for gap in gaps) == 50
    positions = [each.writer_position for each in written(since)]
    assert sorted(positions) == list(range(1, len(positions) + 1))


@pytest.mark.skipif("conf.get('DATABASE') == 'default'", reason="the host's own connection")
def test_a_forked_child_does_not_speak_on_its_parents_connection(since):
    send("parent")
    if (child := os.fork()) == 0:
        try:
            send("child")
        finally:
            os._exit(0 if failures.summary().total == 0 else 1)
    _, status = os.waitpid(child, 0)
    send("parent")

    assert os.waitstatus_to_exitcode(status) == 0
    assert [each.event_type for each in written(since)] == ["parent", "child", "parent"]
    assert len({each.writer_id for each in written(since)}) == 2
