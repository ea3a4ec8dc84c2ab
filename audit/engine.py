"""What is asked of the engine's own tables, through Django's ORM: they may be in any database.

All of it beside the engine's thread. Where the engine is not installed, there are no answers.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.db import models, router

MANY: Final = 500
"""Ids in one question: databases take only so many parameters."""


class Failure(NamedTuple):
    """What the engine keeps of a node's failed execution. ``source``: in which of its tables."""

    text: str
    source: str


class StateRow(NamedTuple):
    """A row of the engine's ``State``, with its names."""

    node_id: str
    root_id: str
    parent_id: str
    name: str
    version: str
    loop: int
    retry: int
    skip: bool
    error_ignored: bool
    created_time: datetime.datetime
    started_time: datetime.datetime | None
    archived_time: datetime.datetime | None


def _model(name: str) -> type[models.Model] | None:
    try:
        return apps.get_model("eri", name)  # not always there
    except LookupError:
        return None


def database() -> str | None:
    """Alias of the database that the engine writes its states to; None without an engine."""
    state = _model("State")
    return None if state is None else router.db_for_write(state)


def roots(ids: Collection[str]) -> dict[str, str]:
    """The runs of nodes, subprocesses among them, as the engine prepared them."""
    node = _model("Node")
    if node is None or not ids:
        return {}
    found = {}
    for node_id, detail in node._default_manager.filter(node_id__in=ids).values_list(
        "node_id", "detail"
    ):
        root = _object(detail).get("root_pipeline_id")
        if isinstance(root, str) and root:
            found[node_id] = root
    return found


def is_here() -> bool:
    """Whether the engine is installed, and its tables can be asked."""
    return _model("State") is not None


def runs_since(since: datetime.datetime) -> set[str]:
    """The runs of which a node was begun since a moment."""
    state = _model("State")
    if state is None:
        return set()
    fresh = state._default_manager.filter(created_time__gte=since).exclude(root_id="")
    return set(fresh.order_by().values_list("root_id", flat=True).distinct())


def root_of(node_id: str) -> str | None:
    """The run of a node, as its state has it; None where there is no such state."""
    state = _model("State")
    if state is None:
        return None
    found = state._default_manager.filter(node_id=node_id).values_list("root_id", flat=True)
    return next((root for root in found if root), None)


def states(root: str, nodes: Collection[str]) -> dict[str, StateRow]:
    """The states of a run, with those of its nodes that the engine knows no run of yet."""
    state = _model("State")
    if state is None:
        return {}
    rows = state._default_manager.order_by("id").values_list(*StateRow._fields)
    found = [StateRow(*row) for row in rows.filter(root_id=root)]
    rest = sorted({*nodes} - {row.node_id for row in found})
    for start in range(0, len(rest), MANY):
        few = rest[start : start + MANY]
        found += [StateRow(*row) for row in rows.filter(node_id__in=few)]
    return {row.node_id: row for row in found}


def failures(wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Failure]:
    """The ``ex_data`` of failed executions, by node and version.

    An execution that was retried meanwhile is in the engine's history; whatever is of another
    version is not answered.
    """
    data, state, history = _model("ExecutionData"), _model("State"), _model("ExecutionHistory")
    if data is None or state is None or history is None or not wanted:
        return {}
    nodes = {node for node, _ in wanted}
    # The data first: a retry between the two reads has moved the version on.
    outputs = dict(
        data._default_manager.filter(node_id__in=nodes, outputs_serializer="json").values_list(
            "node_id", "outputs"
        )
    )
    versions = dict(
        state._default_manager.filter(node_id__in=nodes).values_list("node_id", "version")
    )
    found = {}
    for node, version in wanted:
        if versions.get(node) == version and (text := _ex_data(outputs.get(node))):
            found[node, version] = Failure(text, "ExecutionData")
    earlier = [pair for pair in wanted if versions.get(pair[0]) != pair[1]]
    if earlier:
        rows = history._default_manager.filter(
            node_id__in={node for node, _ in earlier},
            version__in={version for _, version in earlier},
            outputs_serializer="json",
        ).values_list("node_id", "version", "outputs")
        for node, version, kept in rows:
            if text := _ex_data(kept):
                found[node, version] = Failure(text, "ExecutionHistory")
    return found


def _ex_data(outputs: str | None) -> str:
    """The error text among a node's outputs; "" where there is none."""
    said = _object(outputs).get("ex_data")
    if said is None or said == "":
        return ""
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
