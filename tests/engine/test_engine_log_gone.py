"""The log goes away while the engine runs: nothing changes for it, and the log tells the gap."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from lab import outages, scenarios
from lab.engine import activity, tree_of
from lab.outages import log_is_back
from lab.scenarios import Run
from lab.spy import send, told, written

from audit import conf, engine
from audit.capture.failures import failures
from audit.delivery import inline
from audit.events import GAP
from audit.testing.executor import heap
from audit.testing.postgres import Server, database

Outage = Callable[[Any], AbstractContextManager[None]]

outage = pytest.mark.parametrize(
    "outage",
    [outages.table_gone, outages.insert_forbidden],
    ids=lambda outage: outage.__name__,
)


def audit_log(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "audit"]


def check_gap(gap: Any, lost: list[str]) -> None:
    """One record tells of all that was lost."""
    assert gap.event_type == GAP
    assert gap.data["count"] == len(lost)
    assert gap.data["event_types"] == dict(Counter(lost))
    assert sum(gap.data["reasons"].values()) == len(lost)


@outage
@pytest.mark.parametrize(
    "scenario",
    [scenarios.nested, scenarios.execute_false_then_retry, scenarios.parallel],
    ids=lambda scenario: scenario.__name__,
)
def test_a_run_without_a_log_ends_as_with_one(
    outage, scenario, undisturbed, log_connection, spy, caplog
):
    expected = undisturbed(scenario)
    spy.seen.clear()

    with outage(log_connection):
        run = scenario()

    assert run.outcome() == expected.outcome
    assert [told(each, run.names) for each in spy.seen] == expected.sent
    lost = spy.types()
    assert len(lost) > 25
    assert failures.summary().total == failures.summary().pending == len(lost)
    assert len(audit_log(caplog)) == 1  # and not once an event
    assert written() == []

    log_is_back()
    send("after", {})
    gap, after = written()
    check_gap(gap, lost)
    assert after.event_type == "after"
    assert failures.summary().pending == 0


@outage
def test_a_log_that_goes_away_and_comes_back_tells_the_gap_where_it_was(
    outage, undisturbed, log_connection, spy
):
    expected = undisturbed(scenarios.poll).outcome
    spy.seen.clear()

    run = Run(tree_of(activity("lab_poll", "A", times=3), activity("lab_ok", "B")))
    run.start(work=False)
    heap.pump(limit=2)  # the start and the first poll
    before = len(spy.seen)
    with outage(log_connection):
        heap.pump(limit=1)
    lost = spy.types()[before:]
    log_is_back()
    run.work()

    assert len(lost) == 2
    assert run.outcome() == {**expected, "tasks": run.tasks}
    records = written()
    check_gap(records[before], lost)
    told_here = [each.event_type for each in records]
    assert told_here == [*spy.types()[:before], GAP, *spy.types()[before + len(lost) :]]


def test_a_slow_log_costs_one_time_limit_and_then_rests(
    undisturbed, configure, log_connection, spy
):
    expected = undisturbed(scenarios.nested)
    spy.seen.clear()
    configure(INLINE_TIMEOUT=0.2)

    with outages.table_locked(log_connection):
        began = time.monotonic()
        run = scenarios.nested()
        took = time.monotonic() - began
        assert inline.rest.is_on()

    assert len(spy.seen) == 47
    assert took < 5  # 47 times the limit would be 9.4
    assert run.outcome() == expected.outcome
    log_is_back()
    send("after", {})
    gap = written()[0]
    check_gap(gap, spy.types()[:-1])
    assert gap.data["reasons"]["log resting"] > 40


def test_while_it_rests_the_log_is_not_even_asked(configure, log_connection):
    configure(INLINE_TIMEOUT=0.2)
    with outages.table_locked(log_connection):
        send("first", {})
        began = time.monotonic()
        for _ in range(100):
            send("resting", {})
        assert time.monotonic() - began < 2  # a hundred times the limit would be 20
        assert inline.rest.until - began > 1.5  # ten times as long as it took
        log_is_back()
        send("second", {})

    assert failures.summary().by_reason == {"OperationalError": 2, "log resting": 100}


def test_an_event_waits_for_the_log_once_and_not_twice(configure, log_connection):
    configure(INLINE_TIMEOUT=1.0)
    send("before", {})

    with outages.table_locked(log_connection):
        began = time.monotonic()
        send("during", {})
        took = time.monotonic() - began

    assert 1.0 <= took < 1.8


def test_the_commit_may_have_happened_is_told_as_a_gap_and_not_tried_again(
    log_connection, monkeypatch
):
    commit = log_connection._commit

    def commit_and_break() -> None:
        commit()
        monkeypatch.undo()
        raise OperationalError("the answer to COMMIT was lost")

    monkeypatch.setattr(log_connection, "_commit", commit_and_break)
    send("perhaps", {})
    log_is_back()
    send("after", {})

    assert [each.event_type for each in written()] == ["perhaps", GAP, "after"]
    assert written()[1].data["event_types"] == {"perhaps": 1}


# Below: the log's server stops. Where the engine has its tables on it too, the engine stops.


@pytest.fixture(scope="module")
def log_server() -> Iterator[Server]:
    with Server(durable=False) as server:
        yield server


@pytest.fixture
def own_server(log_server: Server) -> Iterator[Server]:
    alias = conf.get("DATABASE")
    if alias == engine.database():
        pytest.skip("engine and log share a database here: without its server there is no engine")
    log_server.start()
    place = database(log_server.url)
    with outages.another_database(
        alias, HOST=place["HOST"], PORT=place["PORT"], NAME=place["NAME"], USER=place["USER"]
    ):
        call_command("migrate", "bamboo_audit", database=alias, verbosity=0)
        yield log_server


def test_the_logs_server_stops_in_the_middle_of_a_run(own_server, undisturbed, spy, caplog):
    expected = undisturbed(scenarios.poll).outcome
    spy.seen.clear()

    run = Run(tree_of(activity("lab_poll", "A", times=3), activity("lab_ok", "B")))
    run.start(work=False)
    heap.pump(limit=2)
    before = len(spy.seen)
    own_server.interrupt()
    run.work()
    lost = spy.types()[before:]

    assert len(lost) > 10
    assert run.outcome() == {**expected, "tasks": run.tasks}
    assert run.state("root") == "FINISHED"
    assert len(audit_log(caplog)) == 1

    own_server.start()
    log_is_back()
    send("after", {})
    records = written()
    assert [each.event_type for each in records] == [*spy.types()[:before], GAP, "after"]
    check_gap(records[before], lost)


def test_25_runs_without_the_logs_server_are_25_finished_runs(own_server, spy):
    send("before", {})
    own_server.interrupt()

    began = time.monotonic()
    runs = [Run(tree_of(activity("lab_ok", "A"))).start() for _ in range(25)]
    took = time.monotonic() - began

    assert {run.state("root") for run in runs} == {"FINISHED"}
    assert took < 20
    lost = spy.types()[1:]
    assert len(lost) == 25 * 17
    own_server.start()
    log_is_back()
    send("after", {})
    check_gap(written()[1], lost)


def test_a_restart_between_two_events_loses_none(own_server):
    send("before", {})
    own_server.interrupt()
    own_server.start()
    send("after", {})

    assert [each.event_type for each in written()] == ["before", "after"]
    assert failures.summary().total == 0


def test_the_alias_is_as_before(log_connection):
    assert connections[conf.get("DATABASE")] is log_connection
    send("x", {})
    assert [each.event_type for each in written()] == ["x"]
