"""The projector: hands the log to projections, and keeps how far each of them is."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

from django.db import transaction

from audit import conf
from audit.capture.text import clean_text, describe
from audit.exceptions import AuditError, ProjectionBroken
from audit.log import checkpoints, settled
from audit.log.errors import sqlstate, translated
from audit.projections.base import Projection
from audit.projections.batch import Batch, Failed
from audit.projections.faults import broken, is_the_records, whole
from audit.projections.timelines import Timelines

BATCH: Final = 5_000
"""Positions of one transaction."""
MOST_ASIDE: Final = 100
"""More of so many positions than that are not the records' fault."""
TOOK_TOO_LONG: Final = "57014"
"""The database's own limit for a statement: fewer records may do."""

logger = logging.getLogger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A record that was left out, or with it a whole run."""

    position: int
    root_pipeline_id: str
    whole_run: bool
    error: str


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a catching up has done for one projection."""

    name: str
    start: int
    """The position that it went on from."""
    position: int
    """The position up to which all is applied."""
    outdated: bool = False
    """What it has was made by an older version, and serves until it is made anew."""
    runs: int = 0
    """How many runs the records were of, those of several batches each time."""
    set_aside: list[SetAside] = field(default_factory=list)

    def add(self, later: Progress) -> None:
        """What was done right afterwards."""
        self.position = later.position
        self.runs += later.runs
        self.set_aside += later.set_aside


def catch_up(projections: Iterable[Projection], batch: int = BATCH) -> list[Progress]:
    """Apply all records up to the settled head, a batch in each transaction.

    Whoever else does the same waits meanwhile, and goes on from there. What was made by an older
    version of a projection stays as it is until that is rebuilt, or begins anew where it names no
    models. Others go no further than the timelines are, whose tables tell which runs a gap
    concerns.

    Raises:
        HeadUnsettled: an append does not come to its end.
        LogUnavailable: the log's database cannot be asked.
        ProjectionBroken: a projection raises for what no record is to blame for; it stays where
            it is.
        AuditError: the tables were written by a newer version.
    """
    using = conf.get("DATABASE")
    head = settled.head(using)
    found = []
    for projection in projections:
        progress = later = step(using, projection, head, batch)
        while later.position > later.start:
            later = step(using, projection, head, batch)
            progress.add(later)
        found.append(progress)
    return found


def step(
    using: str, projection: Projection, head: int, batch: int = BATCH, *, wait: bool = True
) -> Progress:
    """Apply the next records of one projection, a batch at most, up to ``head``.

    ``wait``: for who else catches it up; otherwise that is left to him.

    Raises:
        as ``catch_up``.
    """
    left_out: list[tuple[SetAside, Exception]] = []
    with translated(using), transaction.atomic(using=using):
        if projection.name != Timelines.name:
            head = min(head, checkpoints.position(using, Timelines.name))
        found = _position(using, projection, wait=wait)
        position, outdated = found or (checkpoints.position(using, projection.name), False)
        progress = Progress(
            name=projection.name, start=position, position=position, outdated=outdated
        )
        if found and position < head and not outdated:
            until = min(position + batch, head)
            left_out = _step(using, projection, position, until, progress)
    for each, error in left_out:  # now that it holds
        progress.set_aside.append(each)
        logger.error(
            "bamboo-audit: projection %r goes on without %s: %s",
            projection.name,
            f"run {each.root_pipeline_id!r}" if each.whole_run else f"position {each.position}",
            each.error,
            exc_info=error,
        )
    return progress


def _position(using: str, projection: Projection, *, wait: bool) -> tuple[int, bool] | None:
    """How far it is, and whether it is outdated; nobody else's until the transaction ends.

    None: it is somebody else's.
    """
    found = (checkpoints.lock if wait else checkpoints.try_lock)(using, projection.name)
    if found is None:
        return None
    refuse_newer(projection, found.version)
    if found.version == projection.version:
        return found.position, False
    if found.version and projection.models:
        return found.position, True
    _begin_anew(using, projection, 0)
    return 0, False


