"""Make projections anew in tables beside those that serve, then write only what differs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from django.db.models import AutoField

from audit import conf
from audit.capture.text import clean_text, describe
from audit.exceptions import ProjectionBroken, RebuildRefused
from audit.log import checkpoints, settled
from audit.log.rebuilds import Beside, Done, UnderWay
from audit.projections import registry
from audit.projections.base import Projection, RunProjection
from audit.projections.batch import Failed
from audit.projections.faults import broken
from audit.projections.part import Part, Runs
from audit.projections.projector import MOST_ASIDE
from audit.projections.selection import Selection

PART: Final = 20_000
"""Records that are loaded in one transaction, or those of one run where it has more."""
LOOK_EVERY: Final = 0.2
"""Seconds between two looks at whether others are done."""

logger = logging.getLogger("audit")

Tell = Callable[[Done], None]


class Rebuild:
    """One that was begun, here or in another process: whoever likes may help with it."""

    def __init__(
        self,
        projections: Sequence[Projection],
        selection: Selection,
        *,
        dry_run: bool = False,
        skip_broken: bool = False,
    ) -> None:
        self.using = conf.get("DATABASE")
        self.projections = projections
        self.selection = selection
        self.dry_run = dry_run
        self.skip_broken = skip_broken
        self.beside = Beside(self.using)
        self.token = ""
        """Of what was begun: what another process begins instead of it is not this one's."""
        self.by_run = [each for each in projections if isinstance(each, RunProjection)]

    @classmethod
    def under_way(cls, token: str, *, skip_broken: bool) -> Rebuild | None:
        """That which another process has begun; None: it is over.

        Raises:
            RebuildRefused: here are other projections, or other versions of them.
            UnknownProjection: one is not known here.
        """
        begun = Beside(conf.get("DATABASE")).under_way()
        if begun is None or begun.token != token:
            return None
        found = cls(registry.chosen(list(begun.projections)), Selection(), skip_broken=skip_broken)
        found.token = token
        if found.wanted[0] != begun.projections:
            raise RebuildRefused(
                f"The rebuild is of {begun.projections}, and here is {found.wanted[0]}. Let those "
                "work at it that have the same code as who began it."
            )
        return found

    # Begin.

    def begin(self, *, anew: bool = False) -> UnderWay:
        """Make the tables beside, or go on with what was begun for the same.

        Raises:
            RebuildRefused: it cannot be done, or another one is under way.
            HeadUnsettled, LogUnavailable: as ``projector.catch_up``.
        """
        self._refuse()
        head = settled.head(self.using)
        with self.beside.alone():
            found = self.beside.under_way()
            if found is None or anew or self._is_old(found):
                found = self._begin(head)
            elif (found.projections, found.selection) != self.wanted:
                raise RebuildRefused(
                    f"A rebuild of {', '.join(found.projections)} ({found.selection}) was begun at "
                    f"{found.started_at} and did not come to its end. Go on with it by giving the "
                    "same options as then, or give it up with --rebuild --anew."
                )
            self.token = found.token
            self.beside.report(self.token, "")
        return found

    @property
    def wanted(self) -> tuple[dict[str, int], dict[str, Any]]:
        """The versions of its projections, and its selection: the same for the same rebuild."""
        versions = {each.name: each.version for each in self.projections}
        return versions, {**self.selection.as_json(), "dry_run": self.dry_run}

    def _is_old(self, found: UnderWay) -> bool:
        """Whether other code began it."""
        versions, _ = self.wanted
        return found.projections != versions and found.projections.keys() == versions.keys()

    def _begin(self, head: int) -> UnderWay:
        roots = self.selection.roots(self.using)
        tables = {
            model._meta.db_table: not each.keyless
            for each in self.projections
            for model in each.tables()
        }
        versions, selection = self.wanted
        found = self.beside.create(tables, projections=versions, selection=selection, head=head)
        if self.by_run:
            self.beside.plan(head, roots, PART)
        return found

    def _refuse(self) -> None:
        written = {model for each in self.projections for model in each.tables()}
        named = {field.related_model for model in written for field in model._meta.fields}
        for each in self.projections:
            what = f"Projection {each.name!r} cannot be made anew"
            if not each.models:
                raise RebuildRefused(
                    f"{what} beside the tables that serve: name those that it writes to as its "
                    "models."
                )
            for model in each.tables():
                if model._meta.many_to_many or model._meta.parents:
                    raise RebuildRefused(
                        f"{what}: {model._meta.label} has rows in other tables as well, by "
                        "inheritance or a many-to-many field."
                    )
                is_named = model in named or model._meta.related_objects
                if is_named and isinstance(model._meta.pk, AutoField):
                    raise RebuildRefused(
                        f"{what}: other rows name those of {model._meta.label} by an id that the "
                        "database draws, and would draw again. Give it a key that follows from "
                        "the records."
                    )
            if self.selection.is_all:
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
            RebuildOver: another process has brought it to its end, or has given it up.
        """
        done = 0
        while (most is None or done < most) and self._load_one():
            done += 1
            if tell is not None:
                tell(self.done())
        return done

    def done(self) -> Done:
        """How far the load is, whoever is at it."""
        return self.beside.done(self.token)

    def report(self, error: str) -> None:
        """Say to who waits why this process cannot go on."""
        self.beside.report(self.token, error)

    def reported(self) -> str:
        """What somebody who works at it has said; empty: nothing."""
        return self.beside.reported(self.token)

    def wait(self, tell: Tell) -> None:
        """Load what others do not, until all is loaded."""
        while (done := self.done()).parts_done < done.parts:
            if not self.work(tell):
                time.sleep(LOOK_EVERY)
                tell(self.done())

    def _load_one(self) -> bool:
        with self.beside.meant(self.token):
            claimed = self.beside.claim()
            if claimed is None:
                return False
            part, roots, first = claimed
            found = Runs(self.using, roots, first)
            for projection in self.by_run:
                batch = Part(found)
                with broken(projection.name, "a rebuild cannot load it"):
                    projection.load(batch)
                self.set_aside(projection, batch.failed)
                self.refuse_too_many(projection)
            self.beside.end(part)
        return True

    def refuse_too_many(self, projection: Projection) -> None:
        """Where so many runs are left out, it is not their fault.

        Raises:
            ProjectionBroken: it is so.
        """
        if (count := self.beside.left_out(projection.name)) > MOST_ASIDE:
            raise ProjectionBroken(
                f"Projection {projection.name!r} raises for more than {MOST_ASIDE} runs or "
                f"records ({count:,}), which is not their fault. What serves is as it was. Mend "
                "it, and rebuild again with --anew."
            )

    def set_aside(self, projection: Projection, failed: dict[str, Failed]) -> None:
        """Leave these runs out, where that was asked for.

        Raises:
            ProjectionBroken: it was not.
        """
        for root, (position, why) in failed.items():
            self.leave_out(projection, f"run {root!r}", describe(why))
            logger.error(
                "bamboo-audit: projection %r is made anew without run %r, whose rows stay: %s",
                *(projection.name, root, describe(why)),
                exc_info=why,
            )
            checkpoints.set_aside(
                *(self.using, projection.name),
                position=position,
                root_pipeline_id=root,
                whole_run=True,
                error=clean_text(describe(why))[: checkpoints.MAX_ERROR],
            )

    def leave_out(self, projection: Projection, what: str, error: str) -> None:
        """Go on without a record or run, where that was asked for.

        Raises:
            ProjectionBroken: it was not.
        """
        if not self.skip_broken:
            raise ProjectionBroken(
                f"Projection {projection.name!r} cannot make rows of {what}: {error}. What serves "
                "is as it was. Mend it, or leave such out with --skip-broken."
            )


def outdated(projections: Iterable[Projection]) -> list[Projection]:
    """Those whose rows were made by an older version, and can be made anew beside them."""
    using = conf.get("DATABASE")
    return [
        each
        for each in projections
        if each.models and 0 < checkpoints.version(using, each.name) < each.version
    ]
