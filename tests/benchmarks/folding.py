"""Reading: how fast records become timelines, on one core and without a database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from common import recording
from lab.chance import run_by_chance
from lab.engine import activity, tree_of
from lab.scenarios import Run

from audit import conf
from audit.events import POST_SET_STATE
from audit.fold import Record, fold
from audit.log import runs
from audit.projections import rows

LARGE = 2_000
"""Nodes of the large run."""


def speed(scale: int) -> Iterator[dict[str, Any]]:
    """Records of the real engine's runs, some by chance and a large one, folded again and again."""
    seconds = 10 / scale
    logging.disable(logging.CRITICAL)  # the engine's word on what goes wrong by chance
    with recording(DELIVERY="inline"):
        ordinary = records_of([an_ordinary_run() for _ in range(10)])
        chaos = records_of([run_by_chance(seed) for seed in range(max(40 // scale, 4))])
    logging.disable(logging.NOTSET)
    base = rate(ordinary, last_states, seconds / 2)
    whole = rate(ordinary, fold, seconds)
    yield {"what": "last state of each node, a plain loop", "value": base, "unit": "records/s"}
    yield {
        "what": "fold to timelines, runs of 20 activities",
        "value": whole,
        "unit": "records/s",
        "ratio": whole / base,
        "of": "the plain loop",
    }
    others = (
        ("and the rows of the tables", ordinary, with_rows),
        ("runs by chance, with failures and people", chaos, fold),
        (f"a run of {LARGE // scale:,} nodes", {"": large_run(LARGE // scale)}, fold),
    )
    for name, records, action in others:
        value = rate(records, action, seconds)
        yield {"what": f"fold to timelines, {name}", "value": value, "unit": "records/s"}


def an_ordinary_run() -> Run:
    return Run(tree_of(*(activity("lab_ok", f"A{n}") for n in range(20)))).start()


def records_of(found: list[Run]) -> dict[str, list[Record]]:
    return {run.root: runs.records(conf.get("DATABASE"), run.root) for run in found}


def large_run(nodes: int) -> list[Record]:
    """The records of a short run of the engine's, one activity's again and again."""
    with recording(DELIVERY="inline"):
        run = Run(tree_of(activity("lab_ok", "A"))).start()
    short = runs.records(conf.get("DATABASE"), run.root)
    node, found = run.ids["A"], []
    for number in range(nodes):
        for each in short:
            if number == 0 or each.node_id == node:
                place = len(found) + 1
                node_id = f"{each.node_id}/{number}" if each.node_id == node else each.node_id
                found.append(
                    each._replace(
                        position=place,
                        at=short[0].at + place,
                        writer_position=place,
                        node_id=node_id,
                    )
                )
    return found


def last_states(_: str, records: list[Record]) -> dict[str, Any]:
    return {
        record.node_id: record.data.get("to_state")
        for record in records
        if record.event_type == POST_SET_STATE
    }


def with_rows(root: str, records: list[Record]) -> Any:
    found = fold(root, records)
    assert found is not None
    return rows.of_run(found, ()), rows.of_nodes(found), rows.of_transitions(found)


def rate(
    found: dict[str, list[Record]], action: Callable[[str, list[Record]], Any], seconds: float
) -> float:
    """Records a second, in the median of rounds: a shared machine has good and bad ones."""
    count, rates = sum(map(len, found.values())), []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(rates) < 3:
        began = time.perf_counter()
        for root, records in found.items():
            action(root, records)
        rates.append(count / (time.perf_counter() - began))
    rates.sort()
    return rates[len(rates) // 2]
