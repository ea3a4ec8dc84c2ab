"""The projection of the timelines: runs, nodes and transitions, caught up with the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from django.db import transaction

from audit import conf
from audit.exceptions import AuditError
from audit.fold import fold
from audit.fold.completeness import TOLD_WITHIN
from audit.log import runs, settled, timelines
from audit.log.errors import translated
from audit.projections import rows

NAME: Final = "timelines"
VERSION: Final = 1
BATCH: Final = 5_000
"""Positions of one transaction."""
MOST_BYTES: Final = 4 * 2**20
"""Rows that are written at once, as JSON: the database takes 256 MB."""

logger = logging.getLogger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a catching up has done."""

    start: int
    """The position that it went on from."""
    position: int
    """The position up to which all is applied."""
    runs: int
    """How many runs were written, those of several batches each time."""
    failed: dict[str, str]
    """The runs that could not be folded, with the error; their rows are as they were."""


def catch_up(batch: int = BATCH) -> Progress:
    """Apply all records up to the settled head, a batch in each transaction.

    Each run that a batch touches is folded from all of its records. Whoever else does the same
    waits meanwhile, and goes on from there. A projection of an older version begins anew.

    Raises:
        HeadUnsettled: an append does not come to its end.
        LogUnavailable: the log's database cannot be asked.
        AuditError: the tables were written by a newer version.
    """
    using = conf.get("DATABASE")
    head, start, count = settled.head(using), None, 0
    failed: dict[str, str] = {}
    while True:
        with translated(using), transaction.atomic(using=using):
            position = _position(using)
            start = position if start is None else start
            if position >= head:
                return Progress(start=start, position=position, runs=count, failed=failed)
            until = min(position + batch, head)
            touched = timelines.touched_runs(using, position, until, TOLD_WITHIN)
            failed |= refold(using, touched)
            timelines.move_checkpoint(using, NAME, VERSION, until)
            count += len(touched)


def _position(using: str) -> int:
    """How far the tables are; they are this process's until its transaction ends."""
    found = timelines.lock_checkpoint(using, NAME, VERSION)
    if found.version > VERSION:
        raise AuditError(
            f"The timelines were written by version {found.version} of their projection, and this "
            f"is version {VERSION}. Upgrade bamboo-audit here, or let the newer one catch up."
        )
    return found.position if found.version == VERSION else 0


def refold(using: str, roots: list[str]) -> dict[str, str]:
    """Fold these runs from all of their records, and write their rows; answers what failed.

    A run that cannot be folded does not keep the others from it.
    """
    failed: dict[str, str] = {}
    written = timelines.Rows()
    for root in roots:
        records = runs.records(using, root)
        try:
            found = fold(root, records)
            if found is None:
                continue
            gaps = runs.gaps(using, found.facts.writers, found.facts.first_at)
            written.add(
                root,
                rows.of_run(found, gaps),
                rows.of_nodes(found, records),
                rows.of_transitions(found),
            )
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            failed[root] = f"{type(error).__name__}: {error}"
            logger.exception("bamboo-audit cannot fold run %r; its rows stay as they are.", root)
        if written.size > MOST_BYTES:
            timelines.write(using, written)
            written = timelines.Rows()
    timelines.write(using, written)
    return failed
