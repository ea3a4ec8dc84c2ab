"""``audit_redeliver``: which events, in which order, how far; what goes wrong is told."""

from __future__ import annotations

import datetime
import io
import json
import signal
import threading
import time
from contextlib import suppress

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from lab import redelivered
from lab.redelivered import given, positions, trouble

from audit import conf
from audit.exceptions import AuditError, ReceiverFailed
from audit.log import redeliveries, settled
from audit.log.redeliveries import Wanted
from audit.models import PipelineEventRecord, ProjectionCheckpoint
from audit.redelivery import hold, redeliver
from audit.redelivery.hold import Hold
from audit.redelivery.wanted import name_of, wanted
from audit.shipping.sidecar import Stop

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

ON_EVENT, TROUBLE = "lab.redelivered.on_event", "lab.redelivered.trouble"


@pytest.fixture
def run(record_factory, request):
    """Three runs' records, each by position; other tests' are not of these runs."""
    names = [f"{request.node.name[:60]} {letter}" for letter in "abc"]
    return {
        name[-1]: [
            record_factory("node_enter", run=name, node=f"{name} node", data={"n": number})
            for number in range(5)
        ]
        for name in names
    } | {"names": names}


def command(*words, receiver=ON_EVENT, **options):
    out = io.StringIO()
    call_command("audit_redeliver", "--receiver", receiver, *words, stdout=out, **options)
    return out.getvalue()


def of_runs(run, letters="abc"):
    return ["--pipeline", *(name for name in run["names"] if name[-1] in letters)]


def found(*words, **options):
    return json.loads(command(*words, "--json", **options))


def test_events_come_in_the_order_of_the_log_and_never_twice(run, record_factory):
    a, b = run["a"], run["b"]
    assert command(*of_runs(run, "ab")) == (
        f"{ON_EVENT}: 10 events delivered, of positions 1 to {b[-1]:,}.\n"
    )
    assert positions() == a + b
    assert command(*of_runs(run, "ba")) == (
        f"{ON_EVENT}: nothing new, all is delivered up to position {b[-1]:,}.\n"
    )
    more = record_factory("node_finish", run=run["names"][0])
    told = found(*of_runs(run, "ab"))
    assert (told["delivered"], told["start"], told["position"]) == (1, b[-1], more)
    assert positions() == [*a, *b, more]
    command("--anew", *of_runs(run, "ab"))
    assert positions() == [*a, *b, more] * 2


def test_all_of_the_log_up_to_its_head_page_by_page(run, monkeypatch):
    monkeypatch.setattr(redeliver, "PAGE", 3)
    monkeypatch.setattr(redeliver, "REACH", 4)
    before = run["a"][0] - 1  # what other tests have left in the log is of no interest
    with Hold(conf.get("DATABASE"), name_of(ON_EVENT, Wanted()), stop=Stop()) as held:
        held.move(before)
    told = found()
    sent = PipelineEventRecord.objects.exclude(event_type__in=redeliver.NOT_SENT)
    assert positions() == list(
        sent.filter(pk__gt=before).order_by("pk").values_list("pk", flat=True)
    )
    assert told["start"] == before
    assert told["position"] == settled.head(conf.get("DATABASE"))
    assert told["finished"] is True


def test_what_is_no_pipeline_event_is_not_sent(record_factory):
    own = [record_factory(name, run="own records") for name in redeliver.NOT_SENT]
    newer = record_factory("an_engine_of_tomorrow", run="own records")
    assert len(own) == 5
    found("--pipeline", "own records")
    assert positions() == [newer]
    found("--type", "an_engine_of_tomorrow", "--pipeline", "own records")
    assert positions() == [newer, newer]


