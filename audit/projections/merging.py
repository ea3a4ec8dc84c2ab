"""The end of a rebuild: catch up with what came meanwhile, and write what differs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from django.db import transaction

from audit.exceptions import RebuildOver
from audit.log import checkpoints, settled
from audit.log.errors import translated
from audit.log.merges import Differing, compare, merge
from audit.projections.base import Projection, RunProjection
from audit.projections.batch import Batch
from audit.projections.faults import broken
from audit.projections.projector import BATCH, refuse_newer, step
from audit.projections.rebuild import Rebuild
from audit.projections.timelines import Timelines

CLOSE: Final = 2 * BATCH
"""So few positions are left for the merge, in which nobody else catches up."""
ROUNDS: Final = 20
"""More than that do not bring it closer: records come as fast as they are applied."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a rebuild came to."""

    records: int = 0
    runs: int | None = None
    """None: all."""
    position: int = 0
    """All up to here is in what was made."""
    left_out: int = 0
    """Runs and records that projections went on without: what was made of them before stays."""
    tables: list[Differing] = field(default_factory=list)


def finish(rebuild: Rebuild) -> Outcome:
    """Catch up with what came meanwhile, and write what differs.

    Raises:
        ProjectionBroken: as ``work``.
        RebuildOver: another process has brought it to its end, or has given it up.
        HeadUnsettled, LogUnavailable: as ``projector.catch_up``.
    """
    # Alone: of two that make the same index one would be a deadlock's victim.
    with rebuild.beside.alone(), rebuild.beside.meant(rebuild.token) as begun:
        for projection in rebuild.by_run:
            projection.loaded()
    if rebuild.selection.is_all:
        _come_close(rebuild, begun.head)
    return _merge(rebuild)


def _come_close(rebuild: Rebuild, loaded: int) -> None:
    """Apply what came since, without holding up anybody."""
    with rebuild.beside.meant(rebuild.token):
        for each in rebuild.projections:
            position = loaded if isinstance(each, RunProjection) else 0
            checkpoints.begin(rebuild.using, each.name, each.version, position)
    for _ in range(ROUNDS):
        head = settled.head(rebuild.using)
        left = sum(_catch_up(rebuild, each, head) for each in rebuild.projections)
        if left <= CLOSE:
            break


def _catch_up(rebuild: Rebuild, projection: Projection, head: int) -> int:
    """Apply what there is up to there; answers how many positions that were."""
    _follow_timelines(rebuild)
    start: int | None = None
    while True:
        with rebuild.beside.meant(rebuild.token):
            found = step(rebuild.using, projection, head)
            for each in found.set_aside:
                what = f"run {each.root_pipeline_id!r}"
                rebuild.leave_out(
                    projection,
                    what if each.whole_run else f"the record at position {each.position}",
                    each.error,
                )
        start = found.start if start is None else start
        if found.position == found.start:
            return found.position - start


def _follow_timelines(rebuild: Rebuild) -> None:
    """Others go as far as the timelines that serve, where those are not made anew as well."""
    if all(each.name != Timelines.name for each in rebuild.projections):
        rebuild.beside.take_checkpoint(Timelines.name)


def _merge(rebuild: Rebuild) -> Outcome:
    head = settled.head(rebuild.using)
    with translated(rebuild.using), transaction.atomic(using=rebuild.using):
        # Until it is committed nobody else catches them up. Each by itself takes one of these
        # only, so whatever the order is, nobody waits for us while we wait for him.
        for each in rebuild.projections:
            found = checkpoints.lock(rebuild.using, each.name)
            refuse_newer(each, found.version)
            # Whoever had it until now may have gone further, and only as far as all is settled.
            head = max(head, found.position)
        with rebuild.beside.alone(), rebuild.beside.meant(rebuild.token) as begun:
            rebuild.beside.lock()
            done = rebuild.done()
            if done.parts_done < done.parts:
                raise RebuildOver  # unless somebody merges what is not loaded
            roots = _chosen(rebuild, begun.head, head)
        outcome = Outcome(
            records=done.records,
            runs=None if roots is None else len(roots),
            position=head,
            left_out=sum(rebuild.beside.left_out(each.name) for each in rebuild.projections),
        )
        for projection in rebuild.projections:
            rebuild.refuse_too_many(projection)
            for model in projection.tables():
                about = (rebuild.beside, model._meta.db_table, projection.name, roots)
                differing = compare(*about) if rebuild.dry_run else merge(*about)
                outcome.tables.append(differing)
        if not rebuild.dry_run:
            rebuild.beside.merge_books([each.name for each in rebuild.projections], roots)
        rebuild.beside.drop()
    return outcome


def _chosen(rebuild: Rebuild, loaded: int, head: int) -> Collection[str] | None:
    """Bring what is beside up to the head; answers which runs it is of; None: all."""
    if rebuild.selection.is_all:
        for each in rebuild.projections:
            _catch_up(rebuild, each, head)
        return None
    roots = rebuild.beside.roots()
    for projection in rebuild.projections:
        for after in range(loaded, head, BATCH):
            batch = Batch(rebuild.using, after, min(after + BATCH, head), projection.event_types)
            batch.touched = {
                root: position for root, position in batch.touched.items() if root in roots
            }
            with broken(projection.name, "a rebuild cannot apply what came since"):
                projection.apply(batch)
            rebuild.set_aside(projection, batch.failed)
    return roots
