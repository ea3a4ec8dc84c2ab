"""Segments made beforehand and not needed: what comes after them is shipped all the same."""

from __future__ import annotations

import time

from audit.spool.segment import Segment

BIG = {"text": "x" * 300_000}


def keep_shipping(shipper, shipped, count):
    until = time.monotonic() + 10
    while time.monotonic() < until and len(shipped()) < count:
        shipper.cycle(look=True)
        time.sleep(0.02)
    assert shipped() == list(range(1, count + 1))


def test_one_that_was_needed_before_it_was_there(emit, fresh, shipper, shipped, monkeypatch):
    fault_in = Segment.fault_in

    def while_it_is_made(segment):
        fault_in(segment)
        shipper.cycle(look=True)  # sees it
        emit(4, data=BIG)  # goes on in another

    emit(2, data=BIG)
    monkeypatch.setattr(Segment, "fault_in", while_it_is_made)
    fresh.prepare()
    monkeypatch.undo()
    keep_shipping(shipper, shipped, 6)


def test_one_that_was_too_small(emit, fresh, shipper, shipped):
    emit(2, data=BIG)
    fresh.prepare()
    shipper.cycle(look=True)
    emit(1, data={"text": "x" * 3_000_000})
    emit(3, data=BIG)
    keep_shipping(shipper, shipped, 6)


def test_that_is_what_hosts_do(host):
    process = host.script("""
import lab.ordinary
emit(12, size=60_000, pause=0.05)
time.sleep(0.5)
lab.ordinary.TEXT = "x" * 3_000_000
emit(1, size=3_000_000)
emit(20, pause=0.02)
sys.stdin.readline()
""")
    host.await_arrival(10)
    host.await_arrival(10)
    for _ in range(100):
        if len(host.stored()) == 33:
            break
        time.sleep(0.1)
    assert len(host.stored()) == 33
    host.finish(process)
    assert host.check() == 33
