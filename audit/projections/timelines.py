"""The projection of the timelines: runs, nodes and transitions, caught up with the log."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from audit.fold.clock import as_time
from audit.log import timelines
from audit.log.timelines import Part
from audit.projections import rows
from audit.projections.base import RunProjection
from audit.projections.batch import Batch


class Timelines(RunProjection):
    """``PipelineTimeline``, ``NodeTimeline`` and ``StateTransition``."""

    name: ClassVar[str] = "timelines"
    version: ClassVar[int] = 2
    """2: a worker that ended while its node was forced to fail is no skip."""
    models: ClassVar[Collection[str]] = (
        "bamboo_audit.PipelineTimeline",
        "bamboo_audit.NodeTimeline",
        "bamboo_audit.StateTransition",
    )
    keyless: ClassVar[bool] = True

    def apply(self, batch: Batch) -> None:
        """The rows of many runs at once."""
        _write(batch, timelines.Rows(batch.using))

    def load(self, batch: Batch) -> None:
        """The same into tables without keys, which are made when all is there."""
        _write(batch, timelines.Load(batch.using))

    def loaded(self) -> None:
        timelines.make_keys(self.using)

    def reset(self) -> None:
        timelines.clear(self.using)


def _write(batch: Batch, written: timelines.Rows | timelines.Load) -> None:
    for run in batch.timelines():
        with batch.leaving_out(run.root_pipeline_id):
            news = batch.news(run)
            written.add(
                run.root_pipeline_id,
                rows.of_run(run, batch.gaps(run), news.memo),
                rows.of_nodes(run, news.nodes),
                rows.of_transitions(run, news.nodes, news.since),
                None if news.nodes is None else Part(news.nodes, as_time(news.since)),
            )
        if written.is_full:
            written.write()
    written.write()
