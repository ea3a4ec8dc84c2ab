"""Replaying: a log of many runs made into the timelines anew."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from random import Random
from typing import Any

from common import TABLE, median, recording
from django.db import connection, connections
from lab.chance import run_by_chance
from lab.engine import activity, tree_of
from lab.scenarios import Run

from audit.log.append import create_partitions
from audit.models import PipelineTimeline
from audit.projections.merging import finish
from audit.projections.rebuild import Rebuild
from audit.projections.selection import Selection
from audit.projections.timelines import Timelines
from audit.projections.workers import load

COLUMNS = (
    "occurred_at, writer_id, writer_position, event_type, root_pipeline_id, pipeline_id, node_id, "
    "node_version, data, context"
)
AT_ONCE = 20
"""Runs that go on at the same time."""
MARK = "@@@@@@@@"


def rebuild(scale: int) -> Iterator[dict[str, Any]]:
    """The timelines of a million records, by one process and by two, against the server's COPY."""
    fill(1_000_000 // scale, templates())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE} WHERE root_pipeline_id <> ''")
        (count,) = cursor.fetchone()
        began = time.perf_counter()
        cursor.execute(f"COPY (SELECT id, {COLUMNS} FROM {TABLE}) TO '/dev/null'")
        base = count / (time.perf_counter() - began)
    yield {"what": "COPY by the server of all columns", "value": base, "unit": "records/s"}
    rates = {}
    for workers in (1, 2):
        made = Rebuild([Timelines()], Selection())
        made.begin(anew=True)
        began = time.perf_counter()
        load(made, workers, lambda done: None)
        rates[workers] = count / (time.perf_counter() - began)
        if workers == 1:
            merged_in = time.perf_counter()
            with reading() as selects:
                finish(made)
            merged_in = time.perf_counter() - merged_in
    yield {
        "what": "rebuild of the timelines, one process",
        "value": rates[1],
        "unit": "records/s",
        "ratio": rates[1] / base,
        "of": "that",
    }
    yield {
        "what": "rebuild of the timelines, two processes",
        "value": rates[2],
        "unit": "records/s",
        "ratio": rates[2] / rates[1],
        "of": "one",
    }
    yield {"what": "keys and merge of all of its rows", "value": merged_in, "unit": "s"}
    yield {"what": "slowest SELECT on what serves meanwhile", "value": max(selects), "unit": "ms"}
    yield {"what": "SELECT on what serves meanwhile, p50", "value": median(selects), "unit": "ms"}


@contextmanager
def reading() -> Iterator[list[float]]:
    """Lists of runs are read all the time from the tables that serve; how long each took, in ms."""
    taken: list[float] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            list(PipelineTimeline.objects.order_by("-started_at", "-pk")[:50])
            taken.append(1000 * (time.perf_counter() - began))
        connections.close_all()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join()


def templates() -> list[list[str]]:
    """Runs of the real engine as lines of COPY, their ids marked: one in ten is by chance."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce(max(id), 0) FROM {TABLE}")
        (before,) = cursor.fetchone()
    logging.disable(logging.CRITICAL)
    with recording(DELIVERY="inline"):
        for _ in range(36):
            Run(tree_of(*(activity("lab_ok", f"A{n}") for n in range(8)))).start()
        for seed in range(4):
            run_by_chance(seed)
    logging.disable(logging.NOTSET)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT root_pipeline_id, node_id, {COLUMNS} FROM {TABLE} "
            "WHERE id > %s AND root_pipeline_id <> '' ORDER BY id",
            [before],
        )
        names = {row[0] for row in cursor.fetchall()}
        cursor.execute(f"SELECT DISTINCT node_id FROM {TABLE} WHERE id > %s", [before])
        ids = names | {row[0] for row in cursor.fetchall() if row[0]}
        found = []
        for root in sorted(names):
            with cursor.cursor.copy(
                f"COPY (SELECT {COLUMNS} FROM {TABLE} WHERE root_pipeline_id = '{root}' "
                "ORDER BY id) TO STDOUT"
            ) as copy:
                text = b"".join(copy).decode()
            found.append(_marked(text, ids).splitlines(keepends=True))
    return found


def _marked(text: str, ids: set[str]) -> str:
    for each in ids:
        if len(each) > 20:
            text = text.replace(each, each[0] + MARK + each[9:])
    return text


def fill(records: int, found: list[list[str]]) -> int:
    """Fill the log with so many records of runs like these; answers how many it came to."""
    chance, number, count = Random(7), 0, 0
    started: list[tuple[str, Iterator[str]]] = []
    with connection.cursor() as cursor:
        while count < records:
            with cursor.cursor.copy(f"COPY {TABLE} ({COLUMNS}) FROM STDIN") as copy:
                lines: list[str] = []
                while len(lines) < 50_000 and count + len(lines) < records:
                    while len(started) < AT_ONCE:
                        number += 1
                        started.append((f"{number:08x}", iter(chance.choice(found))))
                    place = chance.randrange(AT_ONCE)
                    own, rest = started[place]
                    several = list(islice(rest, chance.randint(1, 8)))
                    if not several:
                        del started[place]
                    lines += [line.replace(MARK, own) for line in several]
                copy.write("".join(lines))
                count += len(lines)
            create_partitions("default")
        cursor.execute(f"ANALYZE {TABLE}")
    return count
