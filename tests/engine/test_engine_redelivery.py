"""The real engine's events, sent again: the same to a receiver, and never recorded twice."""

from __future__ import annotations

import io
import json
import time

import orjson
import pytest
from django.core.management import call_command
from lab import redelivered, scenarios
from lab.redelivered import given
from lab.spy import send, written
from pipeline.eri.imp.hooks import HooksMixin, PipelineEvent
from pipeline.eri.signals import pipeline_event

from audit.capture.encode import encode
from audit.events import POST_SET_STATE
from audit.models import PipelineEventRecord
from audit.receivers import on_pipeline_event
from audit.redelivery.event import ReplayedEvent
from audit.shipping.shipper import Shipper
from audit.spool import folder
from audit.spool.writer import writer as spool_writer


@pytest.fixture(autouse=True)
def nothing_given():
    given.clear()
    yield
    given.clear()


def redeliver(run, name="on_event", *words):
    out = io.StringIO()
    call_command(
        *("audit_redeliver", "--receiver", f"lab.redelivered.{name}", "--json", "--anew"),
        *("--pipeline", run.root, *words),
        stdout=out,
    )
    return json.loads(out.getvalue())


@pytest.mark.parametrize("name", scenarios.ALL)
def test_a_receiver_is_given_what_the_live_one_was_given(name, spy):
    run = scenarios.ALL[name]()
    sent = [seen for seen in spy.seen if seen.event_type != POST_SET_STATE]
    told = redeliver(run)

    assert told["delivered"] == len(sent) == len(given)
    for values, seen in zip(given, sent, strict=True):
        event = values["event"]
        assert event.event_type == seen.event_type
        assert event.data == orjson.loads(encode(seen.data)[0])
        assert values == {"signal": pipeline_event, "sender": seen.sender, "event": event}
        assert seen.sender is HooksMixin
        assert isinstance(event, PipelineEvent)
        assert event.as_dict() == PipelineEvent(event.event_type, event.data).as_dict()
        assert event.root_pipeline_id == run.root


def test_the_keywords_are_those_of_the_signal():
    heard = []

    def hear(**values):
        heard.append(values)

    pipeline_event.connect(hear, weak=False)
    try:
        run = scenarios.linear()
    finally:
        pipeline_event.disconnect(hear)
    redeliver(run)
    assert [sorted(values) for values in given] == [sorted(values) for values in heard]
    assert not hasattr(heard[0]["event"], "replayed")


def test_nothing_is_recorded_a_second_time_also_when_it_is_sent_on(spy):
    run = scenarios.execute_false_then_retry()
    before = PipelineEventRecord.objects.count()
    sent = len(spy.seen)
    told = redeliver(run, "send_on")
    assert len(spy.seen) == sent + 2 * told["delivered"], "others were given them"
    assert PipelineEventRecord.objects.count() == before
    # What the receiver itself has the engine do is recorded like anything else.
    send("node_enter", {"root_pipeline_id": run.root, "node_id": run.ids["A"]})
    assert PipelineEventRecord.objects.count() == before + 1


@pytest.fixture
def shipped(configure, tmp_path, settings):
    """Delivery "spool", where nine events in ten go the straight way; ships, and counts."""
    configure(DELIVERY="spool", SPOOL_DIR=str(tmp_path))
    folder.ready(folder.place())

    def ship():
        one = Shipper(folder.place(), settings.BAMBOO_AUDIT.get("DATABASE", "default"))
        assert one.drain(time.monotonic() + 30)
        one.close()
        return PipelineEventRecord.objects.filter(writer_id=spool_writer.id).count()

    yield ship
    spool_writer.close()


def test_nothing_goes_into_the_spool_a_second_time(shipped):
    run = scenarios.linear()
    before = shipped()
    assert before > 10
    redeliver(run, "send_on")
    again = [values["event"] for values in given]
    for event in again:  # later, by whoever kept them
        assert type(event) is ReplayedEvent
        on_pipeline_event(sender=HooksMixin, event=event)
    assert shipped() == before
    another = scenarios.linear()
    assert shipped() == 2 * before, "the engine's own events are recorded as before"
    redeliver(another)


def test_it_records_a_run_that_the_receiver_starts(monkeypatch):
    run, started = scenarios.linear(), []
    before = len(written())

    def start(**_):
        if not started:
            started.append(scenarios.linear())

    monkeypatch.setattr(redelivered, "on_event", start)
    redeliver(run)
    (other,) = started
    assert len(written()) == 2 * before
    assert {each.root_pipeline_id for each in written()[before:]} == {other.root}


def test_a_receiver_is_told_what_was_redacted_and_cut(configure):
    configure(MAX_EVENT_BYTES=20_000)
    run = scenarios.execute_false()
    ids = {"root_pipeline_id": run.root, "node_id": run.ids["A"]}
    send("callback", {**ids, "password": "hunter2", "when": {1, 2}})
    send("callback", {**ids, "text": "x" * 30_000})
    redeliver(run, "on_event", "--type", "callback")
    hidden, cut = (values["event"] for values in given)
    assert hidden.data == {**ids, "password": "[redacted]", "when": [1, 2]}
    assert hidden.context["redacted"] == ["$.password"]
    assert hidden.context["changed"] == [{"path": "$.when", "was": "set"}]
    assert cut.data["truncated"] is True
    assert cut.data["node_id"] == run.ids["A"]
    assert cut.context["changed"][0]["path"] == "$"