def test_the_receiver_is_given_what_the_signal_gives(record_factory):
    data = {"root_pipeline_id": "shape", "node_id": "n", "many": [1, {"a": None}], "big": 2**80}
    record_factory("node_enter", run="shape", node="n", data=data, actor="alice", reason="why")
    record_factory("callback", run="shape", data=[1, 2])
    found("--pipeline", "shape")
    event = given[0]["event"]
    record = PipelineEventRecord.objects.get(pk=event.position)
    assert given[0].keys() == {"signal", "sender", "event"}
    assert event.replayed is True
    assert event.as_dict() == {"event_type": "node_enter", "data": record.data}
    assert event.data["many"] == data["many"]
    assert event.data["big"] == str(2**80)  # as the log holds what JSON's readers do not
    assert (event.occurred_at, event.root_pipeline_id) == (record.occurred_at, "shape")
    assert event.context == record.context
    assert event.context["actor"] == "alice"
    assert event.context["changed"] == [{"path": "$.big", "was": "int"}]
    assert given[1]["event"].data == [1, 2]


def test_filters(run, record_factory):
    a, b, c = run["a"], run["b"], run["c"]
    other = record_factory("node_finish", run=run["names"][0])
    at = dict(PipelineEventRecord.objects.values_list("pk", "occurred_at"))

    def sent(*words):
        given.clear()
        command(*words)
        return positions()

    every = of_runs(run)
    assert sent(*every, "--since", at[b[2]].isoformat()) == [*b[2:], *c, other]
    assert sent(*every, "--until", at[b[2]].isoformat()) == [*a, *b[:2]]
    naive = at[b[2]].replace(tzinfo=None).isoformat()  # TIME_ZONE is UTC
    assert sent(*every, "--since", naive, "--until", at[c[0]].isoformat()) == b[2:]
    assert sent(*of_runs(run, "ac"), "--type", "node_finish") == [other]
    assert sent(*of_runs(run, "ac"), "--type", "node_enter", "--type", "node_finish") == [
        *a,
        *c,
        other,
    ]
    # A node's id stands for its run.
    assert sent("--pipeline", f"{run['names'][1]} node") == b
    assert ProjectionCheckpoint.objects.filter(name__startswith="redeliver:").count() == 6


def test_operations_that_were_stored_before_their_run_was_known_are_sent(record_factory):
    early = record_factory("pre_pause_node", run="", node="early node")
    later = record_factory("node_enter", run="early run", node="early node")
    found("--pipeline", "early run")
    assert positions() == [early, later]


def test_one_that_raises_is_gone_on_with_where_it_stopped(run):
    a = run["a"]
    trouble.at = [a[2]]
    with pytest.raises(CommandError) as told:
        command(*of_runs(run, "a"), receiver=TROUBLE)
    assert str(told.value) == (
        f"The receiver 'lab.redelivered.trouble' raised ValueError: no ·[31m such·order ·"
        f" (for node_enter at position {a[2]}). What comes before is delivered. Correct it and go "
        "on with the same command, without --anew: it begins with that event, or with "
        f"--skip {a[2]} after it."
    )
    assert positions() == a[:2]
    assert isinstance(told.value.__cause__, ReceiverFailed)
    assert told.value.__cause__.__cause__ is trouble.error
    with pytest.raises(CommandError, match=f"at position {a[2]}"):
        command(*of_runs(run, "a"), receiver=TROUBLE)
    trouble.at = []
    assert found(*of_runs(run, "a"), receiver=TROUBLE)["delivered"] == 3
    assert positions() == a


def test_an_event_may_be_left_out(run):
    a = run["a"]
    trouble.at = [a[2], a[4]]
    with pytest.raises(CommandError, match=f"--skip {a[2]}"):
        command(*of_runs(run, "a"), receiver=TROUBLE)
    said = command(*of_runs(run, "a"), "--skip", str(a[2]), str(a[4]), receiver=TROUBLE)
    assert said.endswith(f" Left out: {a[2]}, {a[4]}.\n")
    assert positions() == [*a[:2], a[3]]


def test_a_receiver_that_passes_something_to_be_awaited_is_found_out(run):
    with pytest.raises(CommandError, match="answered something to be awaited"):
        command(*of_runs(run, "a"), receiver="lab.redelivered.hides_async")


def test_one_that_runs_its_async_function_itself_is_one(run):
    assert found(*of_runs(run, "a"), receiver="lab.redelivered.run_async")["delivered"] == 5


