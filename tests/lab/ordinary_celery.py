"""An ordinary host's Celery app: its tasks send events."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from workers import broker

from lab import ordinary

app = Celery("ordinary")
app.conf.update(broker.settings(Path(os.environ["AUDIT_TEST_BROKER"])))


@app.task
def emit(count: int, size: int = 0, pause: float = 0.0) -> None:
    ordinary.emit(count, size=size, pause=pause)


@app.task
def late(seconds: float) -> float:
    """How late the worst of many short naps ended: something else has held up the hub."""
    return ordinary.longest_nap(seconds)
