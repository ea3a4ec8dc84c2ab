"""Shipping: from the spool to where it can be selected."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
from common import TABLE, emit, median, percentile, recording, settle
from django.db import connection
from lab.hosts import stopped

from audit.shipping.shipper import Shipper
from audit.spool import folder
from audit.spool.writer import writer

COLUMNS = (
    "writer_position, occurred_at, writer_id, event_type, root_pipeline_id, pipeline_id, node_id, "
    "node_version, data, context"
)


def flat_out(scale: int) -> Iterator[dict[str, Any]]:
    """A full spool made visible, against the server's own COPY of the same rows from a file."""
    count = 100_000 // scale
    ours, theirs = [], []
    path = Path(os.environ["DATABASE_URL"].rpartition("host=")[2].split("&")[0].replace("%2F", "/"))
    file = path / "rows.copy"
    for _ in range(3):
        with recording(SHIP_IN_BACKGROUND=False):
            settle_nothing()
            first = writer.position
            for number in range(count):
                emit(number)
            shipper = Shipper(folder.place(), "default")
            began = time.perf_counter()
            shipper.drain(time.monotonic() + 300)
            ours.append(count / (time.perf_counter() - began))
            shipper.close()
        with connection.cursor() as cursor:
            cursor.execute(
                f"COPY (SELECT {COLUMNS} FROM {TABLE} WHERE writer_id = '{writer.id}' "
                f"AND writer_position > {first}) TO '{file}'"
            )
            began = time.perf_counter()
            cursor.execute(f"COPY {TABLE} ({COLUMNS}) FROM '{file}'")
            theirs.append(count / (time.perf_counter() - began))
            file.unlink(missing_ok=True)
    base, rate = sorted(theirs)[1], sorted(ours)[1]
    yield {"what": "COPY by the server from a file", "value": base, "unit": "events/s"}
    yield {
        "what": "shipped from a full spool",
        "value": rate,
        "unit": "events/s",
        "ratio": rate / base,
        "of": "the server's COPY",
    }


def settle_nothing() -> None:
    """Until the thread has seen that it is not to ship."""
    time.sleep(1.2)


def _watch(url: str, writer_id: str, seconds: float, pipe: Any) -> None:
    """In a process of its own: when which number could be selected."""
    import psycopg

    seen: list[tuple[int, int]] = []
    query = f"SELECT writer_position FROM {TABLE} WHERE writer_id = %s ORDER BY id DESC LIMIT 1"
    with psycopg.connect(url, autocommit=True) as link:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = link.execute(query, [writer_id]).fetchone()
            now = time.time_ns()
            if found and (not seen or seen[-1][0] != found[0]):
                seen.append((found[0], now))
            time.sleep(0.001)
    pipe.send(seen)


def _lags(rate: int, seconds: float) -> list[float]:
    """Milliseconds from capture to SELECTable, sorted, at a rate of events."""
    settle()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    watcher = multiprocessing.get_context("spawn").Process(
        target=_watch, args=(os.environ["DATABASE_URL"], str(writer.id), seconds + 4, theirs)
    )
    watcher.start()
    time.sleep(2)
    sent: dict[int, int] = {}
    began = time.perf_counter()
    number = 0
    while (passed := time.perf_counter() - began) < seconds:
        while number < passed * rate:
            emit(number)
            sent[writer.position] = time.time_ns()
            number += 1
        time.sleep(0.0005)
    settle()
    seen = ours.recv()
    watcher.join()
    lags, at = [], 0
    for position, then in sorted(sent.items()):
        while at < len(seen) and seen[at][0] < position:
            at += 1
        if at < len(seen):
            lags.append((seen[at][1] - then) / 1e6)
    return sorted(lags)


def lag(scale: int) -> Iterator[dict[str, Any]]:
    """Of three rounds the one in the middle: a disk that hesitates once decides a round's p99."""
    for rate in (1_000, 10_000):
        rounds = [_lags(rate, 5 / scale) for _ in range(3)]
        for share in (0.5, 0.99):
            yield {
                "what": f"capture to SELECTable at {rate:,} events/s, p{share * 100:g}",
                "value": median([percentile(lags, share) for lags in rounds]),
                "unit": "ms",
            }


_HUNGRY = """
import os, sys, resource
sys.path[:0] = {paths!r}
import django
django.setup()
from django.conf import settings
from django.db import connections
settings.BAMBOO_AUDIT = {{"SPOOL_DIR": {spool!r}, "SPOOL_MAX_BYTES": 256 << 20}}
connections.databases["default"]["HOST"] = "/nowhere"
import common
import logging
logging.disable(logging.CRITICAL)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
for number in range({warm}):
    common.emit(number)
before = resident()
for number in range({count}):
    common.emit(number)
print(before, resident())
os._exit(0)
"""


def memory(scale: int) -> Iterator[dict[str, Any]]:
    """A million events with the database away, in a process of its own."""
    count = 1_000_000 // scale
    spool = str(folder.place().parent / "hungry")
    script = _HUNGRY.format(
        paths=[path for path in sys.path if path], spool=spool, warm=100_000 // scale, count=count
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    before, after = (int(each) / 2**20 for each in answer.stdout.split())
    yield {"what": "resident after 100,000 events, database away", "value": before, "unit": "MB"}
    yield {
        "what": "resident after 1,000,000 more",
        "value": after,
        "unit": "MB",
        "ratio": after / before,
        "of": "before",
    }


def _paced(rate: int, seconds: float) -> list[float]:
    """How long each event took, sorted, at a rate of events."""
    taken = []
    began = time.perf_counter()
    number = 0
    while (passed := time.perf_counter() - began) < seconds:
        while number < passed * rate:
            at = time.perf_counter_ns()
            emit(number)
            taken.append((time.perf_counter_ns() - at) / 1_000)
            number += 1
        time.sleep(0.0005)
    return sorted(taken)


def outage(scale: int) -> Iterator[dict[str, Any]]:
    """The database away for a minute at 1,000 events a second: then everything arrives."""
    seconds = 60 / scale
    settle()
    calm = _paced(1_000, min(seconds, 10))
    settle()
    first = writer.position
    connection.close()
    with stopped(common.server):
        stormy = _paced(1_000, seconds)
    kept = writer.position - first
    began = time.perf_counter()
    settle()
    took = time.perf_counter() - began
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*), count(DISTINCT writer_position) FROM {TABLE} "
            f"WHERE writer_id = '{writer.id}' AND writer_position > {first}"
        )
        arrived, distinct = cursor.fetchone()
    base = percentile(calm, 0.99)
    yield {"what": "event at 1,000/s, p99", "value": base, "unit": "us"}
    yield {
        "what": f"event at 1,000/s, database away for {seconds:g} s, p99",
        "value": percentile(stormy, 0.99),
        "unit": "us",
        "ratio": percentile(stormy, 0.99) / base,
        "of": "with it",
    }
    yield {"what": "events captured meanwhile", "value": kept, "unit": "events"}
    yield {
        "what": "of them in the log afterwards",
        "value": arrived,
        "unit": "events",
        "ratio": arrived / kept,
        "of": "captured",
    }
    yield {"what": "of those twice", "value": arrived - distinct, "unit": "events"}
    yield {"what": "seconds until all had arrived", "value": took, "unit": "s"}
