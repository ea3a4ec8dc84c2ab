"""Replaying: a log of millions of records made into the timelines, anew and as they come."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from random import Random

from common import TABLE, recording
from django.db import connection
from lab.chance import run_by_chance
from lab.engine import activity, tree_of
from lab.scenarios import Run

from audit.log.append import create_partitions

COLUMNS = (
    "occurred_at, writer_id, writer_position, event_type, root_pipeline_id, pipeline_id, node_id, "
    "node_version, data, context"
)
AT_ONCE = 20
"""Runs that go on at the same time."""
MARK = "@@@@@@@@"


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