@pytest.mark.parametrize(
    ("receiver", "words"),
    [
        ("on_event", "cannot be imported .*doesn't look like a module path.* Name a function"),
        ("lab.redelivered.on_evnet", "cannot be imported .*on_evnet.* Name a function"),
        ("lab.nowhere.on_event", "cannot be imported .*No module named 'lab.nowhere'"),
        ("lab.redelivered.number", "is an int and cannot be called"),
        ("lab.redelivered.Handler", "is a class"),
        ("lab.redelivered.on_event_async", "is an async function.*async_to_sync"),
        ("lab.redelivered.async_handler", "is an async function.*async_to_sync"),
        ("lab.redelivered.takes_too_little", r"does not take .*def on_event\(sender, event"),
        ("audit.receivers.on_pipeline_event", "is bamboo-audit's own"),
        ("audit.testing.postgres.ensure", "is bamboo-audit's own"),
    ],
)
def test_what_is_no_receiver_is_refused(receiver, words):
    with pytest.raises(CommandError, match=words) as told:
        command(receiver=receiver)
    assert f"The receiver {receiver!r} " in str(told.value)
    assert not ProjectionCheckpoint.objects.filter(name__startswith="redeliver:").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--type", "node_entr"], "no event of type 'node_entr'.*'node_enter'.*pipeline_finish"),
        (["--type", "no\0de"], "no event of type"),
        (["--type", "post_set_state"], "not one that pipeline_event sends.*pipeline_finish"),
        (["--type", "node_enter", "gap"], "'gap' is not one that pipeline_event sends"),
        (["--since", "7d"], "--since 7d: no such time. Write it as 2026-03-01T09:30:00"),
        (["--until", "2026-02-30T00:00:00"], "--until 2026-02-30T00:00:00: no such time"),
        (["--since", "2026-03-01T09:30:00", "--until", "2026-03-01T09:30:00"], "to be earlier"),
        (["--since", "2026-03-02T00:00:00", "--until", "2026-03-01T00:00:00Z"], "to be earlier"),
        (["--pipeline", "nobody"], "The log has no record of 'nobody'"),
        (["--pipeline", ""], "The log has no record of ''"),
        (["--skip", "one"], "invalid int value"),
    ],
)
def test_what_is_asked_for_wrongly_is_told(arguments, words):
    with pytest.raises(CommandError, match=words):
        command(*arguments)
    assert given == []


def test_a_receiver_works_outside_of_any_transaction_and_is_seen_at_once(run, monkeypatch):
    using, seen = conf.get("DATABASE"), []

    def look(**_):
        seen.append((connections[using].in_atomic_block, checkpoint().position))

    monkeypatch.setattr(redelivered, "on_event", look)
    command(*of_runs(run, "a"))
    assert seen == [(False, before) for before in [run["a"][0] - 1, *run["a"][:-1]]]


def checkpoint() -> ProjectionCheckpoint:
    return ProjectionCheckpoint.objects.get(name__startswith="redeliver:")


def test_what_a_receiver_has_written_stays_where_the_next_event_fails(run, monkeypatch):
    def write(event, **_):
        if event.position == run["a"][2]:
            raise ValueError
        ProjectionCheckpoint.objects.using(conf.get("DATABASE")).create(
            name=f"written {event.position}", version=1, position=1, updated_at=event.occurred_at
        )

    monkeypatch.setattr(redelivered, "on_event", write)
    with pytest.raises(CommandError):
        command(*of_runs(run, "a"))
    written = ProjectionCheckpoint.objects.filter(name__startswith="written ")
    assert written.count() == 2
    written.delete()


def test_status_shows_no_redelivery_as_a_projection(run):
    command(*of_runs(run, "a"))
    assert checkpoint().version == 0, "nobody holds it"
    out = io.StringIO()
    with suppress(SystemExit):  # unhealthy for other reasons
        call_command("audit_status", json=True, stdout=out)
    assert not [each for each in json.loads(out.getvalue())["checkpoints"] if ":" in each["name"]]


# One at a time.


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(hold, "LEASE", 1.0)
    monkeypatch.setattr(hold, "RENEW", 0.2)
    monkeypatch.setattr(hold, "LOOK", 0.05)


