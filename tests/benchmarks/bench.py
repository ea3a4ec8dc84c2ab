"""What recording costs, each figure against a baseline in the same run.

``tox -e bench`` prints a table; ``tox -e bench -- --json`` prints JSON. Trust the ratios: on a
shared machine absolute times drift.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
TABLE = "bamboo_audit_pipelineeventrecord"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    options = parser.parse_args()

    from audit.testing.postgres import Server

    with Server() as server:
        os.environ["DATABASE_URL"] = server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        sys.path.insert(0, str(TESTS))
        scale = 10 if options.quick else 1
        figures = [
            figure
            for bench in (per_event, engine_runs, indexes, partitions)
            for figure in bench(scale)
        ]
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        return
    width = max(len(figure["what"]) for figure in figures)
    for figure in figures:
        ratio = f"  {figure['ratio']:.2f}x of {figure['of']}" if "ratio" in figure else ""
        line = f"{figure['what']:<{width}}  {figure['value']:>10,.1f} {figure['unit']:<10}{ratio}"
        sys.stdout.write(line.rstrip() + "\n")


def _django() -> None:
    import logging

    import django
    from django.apps import apps
    from django.core.management import call_command

    if not apps.ready:
        logging.disable(logging.ERROR)  # the engine's word on tables that are made just now
        django.setup()
        call_command("migrate", verbosity=0)
        logging.disable(logging.NOTSET)


def _median_us(action: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter_ns()
        action()
        taken.append(time.perf_counter_ns() - began)
    return statistics.median(taken) / 1000


def _naive_model() -> Any:
    """The table that one writes first: a managed model with a few db_index fields."""
    from django.db import connection, models

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


def per_event(scale: int) -> Iterator[dict[str, Any]]:
    """One small event: our receiver against ``objects.create()``, on the calling thread."""
    _django()
    from types import SimpleNamespace

    from django.test.utils import override_settings

    from audit import receivers

    naive = _naive_model()
    event = SimpleNamespace(
        event_type="node_enter", data={"root_pipeline_id": "p" * 33, "node_id": "n" * 33}
    )
    times = 4_000 // scale
    create = _median_us(
        lambda: naive.objects.create(event_type=event.event_type, **event.data, data=event.data),
        times,
    )
    inline = _median_us(lambda: receivers.on_pipeline_event(event=event), times)
    with override_settings(BAMBOO_AUDIT={"DELIVERY": "off"}):
        off = _median_us(lambda: receivers.on_pipeline_event(event=event), times * 10)
    yield {"what": "event, objects.create()", "value": create, "unit": "us"}
    yield {
        "what": "event, inline",
        "value": inline,
        "unit": "us",
        "ratio": inline / create,
        "of": "create()",
    }
    yield {
        "what": "event, off",
        "value": off,
        "unit": "us",
        "ratio": off / create,
        "of": "create()",
    }


def engine_runs(scale: int) -> Iterator[dict[str, Any]]:
    """The real engine running pipelines of five activities, recording off and inline, in turn."""
    _django()
    from django.test.utils import override_settings
    from lab.engine import activity, run, tree_of

    def runs() -> float:
        began = time.perf_counter()
        for _ in range(10):
            run(tree_of(*(activity("lab_ok") for _ in range(5))))
        return (time.perf_counter() - began) * 100

    runs()
    off, inline = [], []
    for _ in range(max(10 // scale, 2)):
        with override_settings(BAMBOO_AUDIT={"DELIVERY": "off"}):
            off.append(runs())
        inline.append(runs())
    base, ours = statistics.median(off), statistics.median(inline)
    yield {"what": "engine run of 5 activities, recording off", "value": base, "unit": "ms"}
    yield {
        "what": "engine run of 5 activities, inline",
        "value": ours,
        "unit": "ms",
        "ratio": ours / base,
        "of": "off",
    }


def indexes(scale: int) -> Iterator[dict[str, Any]]:
    """What each index costs a bulk load: the log's table with its primary key, and one more."""
    _django()
    from django.db import connection

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
    import psycopg

    from audit.log.ddl import rendered
    from audit.testing.postgres import Server, find_binaries, installed

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
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        while not stop.is_set():
            began = time.perf_counter()
            connection.execute(insert)
            waited.append((time.perf_counter() - began) * 1000)


if __name__ == "__main__":
    main()
