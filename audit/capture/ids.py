"""Which run, pipeline and node an event is about: from its payload, else from trees seen.

Only the engine's worker events name their run. An operator's event has a node or a pipeline,
which may be a subprocess, and no run; the tree in pre_prepare_run_pipeline holds every id that
the run will ever send, and node ids are globally unique.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from audit.capture.text import clean_text

MAX_ID: Final = 255
"""Longer ids are cut in their columns (a B-tree takes 2,704 bytes at most); data has them whole."""
MAX_KNOWN: Final = 50_000
"""Nodes remembered per process, about 12 MB; the oldest are forgotten first."""
_MAX_WORKERS: Final = 2_000
"""Nodes whose events are remembered as they were encoded, some 700 bytes each."""


class Ids(NamedTuple):
    """The id columns of a record; "" is unknown or does not apply."""

    root_pipeline_id: str = ""
    pipeline_id: str = ""
    node_id: str = ""
    node_version: str = ""


class WorkerIds(Ids):
    """Of an event whose payload is nothing but its run and its node, as most of a worker's are.

    One for each node, and what was made of its payload is kept with it.
    """

    columns: tuple[object, bytes] | None = None
    """Which secrets it was searched for, and the columns that are the same for all its events."""


class Place(NamedTuple):
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

        self._workers: dict[str, WorkerIds] = {}
        self.find: Callable[[Any], Place | None] = self._places.get
        """Where a node stands; None where that was not learnt, or is not an id."""
        self.worker: Callable[[Any], WorkerIds | None] = self._workers.get
        """The ids of a node's events, once there was one."""

    def learn(self, places: Mapping[str, Place]) -> None:
        with self._lock:
            self._places.update(places)
            for node_id in places:
                self._workers.pop(node_id, None)
            if len(self._places) > MAX_KNOWN:
                # Many at once: a dict walks over every hole that deleting left at its front.
                room = MAX_KNOWN - MAX_KNOWN // 50
                for node_id in list(islice(self._places, len(self._places) - room)):
                    self._places.pop(node_id, None)

    def works(self, node_id: str, root: str) -> WorkerIds | None:
        """A node's first event came; all that follow have the same ids, until more is learnt.

        None where the node is known to be another run's.
        """
        with self._lock:
            place = self._places.get(node_id) or Place(root, "")
            if place.root != root:
                return None
            if len(self._workers) >= _MAX_WORKERS:
                self._workers.clear()
            found = self._workers[node_id] = WorkerIds(root, place.parent, node_id)
            return found

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
                members = nodes.items() if isinstance(nodes, Mapping) else ()
                for key, node in islice(members, MAX_KNOWN):  # it may have no end
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
    if type(value) is str and value.isascii() and value.isprintable() and len(value) <= MAX_ID:
        return value
    if isinstance(value, str):
        return clean_text(value)[:MAX_ID]
    return ""


def of_pipeline_event(event_type: str, data: Any) -> Ids:
    """The ids of a ``pipeline_event``, under the engine's keys or those of its documentation."""
    # Asking an ABC takes longer than all the rest of this for a worker's event.
    if type(data) is not dict and not isinstance(data, Mapping):
        return Ids()
    get = data.get
    if type(data) is dict and len(data) == 2:
        root, node = get("root_pipeline_id"), get("node_id")
        if type(root) is str and type(node) is str:  # by type: others may claim to equal one
            worker = known_nodes.worker(node)
            if worker is not None and worker[0] == root:
                return worker
            if node and text_id(node) is node and root and text_id(root) is root:
                worker = known_nodes.works(node, root)
                if worker is not None:
                    return worker
    if (node := get("node_id", "")) != "":
        node = text_id(node)
    if (root := get("root_pipeline_id", "")) != "":
        root = text_id(root)
    if (pipeline := get("pipeline_id", "")) != "":
        pipeline = text_id(pipeline)
    if (tree := get("pipeline")) is not None:
        if isinstance(tree, Mapping):
            pipeline = pipeline or text_id(tree.get("id"))
            if event_type.endswith("_prepare_run_pipeline"):
                root = root or pipeline
                # post_ carries the same tree again; a process that saw pre_ knows it already.
                if known_nodes.find(root) is None or event_type.startswith("pre_"):
                    known_nodes.learn_tree(tree)
        else:
            pipeline = pipeline or text_id(tree)
    if event_type == "pipeline_finish":
        root = root or pipeline
    place = known_nodes.find(node or pipeline)
    if place is not None:
        root = root or place.root
        if node:
            pipeline = pipeline or place.parent
    version = ""
    if (said := get("version")) or (said := get("new_version")):
        version = text_id(said)
    return Ids(root, pipeline, node, version)


def of_state_change(data: Mapping[str, Any], *, from_engine: bool) -> Ids:
    """The ids of a ``post_set_state``.

    The tree goes before ``root_id``, which is "" for a node that was paused before it was
    reached. Senders other than the engine are not learnt from.
    """
    node: Any = data.get("node_id")
    place = known_nodes.find(node) if type(node) is str else None
    if place is None:
        node = text_id(node)
        place = known_nodes.find(node)
    if place is not None:
        root, parent = place
    else:
        root, parent = text_id(data.get("root_id")), text_id(data.get("parent_id"))
        if from_engine and node and root:
            known_nodes.learn({node: Place(root, parent)})
    return Ids(root, parent or (node if root == node else ""), node, text_id(data.get("version")))
