"""The rows of the timelines, comparable."""

from __future__ import annotations

import json

from audit.models import NodeTimeline, PipelineTimeline, StateTransition

TABLES = (PipelineTimeline, NodeTimeline, StateTransition)
POSITIONS = {"first_position", "last_position", "cause"}
"""Columns that depend on the order in which records were stored."""


def rows(mark: str, *, positions: bool = True) -> dict[str, list[str]]:
    """All rows of marked runs, comparable between marks."""
    found = {}
    for model in TABLES:
        values = model.objects.filter(root_pipeline_id__startswith=mark).values()
        found[model.__name__] = sorted(
            json.dumps(
                {
                    key: None if key == "writers" else value
                    for key, value in row.items()
                    if positions or key not in POSITIONS
                },
                default=str,
                sort_keys=True,
            ).replace(mark, "")
            for row in values
        )
    return found
