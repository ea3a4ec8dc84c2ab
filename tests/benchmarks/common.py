"""What several benchmarks need."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.db import connection

from audit import receivers
from audit.shipping.background import background
from audit.spool.writer import writer
from audit.testing.postgres import Server

TABLE = "bamboo_audit_pipelineeventrecord"
server: Server
"""The benchmarks' own."""


def event(number: int = 0, **more: Any) -> Any:
    """A worker's event, as nine out of ten are."""
    data = {"root_pipeline_id": "p" * 33, "node_id": f"n{number % 997:032d}", **more}
    return SimpleNamespace(event_type="node_enter", data=data)


def emit(number: int = 0) -> None:
    receivers.on_pipeline_event(event=event(number))


@contextmanager
def recording(**keys: Any) -> Iterator[None]:
    """With these settings beside those of the benchmark."""
    before = settings.BAMBOO_AUDIT
    settings.BAMBOO_AUDIT = {**before, **keys}
    try:
        yield
    finally:
        settings.BAMBOO_AUDIT = before


def each_us(action: Callable[[], object], times: int) -> list[float]:
    """How long each took, sorted."""
    taken = []
    clock = time.perf_counter_ns
    for _ in range(times):
        began = clock()
        action()
        taken.append(clock() - began)
    return sorted(nanoseconds / 1000 for nanoseconds in taken)


def percentile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


def shipped() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(max(position), 0) FROM bamboo_audit_spoolwriter WHERE writer_id = %s",
            [writer.id],
        )
        return int(cursor.fetchone()[0])


def settle(seconds: float = 120.0) -> None:
    """Wait until everything is shipped: a baseline must not pay for what came before."""
    background.ensure()
    until = time.monotonic() + seconds
    while shipped() < writer.position:
        if time.monotonic() > until:
            raise TimeoutError(f"{shipped()} of {writer.position} records shipped")
        time.sleep(0.05)


def median(values: list[float]) -> float:
    return statistics.median(values)
