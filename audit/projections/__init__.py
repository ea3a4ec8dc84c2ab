"""Projections: what is made of the log, with a checkpoint, and can be made again."""

from __future__ import annotations

from audit.projections.base import Projection, RunProjection
from audit.projections.batch import Batch

__all__ = ["Batch", "Projection", "RunProjection"]
