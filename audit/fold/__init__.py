"""The fold: a run's records to its timeline. Pure: no Django, no database, no clock."""

from __future__ import annotations

from collections.abc import Iterable

from audit.events import POST_SET_STATE
from audit.fold.inference import Inference
from audit.fold.record import Record, in_order
from audit.fold.results import RunTimeline
from audit.fold.run import ENGINE_SENDER, RunBuilder

__all__ = ["ENGINE_SENDER", "Record", "RunTimeline", "fold", "is_state_change"]


def fold(root_pipeline_id: str, records: Iterable[Record]) -> RunTimeline | None:
    """The timeline of a run from its records, in whatever order and however often they come.

    None where there is no record.
    """
    ordered = in_order(records)
    if not ordered:
        return None
    run = RunBuilder(root_pipeline_id)
    if not any(map(is_state_change, ordered)):
        run.inference = Inference(run, ordered)
    run.apply(ordered)
    return run.result()


def is_state_change(record: Record) -> bool:
    """Whether it tells of a change that the engine made."""
    return record.event_type == POST_SET_STATE and record.context.get("sender") == ENGINE_SENDER
