"""The thread beside the engine's: whatever becomes of it, the engine's thread does not notice."""

from __future__ import annotations

import threading
import time

import pytest

from audit import conf
from audit.shipping import background as backgrounds
from audit.shipping.background import Background
from audit.shipping.election import Election


@pytest.fixture
def one(monkeypatch):
    monkeypatch.setattr(conf, "under_test_runner", lambda: False)
    made = Background()
    yield made
    made._stopping = True
    backgrounds.writer.bell.ring()
    if made._thread is not None:
        made._thread.join(5)


def test_without_another_thread_to_be_had_it_tries_again(one, monkeypatch):
    class NoMore(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(backgrounds.threading, "Thread", NoMore)
    one.ensure()
    assert one._thread is None
    monkeypatch.undo()
    monkeypatch.setattr(conf, "under_test_runner", lambda: False)
    one.ensure()
    assert one._thread.is_alive()


def test_an_event_from_a_signal_handler_while_it_starts(one):
    with one._lock:
        one.ensure()
    assert one._thread.is_alive()


def test_what_ends_the_thread_ends_its_election(one, monkeypatch, spool_dir):
    threads = []

    def broken(*_, **__):
        threads.append(threading.current_thread())
        raise RuntimeError("a logging handler of the host's")

    monkeypatch.setattr(one, "_turn", broken)
    monkeypatch.setattr(backgrounds.Pace, "after_failure", broken)
    one._election = Election(spool_dir)
    assert one._election.stand()
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    one.ensure()
    until = time.monotonic() + 5
    while Election(spool_dir).is_held() and time.monotonic() < until:
        time.sleep(0.01)
    assert one._thread is None, "the next event starts another"
    assert not Election(spool_dir).is_held()
    # Its last word goes to the excepthook, which must still be this test's.
    threads[0].join(5)
    assert not threads[0].is_alive()


def test_nothing_runs_in_a_test_suite():
    made = Background()
    made.ensure()
    assert made._thread is None
