"""The timelines' own projection, applied by itself."""

from __future__ import annotations

from collections.abc import Iterable

from audit import conf
from audit.projections import projector
from audit.projections.batch import Batch
from audit.projections.projector import BATCH, Progress
from audit.projections.timelines import Timelines


def catch_up(batch: int = BATCH) -> Progress:
    """Apply what the timelines do not have yet."""
    (found,) = projector.catch_up([Timelines()], batch)
    return found


def refold(roots: Iterable[str]) -> None:
    """Fold these runs anew, in this order."""
    for root in roots:
        batch = Batch(conf.get("DATABASE"), 0, 0)
        batch.touched = {root: 0}
        Timelines().apply(batch)
