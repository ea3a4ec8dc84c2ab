"""The projection of the timelines: runs, nodes and transitions, caught up with the log."""

from __future__ import annotations

from typing import ClassVar, Final

from audit.log import timelines
from audit.projections import rows
from audit.projections.base import Projection
from audit.projections.batch import Batch

MOST_BYTES: Final = 4 * 2**20
"""Rows that are written at once, as JSON: the database takes 256 MB."""


class Timelines(Projection):
    """``PipelineTimeline``, ``NodeTimeline`` and ``StateTransition``."""

    name: ClassVar[str] = "timelines"
    version: ClassVar[int] = 2
    """2: a worker that ended while its node was forced to fail is no skip."""

    def apply(self, batch: Batch) -> None:
        written = timelines.Rows()
        for run in batch.timelines():
            with batch.leaving_out(run.root_pipeline_id):
                written.add(
                    run.root_pipeline_id,
                    rows.of_run(run, batch.gaps(run)),
                    rows.of_nodes(run),
                    rows.of_transitions(run),
                )
            if written.size > MOST_BYTES:
                timelines.write(batch.using, written)
                written = timelines.Rows()
        timelines.write(batch.using, written)

    def reset(self) -> None:
        timelines.clear(self.using)
