"""The projector: hands the log to projections, and keeps how far each of them is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from django.db import DatabaseError, DataError, IntegrityError, ProgrammingError, transaction

from audit import conf
from audit.capture.text import clean_text, describe
from audit.exceptions import AuditError, ProjectionBroken, SoftTimeLimit
from audit.log import checkpoints, settled
from audit.log.errors import translated
from audit.projections.base import Projection
from audit.projections.batch import Batch

BATCH: Final = 5_000
"""Positions of one transaction."""
MOST_ASIDE: Final = 100
"""More of one batch than that are not the records' fault."""

logger = logging.getLogger("audit")


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a catching up has done for one projection."""

    name: str
    start: int
    """The position that it went on from."""
    position: int
    """The position up to which all is applied."""
    runs: int = 0
    """How many runs the records were of, those of several batches each time."""
    set_aside: dict[int, str] = field(default_factory=dict)
    """Positions of records that could not be applied, with the error."""

    def add(self, later: Progress) -> None:
        """What was done right afterwards."""
        self.position = later.position
        self.runs += later.runs
        self.set_aside |= later.set_aside


def catch_up(projections: Iterable[Projection], batch: int = BATCH) -> list[Progress]:
    """Apply all records up to the settled head, a batch in each transaction.

    Whoever else does the same waits meanwhile, and goes on from there. A projection of an older
    version begins anew.

    Raises:
        HeadUnsettled: an append does not come to its end.
        LogUnavailable: the log's database cannot be asked.
        ProjectionBroken: a projection raises for everything; it stays where it is.
        AuditError: the tables were written by a newer version.
    """
    using = conf.get("DATABASE")
    head = settled.head(using)
    found = []
    for projection in projections:
        progress = step(using, projection, head, batch)
        while progress.position < head:
            progress.add(step(using, projection, head, batch))
        found.append(progress)
    return found


def step(using: str, projection: Projection, head: int, batch: int = BATCH) -> Progress:
    """Apply the next records of one projection, a batch at most, up to ``head``.

    Raises:
        as ``catch_up``.
    """
    with translated(using), transaction.atomic(using=using):
        position = _position(using, projection)
        progress = Progress(name=projection.name, start=position, position=position)
        if position < head:
            _step(using, projection, position, min(position + batch, head), progress)
    return progress


def _position(using: str, projection: Projection) -> int:
    """How far it is; it is this process's until its transaction ends."""
    found = checkpoints.lock(using, projection.name, projection.version)
    if found.version > projection.version:
        raise AuditError(
            f"The rows of projection {projection.name!r} were written by its version "
            f"{found.version}, and this is version {projection.version}. Upgrade it here, or let "
            "the newer one catch up."
        )
    if found.version == projection.version:
        return found.position
    _begin_anew(using, projection, 0)
    return 0


def begin_anew(projection: Projection, after: int = 0) -> None:
    """Delete all that it made; the next catching up begins after that position.

    Raises:
        LogUnavailable: the log's database cannot be asked.
    """
    using = conf.get("DATABASE")
    with translated(using), transaction.atomic(using=using):
        checkpoints.lock(using, projection.name, projection.version)
        _begin_anew(using, projection, after)


def _begin_anew(using: str, projection: Projection, after: int) -> None:
    projection.reset()
    checkpoints.take_back(using, projection.name)
    checkpoints.move(using, projection.name, projection.version, after)


def _step(using: str, projection: Projection, after: int, until: int, progress: Progress) -> None:
    """Apply some records, and move the checkpoint on: in the caller's transaction."""
    name = projection.name
    for batch, error in _apply(using, projection, after, until):
        if error:
            root = next(iter(batch.touched), "")
            checkpoints.set_aside(using, name, batch.until, root=root, whole_run=False, error=error)
            progress.set_aside[batch.until] = error
            continue
        done = batch.touched.keys() - batch.failed.keys()
        checkpoints.take_back(using, name, done)
        progress.runs += len(done)
        for root, failed in batch.failed.items():
            position, error = failed
            checkpoints.set_aside(using, name, position, root=root, whole_run=True, error=error)
            progress.set_aside[position] = error
    checkpoints.move(using, name, projection.version, until)
    progress.position = until


def _apply(using: str, projection: Projection, after: int, until: int) -> list[tuple[Batch, str]]:
    """The batches that it came to, each with the error of what has to be left out.

    What raises is halved, until it is one record.
    """
    found, pending, aside = [], [(after, until)], 0
    while pending:
        after, until = pending.pop()
        batch = Batch(using, after, until, projection.event_types)
        try:
            with transaction.atomic(using=using):
                projection.apply(batch)
        except (DataError, IntegrityError) as error:
            why: Exception = error
        except ProgrammingError as error:
            raise ProjectionBroken(
                f"Projection {projection.name!r} raises at positions {after + 1} to {until}: "
                f"{describe(error)}. It stays before them. Are its tables migrated?"
            ) from error
        except (AuditError, DatabaseError, SoftTimeLimit):
            raise  # nothing that one record is to blame for
        except Exception as error:
            why = error
        else:
            found.append((batch, ""))
            continue
        if until - after > 1:
            middle = (after + until) // 2
            pending += [(middle, until), (after, middle)]
            continue
        aside += 1
        if aside > MOST_ASIDE:
            raise ProjectionBroken(
                f"Projection {projection.name!r} raises for more than {MOST_ASIDE} records of "
                f"{BATCH:,}, last for that at position {until}: {describe(why)}. It stays at "
                "the position before. Mend its apply(), and run audit_replay again."
            ) from why
        logger.error(
            "bamboo-audit: projection %r goes on without the record at position %d.",
            *(projection.name, until),
            exc_info=why,
        )
        found.append((batch, clean_text(describe(why))))
    return found
