"""The base of all projections: the timelines', and a host's own."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import ClassVar

from django.apps import apps
from django.db.models import Model

from audit import conf
from audit.fold import RunTimeline
from audit.projections.batch import Batch
from audit.projections.faults import whole
from audit.projections.folds import Folds


class Projection:
    """What is made of the log in tables, and can be made again.

    Name it in ``BAMBOO_AUDIT["PROJECTIONS"]``. ``audit_replay`` hands each record to it once, in
    batches by position; what it writes to the log's database is committed together with how far
    it is, so it neither misses nor repeats one, whatever breaks in between.
    """

    name: ClassVar[str] = ""
    """Short and unique: its checkpoint is kept under it."""
    version: ClassVar[int] = 1
    """Raise it when ``apply`` makes other rows of the same records: then it begins anew."""
    event_types: ClassVar[Collection[str] | None] = None
    """Those that it wants as ``batch.records``; None: all."""
    models: ClassVar[Collection[type[Model] | str]] = ()
    """The tables that it writes to, and nobody else: models, or their labels (``"shop.Plugin"``).
    A rebuild makes them anew beside those that serve; without them, a new version begins with
    empty tables."""
    keyless: ClassVar[bool] = False
    """Whether ``load`` wants tables without keys."""

    @property
    def using(self) -> str:
        """The alias of the log's database: write there, and nowhere else."""
        return str(conf.get("DATABASE"))

    @cached_property
    def folds(self) -> Folds:
        """Of long runs, from batch to batch."""
        return Folds()

    def tables(self) -> list[type[Model]]:
        """Its ``models``, looked up.

        Raises:
            LookupError: there is no model of that label.
        """
        return [apps.get_model(each) if isinstance(each, str) else each for each in self.models]

    def apply(self, batch: Batch) -> None:
        """Write what follows from some records.

        Called in a transaction on the log's database. If it raises, what it wrote is taken back;
        a record that it raises for alone is set aside, with the error, and it goes on.
        """
        raise NotImplementedError(f"{type(self).__name__} has no apply().")

    def reset(self) -> None:
        """Delete all that it ever wrote, in the transaction in which it begins anew."""
        raise NotImplementedError(f"{type(self).__name__} has no reset().")

    def load(self, batch: Batch) -> None:
        """As ``apply``, where a rebuild knows that nothing of these runs is in the tables yet."""
        self.apply(batch)

    def loaded(self) -> None:
        """Called when a rebuild has loaded all."""


class RunProjection(Projection):
    """A projection whose rows follow from the timeline of one run each.

    The order of records and batches makes no difference to it. A run that ``apply_run`` raises
    for is set aside, and its rows stay as they were.
    """

    def apply(self, batch: Batch) -> None:
        for run in batch.timelines():
            with batch.leaving_out(run.root_pipeline_id), whole(batch.using):
                self.apply_run(run)

    def apply_run(self, run: RunTimeline) -> None:
        """Replace all rows that were made of this run by those that follow from it now."""
        raise NotImplementedError(f"{type(self).__name__} has no apply_run().")
