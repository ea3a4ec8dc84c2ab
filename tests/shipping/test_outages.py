"""The database goes, comes back, or stands still: nobody waits for it, and all arrives once."""

from __future__ import annotations

import time

import pytest
from lab.hosts import HALF_A_BATCH, Host, frozen, frozen_server, stopped, within


@pytest.mark.parametrize("outage", [stopped, frozen_server])
def test_an_outage_under_load(host, server, outage):
    """A thousand events a second: none takes longer for it."""
    process = host.script("print(emit_until_told(pause=0.0009))")
    host.await_arrival(10)
    with outage(server):
        before = len(host.acknowledged())
        time.sleep(2.0)
        assert len(host.acknowledged()) - before > 500
    host.await_arrival(20)
    process.stdin.write("enough\n")
    slowest = float(host.finish(process))
    assert slowest < 0.5
    host.ship()
    assert host.check() > 1_000
    assert host.ends() == {"closed": 1}


def test_it_arrives_soon_after_an_outage(host, server):
    """Also where many segments were begun meanwhile, each of which wakes the shipper."""
    process = host.script("emit(400, size=100_000, pause=0.002); sys.stdin.readline()")
    with stopped(server):
        for _ in within(10):
            if len(host.acknowledged()) == 400:
                break
    host.await_arrival(5)
    host.finish(process)
    assert host.check() == 400


@pytest.mark.parametrize("terminated", [False, True])
def test_a_shipper_that_stands_still_in_mid_copy(host, tmp_path, terminated):
    """It holds its own writers' rows, and nobody else's."""
    half = host.folder / "half"
    process = host.script(HALF_A_BATCH + "emit(2_000, size=500); sys.stdin.readline()")
    for _ in within(10):
        if half.exists() and half.read_text():
            break
    with frozen(process.pid):
        time.sleep(0.6)  # longer than its own pause
        ((query, waits_for),) = host.query(
            "SELECT query, wait_event FROM pg_stat_activity WHERE pid = %s", int(half.read_text())
        )
        assert "COPY" in query
        assert waits_for == "ClientRead"
        other = Host(tmp_path / "other", host.url, beside=host)
        other.run("emit(1_000)")
        assert len(host.stored()) == 1_000
        assert host.shipper() == process.pid
        if terminated:
            host.query("SELECT pg_terminate_backend(%s, 5000)", int(half.read_text()))
    host.await_arrival(10)
    host.finish(process)
    assert host.check() == 3_000
    assert host.ends() == {"closed": 2}
