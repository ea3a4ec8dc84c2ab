"""The projection of the timelines: runs, nodes and transitions, caught up with the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.db import transaction

from audit import conf
from audit.fold import fold
from audit.fold.completeness import TOLD_WITHIN
from audit.log import runs, settled, timelines
from audit.log.errors import translated
from audit.projections import rows

NAME: Final = "timelines"
VERSION: Final = 1
BATCH: Final = 5_000
"""Positions of one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a catching up has done."""

    start: int
    """The position that it went on from."""
    position: int
    """The position up to which all is applied."""
    runs: int
    """How many runs were written, those of several batches each time."""


def catch_up(batch: int = BATCH) -> Progress:
    """Apply all records up to the settled head, a batch in each transaction.

    Whoever else does the same waits meanwhile, and goes on from there.

    Raises:
        HeadUnsettled: an append does not come to its end.
        LogUnavailable: the log's database cannot be asked.
    """
    using = conf.get("DATABASE")
    head, start, count = settled.head(using), None, 0
    while True:
        with translated(using), transaction.atomic(using=using):
            position = timelines.lock_checkpoint(using, NAME, VERSION).position
            start = position if start is None else start
            if position >= head:
                return Progress(start=start, position=position, runs=count)
            until = min(position + batch, head)
            touched = timelines.touched_runs(using, position, until, TOLD_WITHIN)
            refold(using, touched)
            timelines.move_checkpoint(using, NAME, VERSION, until)
            count += len(touched)


def refold(using: str, roots: list[str]) -> None:
    """Fold these runs from all of their records, and write their rows."""
    records = {root: runs.records(using, root) for root in roots}
    folded = {root: found for root in roots if (found := fold(root, records[root]))}
    if not folded:
        return
    writers = {each for found in folded.values() for each in found.facts.writers}
    since = min(found.facts.first_at for found in folded.values())
    gaps = runs.gaps(using, writers, since)
    timelines.write(
        using,
        list(folded),
        [rows.of_run(found, gaps) for found in folded.values()],
        [row for root, found in folded.items() for row in rows.of_nodes(found, records[root])],
        [row for found in folded.values() for row in rows.of_transitions(found)],
    )