def test_a_second_one_is_refused_while_the_first_is_at_a_long_event(run, monkeypatch, impatient):
    """Longer than the lease: signs of life come from another thread."""
    refused = []

    def second():
        try:
            redeliver.redeliver(ON_EVENT, wanted(ids=run["names"][:1]))
        except AuditError as error:
            refused.append(str(error))
        finally:
            connections.close_all()

    def slow(event, **_):
        if event.position == run["a"][0]:
            time.sleep(1.5)
            other = threading.Thread(target=second)
            other.start()
            other.join()
        redelivered.given.append({"event": event})

    monkeypatch.setattr(redelivered, "on_event", slow)
    command(*of_runs(run, "a"))
    assert len(refused) == 1
    assert "Another process goes on with redeliver:lab.redelivered.on_event:" in refused[0]
    assert positions() == run["a"]


def test_another_receiver_or_other_events_are_another_redelivery(run, impatient):
    name = "redeliver:lab.redelivered.on_event:0123456789ab"
    with Hold(conf.get("DATABASE"), name, stop=Stop()):
        command(*of_runs(run, "a"))
        command(*of_runs(run, "b"))
        command(*of_runs(run, "a"), receiver=TROUBLE)
    assert positions() == [*run["a"], *run["b"], *run["a"]]


def test_one_that_was_killed_is_waited_for_and_then_gone_on_with(run, impatient):
    using = conf.get("DATABASE")
    command(*of_runs(run, "a"))
    name = checkpoint().name
    lease = datetime.timedelta(seconds=1)
    assert redeliveries.take(using, name, 7, lease, anew=True) == 0
    began = time.monotonic()
    assert found(*of_runs(run, "a"))["delivered"] == 5
    assert time.monotonic() - began > 0.5
    # Should it not have been killed, but have stood still:
    assert not redeliveries.move(using, name, 7, 1)


def test_one_that_stood_still_ends_when_another_has_gone_on(run, monkeypatch):
    using = conf.get("DATABASE")

    def overtaken(event, **_):
        redelivered.given.append({"event": event})
        lease = datetime.timedelta(seconds=-1)
        assert redeliveries.take(using, checkpoint().name, 7, lease, anew=False) is not None

    monkeypatch.setattr(redelivered, "on_event", overtaken)
    with pytest.raises(CommandError, match=f"event at position {run['a'][0]} may be delivered tw"):
        command(*of_runs(run, "a"))
    assert checkpoint().version == 7, "it is the other's"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_event_under_way(run, monkeypatch, number):
    before = signal.getsignal(number)

    def ends(event, **_):
        if event.position == run["a"][2]:
            signal.raise_signal(number)
        redelivered.given.append({"event": event})

    monkeypatch.setattr(redelivered, "on_event", ends)
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_redeliver", "--receiver", ON_EVENT, *of_runs(run, "a"), stdout=out)
    assert ended.value.code == 1
    assert signal.getsignal(number) is before
    assert f"Ended before position {run['a'][-1]:,}: the same command goes on" in out.getvalue()
    assert positions() == run["a"][:3]
    assert found(*of_runs(run, "a"))["finished"] is True
    assert positions() == run["a"]


def test_a_second_ctrl_c_ends_it_at_once(run, monkeypatch):
    def hangs(event, **_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(redelivered, "on_event", hangs)
    with pytest.raises(KeyboardInterrupt):
        command(*of_runs(run, "a"))
    assert checkpoint().version == 0, "nobody holds it"
    assert checkpoint().position == run["a"][0] - 1


def test_inside_a_callers_transaction_it_is_the_callers(run, monkeypatch):
    """Nothing beside it waits for the row, which is the transaction's."""
    using = conf.get("DATABASE")

    def look(event, **_):
        assert "audit-hold" not in [each.name for each in threading.enumerate()]
        redelivered.given.append({"event": event})

    monkeypatch.setattr(redelivered, "on_event", look)
    with transaction.atomic(using=using):
        redeliver.redeliver(ON_EVENT, wanted(ids=run["names"][:1]))
        transaction.set_rollback(True, using=using)
    assert positions() == run["a"]
    assert not ProjectionCheckpoint.objects.filter(name__startswith="redeliver:").exists()
