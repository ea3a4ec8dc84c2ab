"""``audit_replay --follow``: a process that keeps the tables within a second of the log."""

from __future__ import annotations

import json
import signal
from typing import Any

from django.db import transaction
from lab import tally
from lab.hosts import stopped, within
from lab.stored import empty_log
from lab.tally import Nodes, Tally

from audit.log import settled
from audit.models import ProjectionCheckpoint
from audit.projections import following, projector
from audit.projections.timelines import Timelines
from audit.shipping.sidecar import Stop
from audit.testing.projections import store_sample


def runs(host) -> int:
    ((count,),) = host.query("SELECT count(*) FROM bamboo_audit_pipelinetimeline")
    return int(count)


def follower(host, *words: str):
    process = host.command("audit_replay", "--follow", *words)
    if not words:
        assert process.stdout.readline().startswith("Keeping up until SIGTERM or Ctrl-C: timelines")
    return process


def test_it_keeps_up_until_it_is_told_to_end(host):
    process = follower(host)
    for number in range(3):
        host.run(f"emit(20, root_pipeline_id='run {number}')")
        for _ in within(10):
            if runs(host) == number + 1:
                break
        assert process.stdout.readline().endswith(" applied, of 1 runs.\n")
    process.send_signal(signal.SIGTERM)
    assert host.finish(process) == ""


def test_a_server_that_is_away_is_waited_for(host, server):
    process = follower(host, "--json")
    host.run("emit(20, root_pipeline_id='before')")
    assert json.loads(process.stdout.readline())[0]["name"] == "timelines"
    with stopped(server):
        host.run("emit(20, root_pipeline_id='meanwhile')")
    host.ship()
    for _ in within(40):
        if runs(host) == 2:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "cannot be read" in err
    assert "It is tried again." in err


def test_one_that_fails_keeps_no_other_from_going_on(using, caplog):
    class Broken(Tally):
        def apply(self, batch):
            transaction.on_commit(fails, using=batch.using)

    def fails() -> None:
        raise RuntimeError("a handler of the host's")

    tally.make_tables()
    empty_log()
    head = settled.head(using)
    projector.catch_up([Timelines()])
    for each in (Broken(), Nodes()):
        projector.begin_anew(each, head)
    roots: list[str] = []
    stop, told = Stop(), []

    class Limited:
        """Ends it when all is there, or after a while."""

        looks = 0
        is_set = False

        def wait(self, seconds: float) -> None:
            self.looks += 1
            if self.looks == 1:
                roots.extend(store_sample())
            self.is_set = self.looks > 500 or len(tally.values("nodes")) == len(roots) > 0
            stop.wait(0.01)

    limited: Any = Limited()
    try:
        following.follow([Timelines(), Broken(), Nodes()], limited, told.append)
        assert tally.values("nodes").keys() == set(roots)
        assert {progress.name for progress in told} == {"timelines", "nodes"}
        assert caplog.text.count("cannot be caught up") == 1
    finally:
        tally.drop_tables()
        ProjectionCheckpoint.objects.exclude(name="timelines").delete()


def test_it_waits_longer_each_time_and_never_gives_up(using, monkeypatch, caplog):
    now = [1_000.0]
    monkeypatch.setattr(following.time, "monotonic", lambda: now[0])
    patience = following._Patience("It")
    waits = []
    for _ in range(12):
        assert patience.is_over()
        patience.begin(ValueError("away"))
        waits.append(patience._until - now[0])
        now[0] = patience._until
    assert 0.25 <= waits[0] <= 0.5
    assert 15 <= waits[-1] <= 30
    assert 2 <= caplog.text.count("It: ValueError: away") < 6, "once a minute"
    patience.end()
    assert patience.is_over()
    patience.begin(ValueError("away"))
    assert patience._until - now[0] <= 0.5