def refuse_newer(projection: Projection, version: int) -> None:
    """Keep off rows that newer code has made.

    Raises:
        AuditError: they are such.
    """
    if version > projection.version:
        raise AuditError(
            f"The rows of projection {projection.name!r} were written by its version {version}, "
            f"and this is version {projection.version}. Upgrade it here, or let the newer one "
            "catch up."
        )


def begin_anew(projection: Projection, after: int = 0) -> None:
    """Delete all that it made; the next catching up begins after that position.

    Raises:
        LogUnavailable: the log's database cannot be asked.
        ProjectionBroken: ``reset`` raises.
    """
    using = conf.get("DATABASE")
    with translated(using), transaction.atomic(using=using):
        checkpoints.lock(using, projection.name)
        _begin_anew(using, projection, after)


def _begin_anew(using: str, projection: Projection, after: int) -> None:
    with broken(projection.name, "reset() raises"), whole(using):
        projection.reset()
    checkpoints.take_back(using, projection.name)
    checkpoints.move(using, projection.name, projection.version, after)


def _step(
    using: str, projection: Projection, after: int, until: int, progress: Progress
) -> list[tuple[SetAside, Exception]]:
    """Apply some records, and move the checkpoint on; answers what was left out."""
    name = projection.name
    left_out: list[tuple[SetAside, Exception]] = []
    for batch, error in _apply(using, projection, after, until):
        failed = batch.failed
        if error is not None:
            failed = {next(iter(batch.touched), ""): Failed(batch.until, error)}
        else:
            done = batch.touched.keys() - failed.keys()
            checkpoints.take_back(using, name, done)
            progress.runs += len(done)
        for root, (position, why) in failed.items():
            aside = SetAside(
                position=position,
                root_pipeline_id=root,
                whole_run=error is None,
                error=clean_text(describe(why))[: checkpoints.MAX_ERROR],
            )
            checkpoints.set_aside(using, name, **asdict(aside))
            left_out.append((aside, why))
    # However small the batches are, a projection that raises for everything does not get far.
    if left_out and checkpoints.count_aside(using, name, until - BATCH) > MOST_ASIDE:
        raise _too_many(projection, *left_out[-1])
    checkpoints.move(using, name, projection.version, until)
    progress.position = until
    return left_out


def _apply(
    using: str, projection: Projection, after: int, until: int
) -> list[tuple[Batch, Exception | None]]:
    """The batches that it came to, each with the error of what has to be left out.

    What raises is halved, until it is one record.
    """
    found: list[tuple[Batch, Exception | None]] = []
    pending, aside = [(after, until)], 0
    while pending:
        after, until = pending.pop()
        batch = Batch(using, after, until, projection.event_types, projection.folds)
        try:
            with whole(using):
                projection.apply(batch)
        except Exception as error:
            why, is_one = error, until - after == 1
            if not is_the_records(error) and (is_one or sqlstate(error) != TOOK_TOO_LONG):
                with broken(projection.name, f"it raises at positions {after + 1} to {until}"):
                    raise
        else:
            batch.forget()
            found.append((batch, None))
            continue
        if not is_one:
            middle = (after + until) // 2
            pending += [(middle, until), (after, middle)]
            continue
        aside += 1
        found.append((batch, why))
        if aside > MOST_ASIDE:
            one = SetAside(
                position=until, root_pipeline_id="", whole_run=False, error=describe(why)
            )
            raise _too_many(projection, one, why)
    return found


def _too_many(projection: Projection, last: SetAside, why: Exception) -> ProjectionBroken:
    raised = ProjectionBroken(
        f"Projection {projection.name!r} raises for more than {MOST_ASIDE} of {BATCH:,} records or "
        f"runs, last for that at position {last.position}: {last.error}. It stays where it is. "
        "Mend it, and run audit_replay again."
    )
    raised.__cause__ = why
    return raised
