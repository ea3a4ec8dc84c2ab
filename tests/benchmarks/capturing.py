"""Capture: what an event costs on the engine's thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import orjson
from common import each_us, emit, event, median, percentile, recording, settle
from django.db import connection, models
from pipeline.eri.models import State

from audit import receivers
from audit.delivery import spooled
from audit.spool.writer import writer


class _Queue:
    """The floor: nothing durable, nothing shipped."""

    def __init__(self) -> None:
        self.rows: deque[bytes] = deque(maxlen=100_000)

    def append(self, rest: bytes, flags: int = 0) -> None:
        self.rows.append(rest)


def _naive_model() -> Any:
    """The table that one writes first: a managed model with a few db_index fields."""

    class NaiveRecord(models.Model):
        event_type = models.CharField(max_length=64, db_index=True)
        root_pipeline_id = models.CharField(max_length=64, db_index=True)
        node_id = models.CharField(max_length=64, db_index=True)
        data = models.JSONField()
        created_at = models.DateTimeField(auto_now_add=True, db_index=True)

        class Meta:
            app_label = "bench"

        def __str__(self) -> str:
            return self.event_type

    with connection.schema_editor() as editor:
        editor.create_model(NaiveRecord)
    return NaiveRecord


def _us(what: str, value: float, of: str = "", base: float = 0.0) -> dict[str, Any]:
    figure: dict[str, Any] = {"what": what, "value": value, "unit": "us"}
    return {**figure, "ratio": value / base, "of": of} if of else figure


def per_event(scale: int) -> Iterator[dict[str, Any]]:
    """One small event: the receiver against ``objects.create()`` and against a deque."""
    naive, one, times = _naive_model(), event(), 40_000 // scale
    # As a worker knows its node by then: the engine says RUNNING before it says node_enter.
    receivers.on_post_set_state(
        State, node_id=one.data["node_id"], to_state="RUNNING", version="v" * 33, root_id="p" * 33
    )
    queue: deque[bytes] = deque(maxlen=100_000)
    create, spool, floor, bare, inline, off, sync = [], [], [], [], [], [], []
    tail = []
    for _ in range(5):
        create.append(
            percentile(
                each_us(
                    lambda: naive.objects.create(
                        event_type=one.event_type, **one.data, data=one.data
                    ),
                    times // 50,
                ),
                0.5,
            )
        )
        taken = each_us(lambda: receivers.on_pipeline_event(event=one), times // 5)
        spool.append(percentile(taken, 0.5))
        tail.append(percentile(taken, 0.99))
        spooled.writer = _Queue()  # type: ignore[misc, assignment]
        try:
            taken = each_us(lambda: receivers.on_pipeline_event(event=one), times // 5)
        finally:
            spooled.writer = writer  # type: ignore[misc]
        floor.append(percentile(taken, 0.5))
        taken = each_us(
            lambda: queue.append(
                orjson.dumps(
                    {"event_type": one.event_type, **one.data, "data": one.data, "at": time.time()}
                )
            ),
            times // 5,
        )
        bare.append(percentile(taken, 0.5))
        with recording(DELIVERY="inline"):
            taken = each_us(lambda: receivers.on_pipeline_event(event=one), times // 50)
        inline.append(percentile(taken, 0.5))
        with recording(DELIVERY="off"):
            taken = each_us(lambda: receivers.on_pipeline_event(event=one), times // 5)
        off.append(percentile(taken, 0.5))
        writer.close()  # a segment looks once whether it is to be synced
        with recording(SPOOL_SYNC=True):
            taken = each_us(lambda: receivers.on_pipeline_event(event=one), times // 50)
        sync.append(percentile(taken, 0.5))
        writer.close()
        settle()
    base = median(create)
    yield _us("event, objects.create()", base)
    yield {
        "what": "event, spool",
        "value": median(spool),
        "unit": "us",
        "ratio": base / median(spool),
        "of": "it in create()",
    }
    yield _us("event, spool, p99", median(tail))
    yield _us("event, the same into a deque", median(floor))
    yield _us("event, spool, against that", median(spool), "the deque", median(floor))
    yield _us("event, one orjson.dumps into a deque", median(bare))
    yield _us("event, inline", median(inline), "create()", base)
    yield _us("event, off", median(off), "create()", base)
    yield _us("event, spool with SPOOL_SYNC", median(sync), "create()", base)


def sizes(scale: int) -> Iterator[dict[str, Any]]:
    """Events of 240 B, 40 KB and 1 MB against orjson alone, as a tree has them."""
    for label, nodes, times in (("240 B", 0, 2_000), ("40 KB", 75, 400), ("1 MB", 1_900, 40)):
        tree = {
            "activities": {
                f"n{number:032d}": {
                    "id": f"n{number:032d}",
                    "type": "ServiceActivity",
                    "name": "Deploy",
                    "component": {"code": "deploy", "inputs": {"host": {"value": "web-1" * 20}}},
                    "optional": None,
                    "incoming": [f"f{number:032d}"],
                    "outgoing": f"f{number + 1:032d}",
                }
                for number in range(nodes)
            }
        }
        one = event(tree=tree) if nodes else event(text="x" * 110)
        size = len(orjson.dumps(one.data))
        with recording(SPOOL_MAX_BYTES=1 << 31):
            ours = each_us(lambda one=one: receivers.on_pipeline_event(event=one), times // scale)
        theirs = each_us(lambda one=one: orjson.dumps(one.data), times // scale)
        base = percentile(theirs, 0.5)
        yield _us(f"event of {label} ({size:,} bytes)", percentile(ours, 0.5), "orjson", base)
        settle()


def _work(units: int) -> int:
    total = 0
    for number in range(units):
        total += number
    return total


def _units_of_80_us() -> int:
    """How much work that is on a processor that is awake: it takes a while to run at its speed."""
    units, best = 2_000, []
    until = time.perf_counter() + 2.0
    while time.perf_counter() < until:
        _work(units)
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(50):
            _work(units)
        best.append((time.perf_counter() - began) / 50)
    return int(units * 80e-6 / median(best))


def _loop(times: int, units: int, *, events: bool) -> float:
    """Seconds; the event itself is made in either case, as the engine makes it."""
    began = time.perf_counter()
    for number in range(times):
        _work(units)
        one = event(number)
        if events:
            receivers.on_pipeline_event(event=one)
    return time.perf_counter() - began


def busy_loop(scale: int) -> Iterator[dict[str, Any]]:
    """A loop of 80 us of Python and one event, the shipper's thread beside it."""
    units, times = _units_of_80_us(), 10_000 // scale
    ratios, base = [], []
    _loop(1_000, units, events=True)
    settle()
    for _ in range(9):
        alone = _loop(times, units, events=False)
        ours = _loop(times, units, events=True)
        settle()
        after = _loop(times, units, events=False)
        base.append((alone + after) / 2)
        ratios.append(ours / base[-1])
    per_round = median(base) / times * 1e6
    yield _us("loop of 80 us of work", per_round)
    yield _us(
        "loop of 80 us of work and an event, shipping",
        per_round * median(ratios),
        "without audit",
        per_round,
    )


