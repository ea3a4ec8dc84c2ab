"""Make projections anew in tables beside those that serve, then write only what differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from audit import conf
from audit.capture.text import clean_text, describe
from audit.exceptions import ProjectionBroken, RebuildRefused
from audit.log import checkpoints, settled
from audit.log.errors import translated
from audit.log.rebuilds import Beside, Differing, Done, UnderWay
from audit.projections.base import Projection, RunProjection
from audit.projections.batch import Batch, Failed
from audit.projections.faults import broken
from audit.projections.part import Part, Runs
from audit.projections.projector import BATCH, step
from audit.projections.selection import Selection
from audit.projections.timelines import Timelines

PART: Final = 20_000
"""Records that are loaded in one transaction, or those of one run where it has more."""
CLOSE: Final = 2 * BATCH
"""So few positions are left for the merge, in which nobody else catches up."""
ROUNDS: Final = 20
"""More than that do not bring it closer: records come as fast as they are applied."""
LOOK_EVERY: Final = 0.2
"""Seconds between two looks at whether others are done."""

Tell = Callable[[Done], None]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a rebuild came to."""

    records: int = 0
    runs: int | None = None
    """None: all."""
    position: int = 0
    """All up to here is in what was made."""
    tables: list[Differing] = field(default_factory=list)


