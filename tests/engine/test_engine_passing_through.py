"""What is not ours to catch goes through the recorder to the caller."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from lab import outages, scenarios
from lab.spy import send, written
from pipeline.eri.models import State
from pipeline.eri.signals import post_set_state

from audit import receivers
from audit.capture import record
from audit.capture.failures import failures
from audit.events import GAP, POST_SET_STATE
from audit.log import append


class GreenletExit(BaseException):
    """As gevent's: says that this greenlet is to end."""


THROUGH = [KeyboardInterrupt, SystemExit, GeneratorExit, GreenletExit, SoftTimeLimitExceeded]

each_error = pytest.mark.parametrize("error", THROUGH, ids=lambda error: error.__name__)


def raising(error: type[BaseException]) -> Any:
    def raises(*_: Any, **__: Any) -> Any:
        raise error

    return raises


def send_state() -> None:
    post_set_state.send(sender=State, node_id="n", to_state="RUNNING", version="v", root_id="r")


SENDERS = {
    "pipeline_event": lambda: send("node_enter", {"node_id": "n"}),
    POST_SET_STATE: send_state,
}
PLACES = [
    (append, "_insert"),
    (record, "flat"),
    (receivers.ids, "text_id"),
    (receivers.failures, "failed"),
]


@each_error
@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[1]}")
def test_it_reaches_the_caller(error, sender, place, monkeypatch):
    monkeypatch.setattr(*place, raising(error))
    if place[1] == "failed":
        monkeypatch.setattr(append, "_insert", raising(TypeError))

    with pytest.raises(error):
        SENDERS[sender]()


@each_error
def test_it_reaches_the_caller_out_of_the_data(error):
    class Interrupted:
        def __repr__(self) -> str:
            raise error

    with pytest.raises(error):
        send("node_enter", {"data": Interrupted()})


@each_error
def test_it_reaches_the_caller_out_of_the_switch(error, configure):
    configure(ENABLED=raising(error))

    with pytest.raises(error):
        send("node_enter", {})


@each_error
def test_a_gap_that_was_interrupted_is_told_later(error, log_connection, monkeypatch):
    with outages.table_gone(log_connection):
        send("lost", {})
    outages.log_is_back()
    with monkeypatch.context() as patch:
        patch.setattr(append, "_insert", raising(error))
        with pytest.raises(error):
            send("interrupted", {})

    outages.log_is_back()
    send("after", {})

    gap, after = written()
    assert (gap.event_type, after.event_type) == (GAP, "after")
    assert gap.data["event_types"] == {"lost": 1, "interrupted": 1}


@pytest.fixture
def alarm() -> Iterator[Any]:
    """Raise something in this thread in a moment, wherever it is then, as Celery's limit does."""

    def after(seconds: float, error: type[BaseException]) -> None:
        signal.signal(signal.SIGALRM, raising(error))
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.getsignal(signal.SIGALRM)
    try:
        yield after
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@each_error
def test_a_signal_while_the_log_is_waited_for_reaches_the_caller(
    error, alarm, configure, log_connection
):
    configure(INLINE_TIMEOUT=20)
    with outages.table_locked(log_connection):
        began = time.monotonic()
        alarm(0.1, error)
        with pytest.raises(error):
            send("interrupted", {})
        assert time.monotonic() - began < 5

    outages.log_is_back()
    send("after", {})  # the connection is as good as before, or a new one
    assert [each.event_type for each in written()][-1] == "after"


@each_error
def test_a_signal_while_a_large_payload_is_encoded_reaches_the_caller(error, alarm):
    slow = {"values": [float("nan")] * 190_000}  # more of them would be cut
    alarm(0.03, error)

    with pytest.raises(error):
        send("interrupted", slow)


def test_a_soft_time_limit_ends_the_engines_task(monkeypatch):
    """It falls into our insert: the worker's task ends of it, as it would without us."""
    insert = append._insert

    def limited(made: Any, *args: Any) -> int:
        if made["event_type"] == "node_enter":
            raise SoftTimeLimitExceeded
        return insert(made, *args)

    monkeypatch.setattr(append, "_insert", limited)

    run = scenarios.linear()

    assert [type(error) for error in run.crashes] == [SoftTimeLimitExceeded]
    assert written()[-1].data["to_state"] == "RUNNING"
    assert failures.summary().by_reason == {"interrupted by SoftTimeLimitExceeded": 1}
