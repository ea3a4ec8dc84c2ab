"""What a pipeline tree says of its nodes: names, types, components, flows and subprocesses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_EVENTS: Final = ("start_event", "end_event")
_GROUPS: Final = ("activities", "gateways")
SUBPROCESSES: Final = frozenset({"SubProcess", "SubCanvas"})
PIPELINE: Final = "Pipeline"
CONVERGE: Final = "ConvergeGateway"
FORKS: Final = frozenset({"ParallelGateway", "ConditionalParallelGateway"})


@dataclass(frozen=True, slots=True)
class Place:
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
    targets: tuple[str, ...] = ()


def read(tree: Any) -> dict[str, Place]:
    """The places of a run's nodes, the run's own first; nothing where that is no tree.

    Takes whole trees and outlines, and any shape of either: what cannot be read is left out.
    """
    if not isinstance(tree, Mapping) or not (root := _text(tree.get("id"))):
        return {}
    found = {root: Place(root, root, "", _text(tree.get("name")), PIPELINE)}
    pending = deque([(tree, root)])
    while pending:  # not by recursion: subprocesses may be nested as deep as they like
        pipeline, parent = pending.popleft()
        flows = _Flows(pipeline)
        for node in _nodes(pipeline):
            node_id = _text(node.get("id"))
            if not node_id or node_id in found:
                continue
            found[node_id] = _place(node, node_id, root, parent, flows)
            inner = node.get("pipeline")
            if isinstance(inner, Mapping):
                pending.append((inner, node_id))
    return found


def _place(node: Mapping[str, Any], node_id: str, root: str, parent: str, flows: _Flows) -> Place:
    component = node.get("component")
    return Place(
        node_id=node_id,
        root_pipeline_id=root,
        parent_id=parent,
        name=_text(node.get("name")),
        node_type=_text(node.get("type")),
        component_code=_text(component.get("code")) if isinstance(component, Mapping) else "",
        template_node_id=_text(node.get("template_node_id")),
        loops=_loops(node),
        sources=tuple(flows.sources.get(node_id, ())),
        targets=tuple(flows.targets.get(node_id, ())),
    )


def _loops(node: Mapping[str, Any]) -> bool:
    config = node.get("loop_config")
    return isinstance(config, Mapping) and bool(config.get("enable"))


class _Flows:
    """Which node leads to which, in one pipeline."""

    def __init__(self, pipeline: Mapping[str, Any]) -> None:
        self.sources: dict[str, list[str]] = {}
        self.targets: dict[str, list[str]] = {}
        flows = pipeline.get("flows")
        for flow in flows.values() if isinstance(flows, Mapping) else ():
            if isinstance(flow, Mapping):
                source, target = _text(flow.get("source")), _text(flow.get("target"))
                self.sources.setdefault(target, []).append(source)
                self.targets.setdefault(source, []).append(target)


def _nodes(pipeline: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in _EVENTS:
        node = pipeline.get(name)
        if isinstance(node, Mapping):
            yield node
    for name in _GROUPS:
        group = pipeline.get(name)
        for node in group.values() if isinstance(group, Mapping) else ():
            if isinstance(node, Mapping):
                yield node


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