class Rebuild:
    """One that was begun, here or in another process: whoever likes may help with it."""

    def __init__(
        self,
        projections: Sequence[Projection],
        selection: Selection,
        *,
        skip_broken: bool = False,
    ) -> None:
        self.using = conf.get("DATABASE")
        self._projections = projections
        self._selection = selection
        self._skip_broken = skip_broken
        self._beside = Beside(self.using)
        self._by_run = [each for each in projections if isinstance(each, RunProjection)]

    # Begin.

    def begin(self, *, anew: bool = False) -> UnderWay:
        """Make the tables beside, or go on with what was begun for the same.

        Raises:
            RebuildRefused: it cannot be done, or another one is under way.
            HeadUnsettled, LogUnavailable: as ``projector.catch_up``.
        """
        self._refuse()
        head = settled.head(self.using)
        with self._beside.alone():
            found = self._beside.under_way()
            if found is None or anew or self._is_old(found):
                found = self._begin(head)
            elif (found.projections, found.selection) != self._wanted:
                raise RebuildRefused(
                    f"A rebuild of {', '.join(found.projections)} was begun at {found.started_at} "
                    "and did not come to its end. Go on with it by giving the same options as "
                    "then, or give it up with --anew."
                )
        return found

    @property
    def _wanted(self) -> tuple[dict[str, int], dict[str, Any]]:
        versions = {each.name: each.version for each in self._projections}
        return versions, self._selection.as_json()

    def _is_old(self, found: UnderWay) -> bool:
        """Whether other code began it."""
        versions, _ = self._wanted
        return found.projections != versions and found.projections.keys() == versions.keys()

    def _begin(self, head: int) -> UnderWay:
        roots = self._selection.roots(self.using)
        tables = {
            model._meta.db_table: not each.keyless
            for each in self._projections
            for model in each.tables()
        }
        versions, selection = self._wanted
        self._beside.create(tables, projections=versions, selection=selection, head=head)
        if self._by_run:
            self._beside.plan(head, roots, PART)
        return UnderWay(versions, selection, head, timezone.now())

    def _refuse(self) -> None:
        for each in self._projections:
            what = f"Projection {each.name!r} cannot be made anew"
            if not each.models:
                raise RebuildRefused(
                    f"{what} beside the tables that serve: name those that it writes to as its "
                    "models."
                )
            if self._selection.is_all:
                continue
            if not isinstance(each, RunProjection):
                raise RebuildRefused(f"{what} for some runs only: it is no RunProjection.")
            for model in each.tables():
                if all(field.column != "root_pipeline_id" for field in model._meta.fields):
                    raise RebuildRefused(
                        f"{what} for some runs only: {model._meta.label} has no field "
                        "root_pipeline_id that says which run a row is of."
                    )

    # Load.

    def work(self, tell: Tell | None = None, *, most: int | None = None) -> int:
        """Load parts until nobody is needed, or ``most`` of them; answers how many.

        Raises:
            ProjectionBroken: a projection raises for a run, and that is not to be left out.
        """
        done = 0
        while (most is None or done < most) and self._load_one():
            done += 1
            if tell is not None:
                tell(self.done())
        return done

    def done(self) -> Done:
        """How far the load is, whoever is at it."""
        return self._beside.done()

    def wait(self, tell: Tell) -> None:
        """Load what others do not, until all is loaded."""
        while (done := self.done()).parts_done < done.parts:
            if not self.work(tell):
                time.sleep(LOOK_EVERY)
                tell(self.done())

    def _load_one(self) -> bool:
        with self._beside.meant():
            claimed = self._beside.claim()
            if claimed is None:
                return False
            part, roots = claimed
            found = Runs(self.using, roots)
            for projection in self._by_run:
                batch = Part(found)
                with broken(projection.name, "a rebuild cannot load it"):
                    projection.load(batch)
                self._set_aside(projection, batch.failed)
            self._beside.end(part)
        return True

    def _set_aside(self, projection: Projection, failed: dict[str, Failed]) -> None:
        for root, (position, why) in failed.items():
            if not self._skip_broken:
                raise ProjectionBroken(
                    f"Projection {projection.name!r} cannot make rows of run {root!r}: "
                    f"{describe(why)}. What serves is as it was. Mend it, or go on without such "
                    "runs with --skip-broken."
                ) from why
            checkpoints.set_aside(
                *(self.using, projection.name),
                position=position,
                root_pipeline_id=root,
                whole_run=True,
                error=clean_text(describe(why))[: checkpoints.MAX_ERROR],
            )

    # Catch up and merge.

    def finish(self, *, dry_run: bool = False) -> Outcome | None:
        """Catch up with what came meanwhile, and write what differs; None: another one did.

        Raises:
            ProjectionBroken: as ``work``.
            HeadUnsettled, LogUnavailable: as ``projector.catch_up``.
        """
        begun = self._beside.under_way()
        if begun is None:
            return None
        with self._beside.meant():
            for projection in self._by_run:
                projection.loaded()
        if self._selection.is_all:
            self._come_close(begun.head)
        return self._merge(begun, dry_run=dry_run)

    def _come_close(self, loaded: int) -> None:
        """Apply what came since, without holding up anybody."""
        with self._beside.meant():
            for each in self._projections:
                position = loaded if isinstance(each, RunProjection) else 0
                checkpoints.begin(self.using, each.name, each.version, position)
        for _ in range(ROUNDS):
            head = settled.head(self.using)
            left = sum(self._catch_up(each, head) for each in self._projections)
            if left <= CLOSE:
                break

    def _catch_up(self, projection: Projection, head: int) -> int:
        """Apply what there is up to there; answers how many positions that were."""
        self._follow_timelines()
        start: int | None = None
        while True:
            with self._beside.meant():
                found = step(self.using, projection, head)
            if found.set_aside and not self._skip_broken:
                first = found.set_aside[0]
                why = ValueError(first.error)
                self._set_aside(projection, {first.root_pipeline_id: Failed(first.position, why)})
            start = found.start if start is None else start
            if found.position == found.start:
                return found.position - start

    def _follow_timelines(self) -> None:
        """Others go as far as the timelines that serve, where those are not made anew as well."""
        if all(each.name != Timelines.name for each in self._projections):
            self._beside.take_checkpoint(Timelines.name)

    def _merge(self, begun: UnderWay, *, dry_run: bool) -> Outcome | None:
        head = settled.head(self.using)
        names = [each.name for each in self._projections]
        with translated(self.using), transaction.atomic(using=self.using):
            # Until it is committed nobody else catches them up. Each by itself takes one of these
            # only, so whatever the order is, nobody waits for us while we wait for him.
            for name in names:
                checkpoints.lock(self.using, name)
            with self._beside.alone():
                if self._beside.under_way() is None:
                    return None
            with self._beside.meant():
                roots = self._chosen(begun.head, head)
                records = self._beside.done().records
                outcome = Outcome(
                    records=records, runs=None if roots is None else len(roots), position=head
                )
                act = self._beside.compare if dry_run else self._beside.merge
                for projection in self._projections:
                    for model in projection.tables():
                        outcome.tables.append(act(model._meta.db_table, roots))
                if not dry_run:
                    self._beside.merge_books(names, roots)
                self._beside.drop()
        return outcome

    def _chosen(self, loaded: int, head: int) -> Collection[str] | None:
        """Bring what is beside up to the head; answers which runs it is of; None: all."""
        if self._selection.is_all:
            for each in self._projections:
                self._catch_up(each, head)
            return None
        roots = self._beside.roots()
        for projection in self._projections:
            for after in range(loaded, head, BATCH):
                batch = Batch(self.using, after, min(after + BATCH, head), projection.event_types)
                batch.touched = {
                    root: position for root, position in batch.touched.items() if root in roots
                }
                with broken(projection.name, "a rebuild cannot apply what came since"):
                    projection.apply(batch)
                self._set_aside(projection, batch.failed)
        return roots


def outdated(projections: Iterable[Projection]) -> list[Projection]:
    """Those whose rows were made by an older version, and can be made anew beside them."""
    using = conf.get("DATABASE")
    return [
        each
        for each in projections
        if each.models and 0 < checkpoints.version(using, each.name) < each.version
    ]
