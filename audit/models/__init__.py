"""The tables, as Django models."""

from __future__ import annotations

from audit.models.projections import ProjectionCheckpoint, RecordSetAside
from audit.models.records import PipelineEventRecord
from audit.models.timelines import NodeTimeline, PipelineTimeline, StateTransition
from audit.models.writers import SpoolWriter

__all__ = [
    "NodeTimeline",
    "PipelineEventRecord",
    "PipelineTimeline",
    "ProjectionCheckpoint",
    "RecordSetAside",
    "SpoolWriter",
    "StateTransition",
]
