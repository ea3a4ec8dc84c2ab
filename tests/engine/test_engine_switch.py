"""Switched off while the engine runs: nothing is recorded, nothing asked, and a gap tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from lab import scenarios
from lab.engine import activity, tree_of
from lab.scenarios import Run
from lab.spy import send, written

from audit import conf
from audit.capture.failures import failures
from audit.events import GAP, POST_SET_STATE
from audit.testing.executor import heap


class Switch:
    """One way to switch; answers how to turn it off and on."""

    def __init__(self, configure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.configure, self.monkeypatch = configure, monkeypatch
        self.file = tmp_path / "switch"

    def setting(self, on: bool) -> None:
        self.configure(ENABLED=on)

    def callable(self, on: bool) -> None:
        self.configure(ENABLED=lambda: on)

    def environment(self, on: bool) -> None:
        self.monkeypatch.setenv(conf.ENABLED_VARIABLE, "yes" if on else "Off")

    def environment_goes_before_the_setting(self, on: bool) -> None:
        self.configure(ENABLED=not on)
        self.environment(on)

    def file_in_the_environment(self, on: bool) -> None:
        self.monkeypatch.setenv(conf.ENABLED_VARIABLE, f"@{self.file}")
        self.file.write_text("on\n" if on else "off\n")


@pytest.fixture
def switch(configure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Switch:
    return Switch(configure, monkeypatch, tmp_path)


WAYS = [
    Switch.setting,
    Switch.callable,
    Switch.environment,
    Switch.environment_goes_before_the_setting,
    Switch.file_in_the_environment,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_switched_off_and_on_while_a_run_is_going(way, switch, undisturbed, spy):
    expected = undisturbed(scenarios.poll).outcome
    spy.seen.clear()
    run = Run(tree_of(activity("lab_poll", "A", times=3), activity("lab_ok", "B")))
    run.start(work=False)
    heap.pump(limit=1)
    before = len(spy.seen)

    way(switch, False)
    heap.pump(limit=2)
    off = spy.types()[before:]
    assert len(off) == 4
    assert len(written()) == before
    way(switch, True)
    run.work()

    assert run.outcome() == {**expected, "tasks": run.tasks}
    records = written()
    gap = records[before]
    assert gap.event_type == GAP
    assert gap.data["count"] == len(off)
    assert gap.data["reasons"] == {"switched off": len(off)}
    assert gap.data["event_types"] == dict(Counter(off))
    after = spy.types()[before + len(off) :]
    assert [record.event_type for record in records] == [*spy.types()[:before], GAP, *after]


def test_a_run_begun_while_off_still_knows_its_ids_when_on(switch):
    switch.setting(False)
    run = Run(tree_of(scenarios.subprocess("sub", activity("lab_ok", "A")))).start(work=False)
    switch.setting(True)
    run.call("pause_node_appoint", "sub/A", work=False)

    record = written()[-1]
    assert (record.root_pipeline_id, record.pipeline_id) == (run.root, run.ids["sub"])


def test_a_switch_that_raises_is_on(configure, monkeypatch, caplog):
    monkeypatch.setattr(conf, "_complained_at", float("-inf"))

    def broken() -> bool:
        raise RuntimeError("no switch here")

    configure(ENABLED=broken)
    send("x", {})

    assert [record.event_type for record in written()] == ["x"]
    assert failures.summary().total == 0
    (line,) = [each for each in caplog.records if each.name == "audit"]
    assert "ENABLED" in line.getMessage()


def test_a_switch_file_that_is_missing_is_on(switch):
    switch.file_in_the_environment(True)
    switch.file.unlink()
    send("x", {})

    assert [record.event_type for record in written()] == ["x"]


def test_a_switch_file_is_read_once_a_second(switch, monkeypatch):
    switch.file_in_the_environment(True)
    monkeypatch.setattr(conf, "LOOK_SECONDS", 3600.0)
    send("x", {})
    switch.file.write_text("off")
    send("y", {})
    monkeypatch.setattr(conf, "LOOK_SECONDS", 0.0)
    send("z", {})

    assert [record.event_type for record in written()] == ["x", "y"]


@contextmanager
def queries_of(alias: str) -> Iterator[list[str]]:
    asked: list[str] = []

    def ask(execute: Any, sql: Any, *rest: Any) -> Any:
        asked.append(str(sql))
        return execute(sql, *rest)

    with connections[alias].execute_wrapper(ask):
        yield asked


def ours(queries: list[str]) -> list[str]:
    return [sql for sql in queries if "bamboo_audit" in sql or "statement_timeout" in sql]


@pytest.mark.parametrize(
    ("keys", "missed"), [({"DELIVERY": "off"}, False), ({"ENABLED": False}, True)]
)
def test_off_asks_the_log_nothing(keys, missed, configure, undisturbed, spy):
    expected = undisturbed(scenarios.execute_false_then_retry).outcome
    spy.seen.clear()
    configure(**keys)
    with queries_of(conf.get("DATABASE")) as asked:
        run = scenarios.execute_false_then_retry()

    assert run.outcome() == expected
    assert ours(asked) == []
    assert failures.summary().pending == (len(spy.seen) if missed else 0)
    assert written() == []


def test_on_asks_the_log_something():
    with queries_of(conf.get("DATABASE")) as asked:
        send("x", {})

    assert len(ours(asked)) >= 1


def test_delivery_off_does_not_even_connect(configure):
    configure(DELIVERY="off", DATABASE="no_such_alias")
    run = scenarios.linear()

    assert run.state("root") == "FINISHED"
    assert failures.summary().total == 0


def test_excluded_events_are_not_recorded_and_no_gap(configure, spy):
    configure(EXCLUDE_EVENTS=["pre_execute", "post_execute", POST_SET_STATE])
    run = scenarios.linear()
    send("pre_execute", {})

    excluded = {"pre_execute", "post_execute", POST_SET_STATE}
    assert excluded < set(spy.types())
    records = written()
    assert [record.event_type for record in records] == [
        name for name in spy.types() if name not in excluded
    ]
    assert {record.root_pipeline_id for record in records} == {run.root}
    assert [record.writer_position for record in records] == list(range(1, len(records) + 1))
    assert failures.summary().total == 0


def test_without_state_changes_only_events_are_recorded(configure, spy):
    configure(RECORD_STATE_CHANGES=False)
    scenarios.linear()

    assert POST_SET_STATE in spy.types()
    assert [record.event_type for record in written()] == [
        name for name in spy.types() if name != POST_SET_STATE
    ]
    assert failures.summary().total == 0


def test_a_wrong_database_alias_harms_nothing(configure, undisturbed, spy):
    expected = undisturbed(scenarios.linear).outcome
    spy.seen.clear()
    configure(DATABASE="no_such_alias")

    run = scenarios.linear()

    assert run.outcome() == expected
    assert failures.summary().total == len(spy.seen)
