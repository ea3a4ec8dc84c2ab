"""POLL_SAMPLING from the receivers to the log."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace

import pytest
from django.db.utils import OperationalError

import audit
from audit import conf, delivery, receivers
from audit.capture import sampling
from audit.capture.sampling import polls
from audit.delivery import inline
from audit.events import POLLS_SUPPRESSED
from audit.log import append
from audit.models import PipelineEventRecord
from audit.shipping.background import background
from audit.spool.segment import FAILED
from audit.spool.writer import writer

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def configure(settings):
    def change(**keys):
        settings.BAMBOO_AUDIT = {**getattr(settings, "BAMBOO_AUDIT", {}), **keys}

    change(POLL_SAMPLING=60)
    return change


@pytest.fixture(autouse=True)
def clock(monkeypatch, configure):
    class Clock:
        now = 1_000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(sampling, "time", clock)
    monkeypatch.setattr(delivery, "time", clock)
    return clock


@pytest.fixture
def written():
    newest = PipelineEventRecord.objects.order_by("-id").first()
    since = newest.pk if newest else 0
    return lambda: list(PipelineEventRecord.objects.filter(pk__gt=since).order_by("pk"))


def send(event_type, node="n"):
    data = {"root_pipeline_id": "r", "node_id": node}
    receivers.on_pipeline_event(event=SimpleNamespace(event_type=event_type, data=data))


def poll(node="n", times=1):
    for _ in range(times):
        send("pre_schedule", node)
        send("post_schedule", node)


def told(records):
    return [
        (each.event_type, (counts["pre_schedule"], counts["post_schedule"]))
        if (counts := each.context.get("suppressed"))
        else each.event_type
        for each in records
    ]


def test_the_next_record_of_the_node_tells_what_was_not_recorded(written, clock):
    poll(times=4)
    send("node_finish", "another")
    clock.now += 60
    poll(times=2)
    send("pre_schedule")
    send("node_schedule_fail")
    send("node_finish")

    assert told(written()) == [
        *("pre_schedule", "post_schedule", "node_finish"),
        *(("pre_schedule", (3, 3)), "post_schedule"),
        *(("node_schedule_fail", (2, 1)), "node_finish"),
    ]
    assert written()[3].context["suppressed"]["since"] <= written()[3].occurred_at.isoformat()


def test_every_poll_is_recorded_where_nothing_is_set(written, configure):
    configure(POLL_SAMPLING=None)
    poll(times=3)
    assert told(written()) == ["pre_schedule", "post_schedule"] * 3


def test_what_was_counted_is_told_after_it_was_switched_off(written, configure):
    poll(times=3)
    configure(POLL_SAMPLING=None)
    poll()
    assert told(written()) == [
        "pre_schedule",
        "post_schedule",
        ("pre_schedule", (2, 2)),
        "post_schedule",
    ]
    assert not polls.waiting


def test_nobody_can_claim_to_have_suppressed(written):
    with audit.context(suppressed="claimed"):
        send("node_enter")
    assert "suppressed" not in written()[0].context


@pytest.mark.parametrize("what", ["fails", "rests", "inside", "interrupted"])
def test_counts_outlive_the_record_that_should_have_carried_them(written, monkeypatch, what):
    poll(times=3)
    with pytest.MonkeyPatch.context() as patch:
        error = KeyboardInterrupt if what == "interrupted" else OperationalError
        if what in ("fails", "interrupted"):

            def fail(*_):
                raise error("away")

            patch.setattr(append, "_insert", fail)
        elif what == "rests":
            patch.setattr(inline.rest, "until", math.inf)
        else:
            token = inline._inside.set(True)
        try:
            send("node_finish")
        except KeyboardInterrupt:
            assert what == "interrupted"
        if what == "inside":
            inline._inside.reset(token)
    inline.rest.until = 0.0
    assert told(written()) == ["pre_schedule", "post_schedule"]
    send("pre_pause_node")
    assert told(written())[-1] == ("pre_pause_node", (2, 2))


def test_what_no_record_of_the_node_carries_is_told_by_one_of_its_own(written, clock):
    with audit.context(actor="alice"):
        poll(times=3)
        clock.now += 60
        send("node_enter", "another")

    *_, other, own = written()
    assert (other.event_type, own.event_type) == ("node_enter", POLLS_SUPPRESSED)
    assert (own.root_pipeline_id, own.node_id) == ("r", "n")
    since = own.data.pop("since")
    assert own.data == {
        "root_pipeline_id": "r",
        "node_id": "n",
        "pre_schedule": 2,
        "post_schedule": 2,
    }
    assert since <= own.occurred_at.isoformat()
    assert "actor" not in own.context
    assert not polls.waiting


def test_one_events_thread_tells_a_few_and_the_next_goes_on(written, clock):
    for number in range(25):
        poll(str(number), times=2)
    clock.now += 60
    before = len(written())
    for expected in (11, 22, 28, 29):
        send("node_enter", "another")
        assert len(written()) - before == expected


def test_what_cannot_be_told_is_kept_and_not_tried_with_every_event(written, clock, monkeypatch):
    poll(times=3)
    clock.now += 60
    tried = []

    def fail(counts, *_):
        tried.append(counts)
        raise OperationalError("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "_tell", fail)
        send("node_enter", "another")
        send("node_enter", "another")
    assert len(tried) == 1
    assert delivery.tell_suppressed(math.inf) is True
    assert [
        each.data["pre_schedule"] for each in written() if each.event_type == POLLS_SUPPRESSED
    ] == [2]


def test_at_the_end_all_is_told(written):
    for node in "abc":
        poll(node, times=2)
    assert delivery.tell_suppressed(math.inf)
    assert [each.node_id for each in written()[-3:]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "keys", [{"DELIVERY": "off"}, {"ENABLED": False}], ids=["off", "switched off"]
)
def test_nothing_is_told_while_nothing_is_recorded(written, configure, keys):
    poll(times=2)
    before = len(written())
    configure(**keys)
    assert delivery.tell_suppressed(math.inf) is False
    assert len(written()) == before
    assert polls.waiting


def test_excluded_the_counts_are_dropped(written, configure):
    configure(EXCLUDE_EVENTS=[POLLS_SUPPRESSED])
    poll(times=2)
    assert delivery.tell_suppressed(math.inf)
    assert told(written()) == ["pre_schedule", "post_schedule"]
    assert not polls.waiting


def test_through_the_spool_too(configure, tmp_path, monkeypatch, clock):
    configure(DELIVERY="spool", SPOOL_DIR=str(tmp_path))
    appended = []
    monkeypatch.setattr(writer, "append", lambda rest, flags=0: appended.append(rest))
    monkeypatch.setattr(background, "ensure", lambda: None)
    poll(times=3)
    send("node_finish")
    poll("b", times=2)
    clock.now += 60
    send("node_enter", "c")
    assert [b'"suppressed":{"pre_schedule":2,"post_schedule":2' in row for row in appended] == [
        *(False, False, True),
        *(False, False, False, False),
    ]
    assert b"polls_suppressed" in appended[-1]


@pytest.mark.parametrize("last", ["pre_schedule", "post_schedule"])
def test_an_ignored_error_of_a_poll_that_is_not_recorded_is_known(
    configure, tmp_path, monkeypatch, last
):
    configure(DELIVERY="spool", SPOOL_DIR=str(tmp_path))
    flagged = []
    monkeypatch.setattr(writer, "append", lambda rest, flags=0: flagged.append(flags))
    monkeypatch.setattr(background, "ensure", lambda: None)
    poll(times=3)
    send("pre_schedule")
    if last == "post_schedule":
        send("post_schedule")
    receivers.on_post_set_state(node_id="n", to_state="FINISHED", root_id="r", parent_id="r")
    assert bool(flagged[-1] & FAILED) == (last == "pre_schedule")


def test_nothing_of_this_is_logged_as_a_failure(caplog, clock):
    with caplog.at_level(logging.WARNING, "audit"):
        poll(times=3)
        clock.now += 60
        send("node_enter", "another")
    assert caplog.records == []
    assert conf.mistakes() == []


def test_counts_are_told_also_where_nothing_is_redacted(configure, written, clock):
    """What was remembered of the node's polls is no payload of this record."""
    configure(REDACT=[])
    poll(times=3)
    clock.now += 1_000
    assert delivery.tell_suppressed(math.inf)
    *_, own = written()
    assert own.event_type == POLLS_SUPPRESSED
    assert (own.data["pre_schedule"], own.data["post_schedule"]) == (2, 2)
    send("node_finish")
    *_, last = written()
    assert last.data == {"root_pipeline_id": "r", "node_id": "n"}
