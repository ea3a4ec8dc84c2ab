"""Which run, pipeline and node an event is about: from its payload, else from trees seen.

Only the engine's worker events name their run. An operator's event has a node or a pipeline,
which may be a subprocess, and no run; the tree in pre_prepare_run_pipeline holds every id that
the run will ever send, and node ids are globally unique.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from audit.capture.text import clean_text

MAX_ID: Final = 255
"""Longer ids are cut in their columns (a B-tree takes 2,704 bytes at most); data has them whole."""
MAX_KNOWN: Final = 50_000
"""Nodes remembered per process, about 12 MB; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """The id columns of a record; "" is unknown or does not apply."""

    root_pipeline_id: str = ""
    pipeline_id: str = ""
    node_id: str = ""
    node_version: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands: its run and the pipeline right around it."""

    root: str
    parent: str


class KnownNodes:
    """A bounded memory of where nodes stand, learnt from trees and state changes."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._places: dict[str, Place] = {}
        # Reentrant: a signal handler may send an event while its own thread is in here.
        self._lock = threading.RLock()

    def find(self, node_id: str) -> Place | None:
        return self._places.get(node_id)

    def learn(self, places: Mapping[str, Place]) -> None:
        with self._lock:
            self._places.update(places)
            if len(self._places) > MAX_KNOWN:
                # Many at once: a dict walks over every hole that deleting left at its front.
                room = MAX_KNOWN - MAX_KNOWN // 50
                for node_id in list(islice(self._places, len(self._places) - room)):
                    self._places.pop(node_id, None)

    def learn_tree(self, tree: Mapping[str, Any]) -> None:
        """Learn every node of a pipeline tree; subprocesses are activities with a tree inside."""
        root = text_id(tree.get("id"))
        if not root:
            return
        places = {root: Place(root, "")}
        pending: list[tuple[str, Mapping[str, Any]]] = [(root, tree)]
        while pending and len(places) <= MAX_KNOWN:
            pipeline, inner = pending.pop()
            here = Place(root, pipeline)
            for event in ("start_event", "end_event"):
                node = inner.get(event)
                if isinstance(node, Mapping) and (node_id := text_id(node.get("id"))):
                    places[node_id] = here
            for group in ("activities", "gateways"):
                nodes = inner.get(group)
                for key, node in nodes.items() if isinstance(nodes, Mapping) else ():
                    node_id = text_id(key)
                    if not node_id or node_id in places:  # no id, or a tree inside itself
                        continue
                    places[node_id] = here
                    below = node.get("pipeline") if isinstance(node, Mapping) else None
                    if isinstance(below, Mapping):
                        pending.append((node_id, below))
        self.learn(places)


known_nodes: Final = KnownNodes()
# A lock that another thread held at the fork would never be released in the child.
os.register_at_fork(after_in_child=known_nodes._reset)


def text_id(value: Any) -> str:
    """``value`` as it goes into an id column: text, whole or cut, never refused."""
    if isinstance(value, str):
        return clean_text(value)[:MAX_ID]
    return ""


def of_pipeline_event(event_type: str, data: Any) -> Ids:
    """The ids of a ``pipeline_event``, under the engine's keys or those of its documentation."""
    if not isinstance(data, Mapping):
        return Ids()
    node = text_id(data.get("node_id"))
    root = text_id(data.get("root_pipeline_id"))
    pipeline = text_id(data.get("pipeline_id"))
    tree = data.get("pipeline")
    if isinstance(tree, Mapping):
        pipeline = pipeline or text_id(tree.get("id"))
        if event_type.endswith("_prepare_run_pipeline"):
            root = root or pipeline
            # post_ carries the same tree again; a process that saw pre_ knows it already.
            if known_nodes.find(root) is None or event_type.startswith("pre_"):
                known_nodes.learn_tree(tree)
    elif tree is not None:
        pipeline = pipeline or text_id(tree)
    if event_type == "pipeline_finish":
        root = root or pipeline
    place = known_nodes.find(node or pipeline)
    if place is not None:
        root = root or place.root
        if node:
            pipeline = pipeline or place.parent
    return Ids(
        root_pipeline_id=root,
        pipeline_id=pipeline,
        node_id=node,
        node_version=text_id(data.get("version")) or text_id(data.get("new_version")),
    )


def of_state_change(data: Mapping[str, Any], *, from_engine: bool) -> Ids:
    """The ids of a ``post_set_state``.

    The tree goes before ``root_id``, which is "" for a node that was paused before it was
    reached. Senders other than the engine are not learnt from.
    """
    node = text_id(data.get("node_id"))
    root, parent = text_id(data.get("root_id")), text_id(data.get("parent_id"))
    place = known_nodes.find(node)
    if place is not None:
        root, parent = place.root, place.parent
    elif from_engine and node and root:
        known_nodes.learn({node: Place(root, parent)})
    return Ids(
        root_pipeline_id=root,
        pipeline_id=parent or (node if root == node else ""),
        node_id=node,
        node_version=text_id(data.get("version")),
    )
