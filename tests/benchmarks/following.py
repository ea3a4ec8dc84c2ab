"""Catching up: what a record costs in long and short runs, the lag, and what a host feels."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from random import Random
from typing import Any

from common import TABLE, each_us, median, percentile, recording
from django.db import connection, connections
from lab.engine import activity, tree_of
from replaying import COLUMNS, fill, templates

from audit import timeline
from audit.fold import ENGINE_SENDER
from audit.log.append import create_partitions
from audit.models import PipelineTimeline
from audit.projections import projector
from audit.projections.timelines import Timelines
from audit.shipping.catching import Catching

WRITERS = [str(uuid.UUID(int=number)) for number in range(1, 5)]
SHIPPED_EVERY = 200
"""Milliseconds; each of the writers at another moment, so that every batch has late records."""
POSITION = f"""
    SELECT c.position, (SELECT max(id) FROM {TABLE})
    FROM bamboo_audit_projectioncheckpoint AS c WHERE name = 'timelines'
"""

Line = tuple[int, str]


def per_record(scale: int) -> Iterator[dict[str, Any]]:
    """The cost of a record in a run of 100,000, and in runs of 100, by four writers."""
    count = 100_000 // scale
    costs = []
    for what, nodes, each in (("100", 14, 100), (f"{count:,}", 1_000, count)):
        done_with_what_is_there()
        runs = [a_run(nodes, each, number * 100) for number in range(count // each)]
        stored = store(line for run in runs for line in run)
        began = time.perf_counter()
        projector.catch_up([Timelines()])
        costs.append((time.perf_counter() - began) / stored * 1e6)
        yield {
            "what": f"catching up, a record of a run of {what}",
            "value": costs[-1],
            "unit": "us",
            **({"ratio": costs[1] / costs[0], "of": "one of a run of 100"} if costs[1:] else {}),
        }


def a_run(nodes: int, records: int, begin: int) -> Iterator[Line]:
    """A run that goes round and round its nodes; each line with when it is shipped."""
    tree = tree_of(*(activity("lab_ok", f"A{n}") for n in range(nodes)))
    root, chance = tree["id"], Random(begin)
    ids, at, numbers = list(tree["activities"]), begin, dict.fromkeys(WRITERS, 0)

    def line(writer: str, kind: str, node: str, version: str = "", **data: Any) -> Line:
        nonlocal at
        at += 1
        numbers[writer] += 1
        sender = {"sender": ENGINE_SENDER} if kind == "post_set_state" else {"task": {"id": "t"}}
        moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
            milliseconds=at
        )
        offset = SHIPPED_EVERY // len(WRITERS) * WRITERS.index(writer)
        shipped = (at + offset) // SHIPPED_EVERY * SHIPPED_EVERY + SHIPPED_EVERY - offset
        values = (
            *(moment.isoformat(), writer, str(numbers[writer]), kind, root, "", node, version),
            *(json.dumps(data), json.dumps(sender)),
        )
        return shipped, "\t".join(value.replace("\\", "\\\\") for value in values) + "\n"

    web = WRITERS[0]
    yield line(web, "pre_prepare_run_pipeline", "", pipeline=tree)
    yield line(web, "post_set_state", root, "r1", to_state="RUNNING", loop=-1, root_id=root)
    yield line(web, "post_prepare_run_pipeline", "")
    for turn in range((records - 3) // 6):
        node, loop, writer = ids[turn % nodes], turn // nodes + 1, chance.choice(WRITERS)
        state = {"root_id": root, "parent_id": root}
        version = f"v{loop}"
        yield line(writer, "post_set_state", node, version, to_state="RUNNING", loop=loop, **state)
        yield line(writer, "node_enter", node)
        yield line(writer, "pre_execute", node)
        yield line(writer, "post_execute", node)
        yield line(writer, "post_set_state", node, version, to_state="FINISHED", loop=-1, **state)
        yield line(writer, "node_finish", node)


def store(lines: Iterator[Line]) -> int:
    """In the order in which they are shipped; answers how many."""
    ordered = [text for _, text in sorted(lines, key=lambda line: line[0])]
    with connection.cursor() as cursor:
        for first in range(0, len(ordered), 50_000):
            with cursor.cursor.copy(f"COPY {TABLE} ({COLUMNS}) FROM STDIN") as copy:
                copy.write("".join(ordered[first : first + 50_000]))
            create_partitions("default")
        cursor.execute(f"ANALYZE {TABLE}")
    return len(ordered)


def done_with_what_is_there() -> None:
    """The timelines are at the end of the log, and their tables are empty."""
    projection = Timelines()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce(max(id), 0) FROM {TABLE}")
        (end,) = cursor.fetchone()
    projector.begin_anew(projection, end)


def lag(scale: int) -> Iterator[dict[str, Any]]:
    """How far ``audit_replay --follow`` is behind while 10,000 records a second arrive."""
    done_with_what_is_there()
    seconds, rate, every = 60 // scale, 10_000, 0.1
    runs = [a_run(14, 100, number * 10) for number in range(seconds * rate // 100)]
    lines = [text for _, text in sorted(line for run in runs for line in run)]
    follower = subprocess.Popen(
        [sys.executable, "-m", "django", "audit_replay", "--follow", "--json"],
        stdout=subprocess.DEVNULL,
        env=environment(),
    )
    stored: list[tuple[float, int]] = []
    seen: list[tuple[float, int]] = []
    stop = threading.Event()

    def watch() -> None:
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute(POSITION)
                for position, _ in cursor.fetchall():
                    seen.append((time.monotonic(), position))
                time.sleep(0.01)
        connections.close_all()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        wait_until_caught_up(60)
        portion, next_at = int(rate * every), time.monotonic()
        with connection.cursor() as cursor:
            for first in range(0, len(lines), portion):
                with cursor.cursor.copy(f"COPY {TABLE} ({COLUMNS}) FROM STDIN") as copy:
                    copy.write("".join(lines[first : first + portion]))
                cursor.execute(f"SELECT max(id) FROM {TABLE}")
                stored.append((time.monotonic(), cursor.fetchone()[0]))
                next_at += every
                time.sleep(max(next_at - time.monotonic(), 0))
        arrived = len(lines) / (stored[-1][0] - stored[0][0] + every)
        wait_until_caught_up(120)
        time.sleep(0.1)  # until the watcher has seen it, too
    finally:
        stop.set()
        watcher.join()
        follower.send_signal(signal.SIGTERM)
        follower.wait()
    behind = sorted(
        1000 * (next(at for at, position in seen if position >= end) - when) for when, end in stored
    )
    yield {"what": "records that arrived", "value": arrived, "unit": "a second"}
    yield {"what": "until they were applied, p50", "value": median(behind), "unit": "ms"}
    yield {"what": "until they were applied, p99", "value": percentile(behind, 0.99), "unit": "ms"}


def wait_until_caught_up(seconds: float) -> None:
    end = time.monotonic() + seconds
    with connection.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute(POSITION)
            found = cursor.fetchall()
            if found and found[0][0] == found[0][1]:
                return
            time.sleep(0.02)
    raise TimeoutError(f"not caught up within {seconds} s")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def beside_queries(scale: int) -> Iterator[dict[str, Any]]:
    """A host's loop of queries, without and with catching up in a thread of its process."""
    seconds, rounds = 4 / scale + 1, 5
    without, beside = [], []
    for number in range(rounds):
        done_with_what_is_there()
        without.append(queries_in(seconds))
        store(line for n in range(400) for line in a_run(14, 100, 10 * n + 100_000 * number))
        catching = Catching()
        with recording(CATCH_UP_IN_BACKGROUND=True):
            catching.ring()
            time.sleep(0.3)
            beside.append(queries_in(seconds))
            catching.leave()
        while catching._thread is not None and catching._thread.is_alive():
            time.sleep(0.01)
    base, rate = median(without), median(beside)
    yield {"what": "queries in a loop", "value": base, "unit": "a second"}
    yield {
        "what": "queries in a loop, catching up beside it",
        "value": rate,
        "unit": "a second",
        "ratio": rate / base,
        "of": "without",
    }


def one_run(scale: int) -> Iterator[dict[str, Any]]:
    """A run of 1,000 records straight from the log: a small one, and one a hundred times larger."""
    found = templates()
    times = []
    for size in (50_000 // scale, 5_000_000 // scale):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {TABLE}")
            fill(size - cursor.fetchone()[0], found)
        lines = list(a_run(100, 1_000, size))
        store(iter(lines))
        root = lines[0][1].split("\t")[4]
        taken = each_us(lambda root=root: timeline.load(root), 20)
        times.append(median(taken) / 1000)
        yield {
            "what": f"timeline.load of 1,000 records, in a log of {size:,}",
            "value": times[-1],
            "unit": "ms",
            **({"ratio": times[1] / times[0], "of": "in the small one"} if times[1:] else {}),
        }


def queries_in(seconds: float) -> float:
    """How many queries of the ORM's are answered in a second."""
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        list(PipelineTimeline.objects.filter(pk="nobody"))
        count += 1
    return count / (time.perf_counter() - began)
