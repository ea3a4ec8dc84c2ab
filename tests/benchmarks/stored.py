"""The log: what recording costs the engine as a whole, and what the log's own structure costs."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from common import TABLE, recording, settle
from django.db import connection
from lab.engine import activity, run, tree_of

from audit.log.ddl import rendered
from audit.testing.postgres import Server, find_binaries, installed


def engine_runs(scale: int) -> Iterator[dict[str, Any]]:
    """The real engine running pipelines of five activities: 600 with the spool, 100 inline.

    In blocks of ten, each between two that record nothing: what differs is a hundredth, and the
    machine's own moods are more. Those that record nothing against each other show them.
    """

    def runs(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            run(tree_of(*(activity("lab_ok") for _ in range(5))))
        return (time.perf_counter() - began) * 1000 / count

    def off() -> float:
        settle()
        with recording(DELIVERY="off"):
            return runs(10)

    off()
    before = off()
    bases, noise = [before], []
    ratios: dict[str, list[float]] = {"spool": [], "inline": []}
    for delivery, blocks in (("spool", 60), ("inline", 10)):
        for _ in range(max(blocks // scale, 3)):
            with recording(DELIVERY=delivery):
                taken = runs(10)
            after = off()
            bases.append(after)
            noise.append(after / before)
            ratios[delivery].append(2 * taken / (before + after))
            before = after
    base = statistics.median(bases)
    yield {"what": "engine run of 5 activities, recording off", "value": base, "unit": "ms"}
    for name, found in (("off again", noise), *ratios.items()):
        ratio = statistics.median(found)
        yield {
            "what": f"engine run of 5 activities, {name}",
            "value": base * ratio,
            "unit": "ms",
            "ratio": ratio,
            "of": "off",
        }


def indexes(scale: int) -> Iterator[dict[str, Any]]:
    """What each index costs a bulk load: the log's table with its primary key, and one more."""
    rows = 200_000 // scale
    with connection.cursor() as cursor:
        cursor.execute(
            (Path(__file__).parent / "load.sql").read_text().replace("{rows}", str(rows))
        )
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
            f"WHERE indrelid = '{TABLE}'::regclass ORDER BY NOT indisprimary, 1"
        )
        found = dict(cursor.fetchall())
        key, *others = found
        choices = {key: [key], **{name: [key, name] for name in others}, "all": list(found)}
        rates: dict[str, list[float]] = {name: [] for name in choices}
        for measured in (False, True, True, True):
            for name, chosen in choices.items():
                seconds = _load(cursor, [found[index] for index in chosen])
                if measured:
                    rates[name].append(rows / seconds)
        cursor.execute("DROP TABLE source")
    base = statistics.median(rates[key])
    for name, measured_rates in rates.items():
        label = {key: "primary key only", "all": "all indexes"}.get(
            name, f"primary key + {name.removeprefix('bamboo_audit_record_')}"
        )
        rate = statistics.median(measured_rates)
        yield {
            "what": f"bulk load, {label}",
            "value": rate,
            "unit": "events/s",
            "ratio": rate / base,
            "of": "primary key only",
        }


def _load(cursor: Any, definitions: list[str]) -> float:
    """Seconds to fill a table like the log that has these indexes."""
    cursor.execute(f"CREATE TABLE target (LIKE {TABLE} INCLUDING STORAGE INCLUDING COMPRESSION)")
    for number, definition in enumerate(definitions):
        kind = "UNIQUE INDEX" if "UNIQUE" in definition else "INDEX"
        method = definition.partition(" USING ")[2]
        cursor.execute(f"CREATE {kind} target_{number} ON target USING {method}")
    names = (
        "id, writer_position, occurred_at, recorded_at, writer_id, event_type, "
        "root_pipeline_id, pipeline_id, node_id, node_version, data, context"
    )
    began = time.perf_counter()
    cursor.execute(f"INSERT INTO target ({names}) SELECT {names} FROM source")
    seconds = time.perf_counter() - began
    cursor.execute("DROP TABLE target")
    return seconds


def partitions(scale: int) -> Iterator[dict[str, Any]]:
    """Making a partition beside an open writer, an open reader and a neighbour that inserts."""
    insert = (
        f"INSERT INTO {TABLE} (writer_position, occurred_at, writer_id, event_type, data) "
        "VALUES (1, now(), gen_random_uuid(), 'x', '{}')"
    )
    for bin_dir in dict.fromkeys([find_binaries(), *installed()]):
        with (
            Server(bin_dir=bin_dir) as server,
            psycopg.connect(server.url, autocommit=True) as maker,
        ):
            maker.execute(rendered(maker, "0001_log.sql", "public"))
            maker.execute("SELECT bamboo_audit_create_partitions(1000, 1)")
            version = maker.info.server_version // 10_000
            made, waited = [], []
            with psycopg.connect(server.url) as writer, psycopg.connect(server.url) as reader:
                for ahead in range(2, 2 + max(30 // scale, 5)):
                    writer.execute(insert)
                    reader.execute(f"SELECT count(*) FROM {TABLE}").fetchall()
                    stop = threading.Event()
                    neighbour = threading.Thread(
                        target=_insert_until, args=(server.url, insert, stop, waited)
                    )
                    neighbour.start()
                    time.sleep(0.05)
                    began = time.perf_counter()
                    maker.execute("SELECT bamboo_audit_create_partitions(1000, %s)", [ahead])
                    made.append((time.perf_counter() - began) * 1000)
                    stop.set()
                    neighbour.join()
                    writer.commit()
                    reader.commit()
        yield {
            "what": f"new partition, PostgreSQL {version}, median",
            "value": statistics.median(made),
            "unit": "ms",
        }
        yield {
            "what": f"new partition, PostgreSQL {version}, slowest",
            "value": max(made),
            "unit": "ms",
        }
        yield {
            "what": f"an insert meanwhile, PostgreSQL {version}, slowest",
            "value": max(waited),
            "unit": "ms",
        }


def _insert_until(url: str, insert: str, stop: threading.Event, waited: list[float]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            began = time.perf_counter()
            connection.execute(insert)
            waited.append((time.perf_counter() - began) * 1000)
