"""What a pipeline tree says of its nodes: names, types, components, flows and subprocesses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_EVENTS: Final = ("start_event", "end_event")
_GROUPS: Final = ("activities", "gateways")
SUBPROCESSES: Final = frozenset({"SubProcess", "SubCanvas"})
PIPELINE: Final = "Pipeline"
CONVERGE: Final = "ConvergeGateway"
MAX_ID: Final = 255
"""The longest id that records have (``audit.capture.ids``)."""
FORKS: Final = frozenset({"ParallelGateway", "ConditionalParallelGateway"})


class Place(NamedTuple):
    """A node of a run, by its tree. Where no tree was recorded all but the ids is empty."""

    node_id: str
    root_pipeline_id: str
    parent_id: str = ""
    name: str = ""
    node_type: str = ""
    component_code: str = ""
    template_node_id: str = ""
    loops: bool = False
    """Whether the node repeats itself (``loop_config``)."""
    sources: tuple[str, ...] = ()
    """Nodes whose flows lead here."""


def read(tree: Any) -> dict[str, Place]:
    """The places of a run's nodes, the run's own first; nothing where that is no tree.

    Takes whole trees and outlines, and any shape of either: what cannot be read is left out.
    """
    if not isinstance(tree, dict) or not (root := _id(tree.get("id"))):
        return {}
    found = {root: Place(root, root, "", _text(tree.get("name")), PIPELINE)}
    pending = deque([(tree, root)])
    while pending:  # not by recursion: subprocesses may be nested as deep as they like
        pipeline, parent = pending.popleft()
        sources = _sources(pipeline)
        for node in _nodes(pipeline):
            node_id = _id(node.get("id"))
            if not node_id or node_id in found:
                continue
            found[node_id] = _place(node, node_id, root, parent, sources)
            inner = node.get("pipeline")
            if isinstance(inner, dict):
                pending.append((inner, node_id))
    return found


def _place(
    node: dict[str, Any], node_id: str, root: str, parent: str, sources: dict[str, list[str]]
) -> Place:
    get = node.get
    name, kind, template = get("name"), get("type"), get("template_node_id")
    component, loop, leading = get("component"), get("loop_config"), sources.get(node_id)
    fields = (
        node_id,
        root,
        parent,
        name if type(name) is str else "",
        kind if type(kind) is str else "",
        _text(component.get("code")) if type(component) is dict else "",
        template if type(template) is str else "",
        type(loop) is dict and bool(loop.get("enable")),
        tuple(leading) if leading else (),
    )
    return tuple.__new__(Place, fields)


def _sources(pipeline: dict[str, Any]) -> dict[str, list[str]]:
    """Which nodes lead to which, in one pipeline."""
    found: dict[str, list[str]] = {}
    flows = pipeline.get("flows")
    for flow in flows.values() if isinstance(flows, dict) else ():
        if isinstance(flow, dict):
            found.setdefault(_text(flow.get("target")), []).append(_text(flow.get("source")))
    return found


def _nodes(pipeline: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in _EVENTS:
        node = pipeline.get(name)
        if isinstance(node, dict):
            yield node
    for name in _GROUPS:
        group = pipeline.get(name)
        for node in group.values() if isinstance(group, dict) else ():
            if isinstance(node, dict):
                yield node


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _id(value: Any) -> str:
    """An id as the log's columns take them; no node of the engine has a longer one."""
    found = _text(value)
    return found if len(found) <= MAX_ID else ""
