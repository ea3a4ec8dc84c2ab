"""An ordinary host's Celery app: its tasks send events."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery
from workers import broker
from workers.at_work import at_work

from audit.projections import Batch
from audit.projections.timelines import Timelines
from lab import ordinary

app = Celery("ordinary")
app.conf.update(broker.settings(Path(os.environ["AUDIT_TEST_BROKER"])))
app.autodiscover_tasks(["audit"])
load = Timelines.load


def load_slowly(self: Timelines, batch: Batch) -> None:
    load(self, batch)
    with at_work():
        time.sleep(float(os.environ.get("AUDIT_TEST_SLOW", "0")))


Timelines.load = load_slowly  # type: ignore[method-assign]


@app.task
def emit(count: int, size: int = 0, pause: float = 0.0) -> None:
    with at_work():
        ordinary.emit(count, size=size, pause=pause)


@app.task
def late(seconds: float) -> float:
    """How late the worst of many short naps ended: something else has held up the hub."""
    return ordinary.longest_nap(seconds)