def beside_a_busy_thread(scale: int) -> Iterator[dict[str, Any]]:
    """A thread that computes without end, in the same process."""
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            _work(10_000)

    thread = threading.Thread(target=burn, daemon=True)
    thread.start()
    taken = []
    until = time.perf_counter() + 10 / scale
    while time.perf_counter() < until:
        began = time.perf_counter_ns()
        emit()
        taken.append((time.perf_counter_ns() - began) / 1_000)
        _work(200)
    stop.set()
    thread.join()
    taken.sort()
    yield _us("event beside a computing thread, p50", percentile(taken, 0.5))
    yield _us("event beside a computing thread, p99", percentile(taken, 0.99))
    settle()


def many_threads(scale: int) -> Iterator[dict[str, Any]]:
    """Three hundred threads that capture at once: what one event costs the process."""
    each = 200 // scale

    def run(threads: int) -> float:
        def work() -> None:
            for number in range(each):
                emit(number)

        made = [threading.Thread(target=work) for _ in range(threads)]
        began = time.process_time()
        for thread in made:
            thread.start()
        for thread in made:
            thread.join()
        return (time.process_time() - began) / (threads * each) * 1e6

    with recording(SHIP_IN_BACKGROUND=False):
        one = median([run(1) for _ in range(5)])
        many = median([run(300) for _ in range(3)])
    yield _us("event in 300 threads, processor time", many, "one thread", one)
    settle()
