"""A projection of the shop's own: how often plugins fail, and how long they take."""

from __future__ import annotations

from collections.abc import Iterator

from audit.fold import RunTimeline
from audit.projections import RunProjection

from .models import AttemptTime


class AttemptTimes(RunProjection):
    name = "attempt_times"
    models = (AttemptTime,)

    def apply_run(self, run: RunTimeline) -> None:
        table = AttemptTime.objects.using(self.using)
        table.filter(root_pipeline_id=run.root_pipeline_id).delete()
        table.bulk_create(attempts_of(run))

    def reset(self) -> None:
        AttemptTime.objects.using(self.using).all().delete()


def attempts_of(run: RunTimeline) -> Iterator[AttemptTime]:
    for node in run.nodes.values():
        for attempt in node.attempts:
            if node.place.component_code and attempt.ended_at is not None:
                yield AttemptTime(
                    root_pipeline_id=run.root_pipeline_id,
                    component=node.place.component_code,
                    day=attempt.started_at.date(),
                    seconds=(attempt.ended_at - attempt.started_at).total_seconds(),
                    failed=attempt.state == "FAILED" or attempt.error_ignored,
                )
