"""What an ordinary process of a host does: no test suite is in it, so it ships as hosts do.

It sends events to the receivers, and says which of them were taken, after each.
"""

from __future__ import annotations

import itertools
import os
import select
import sys
import time
import uuid
from types import SimpleNamespace
from typing import Any

import django

django.setup()

from audit.receivers import on_pipeline_event  # noqa: E402

TEXT = "x" * 100_000
_taken = os.open(os.environ["AUDIT_TEST_TAKEN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class _Me:
    def __init__(self) -> None:
        self.who = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.numbers = itertools.count(1)


me = _Me()
os.register_at_fork(after_in_child=lambda: me.__init__())


def emit(count: int = 1, *, size: int = 0, pause: float = 0.0, **more: Any) -> float:
    """Send events as the engine does; answers how long the slowest took, in seconds."""
    slowest = 0.0
    for _ in range(count):
        number = next(me.numbers)
        data = {"root_pipeline_id": "run", "node_id": "node", "who": me.who, "n": number, **more}
        event = SimpleNamespace(event_type="node_enter", data=data | {"text": TEXT[:size]})
        before = time.perf_counter()
        on_pipeline_event(event=event)
        slowest = max(slowest, time.perf_counter() - before)
        os.write(_taken, f"{me.who} {number}\n".encode())
        if pause:
            time.sleep(pause)
    return slowest


def emit_for(seconds: float, **how: Any) -> float:
    """Go on for so long."""
    slowest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        slowest = max(slowest, emit(**how))
    return slowest


def emit_until_told(**how: Any) -> float:
    """Go on until the test writes a line."""
    slowest = 0.0
    while not select.select([sys.stdin], [], [], 0)[0]:
        slowest = max(slowest, emit(**how))
    return slowest


def longest_nap(seconds: float) -> float:
    """Send an event now and then, for so long; answers how long the longest pause was."""
    longest, before = 0.0, time.monotonic()
    end = before + seconds
    while before < end:
        emit(1)
        time.sleep(0.005)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest
