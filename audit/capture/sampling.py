"""Polls that are not recorded: ``POLL_SAMPLING`` keeps one in so many seconds and counts the rest.

A node that polls every two seconds for a day sends 86,400 events that say nothing new. Of one
node, a process records the first poll of an attempt and then one in each interval; the next
record of that node, whatever its type, carries how many were not. What no record carries in time
becomes a record of its own (``polls_suppressed``).

Processes know nothing of each other: where several serve one node, each samples what it sees.
"""

from __future__ import annotations

import datetime
import math
import os
import threading
import time
from itertools import islice
from typing import Any, Final, NamedTuple

from audit.capture.ids import Ids

MAX_NODES: Final = 10_000
"""Nodes remembered per process; the oldest are forgotten first, their counts are not."""

_PRE: Final = "pre_schedule"
_POST: Final = "post_schedule"
_CALLBACKS: Final = frozenset({"pre_callback", "post_callback"})
_BEGINS: Final = frozenset({"node_enter", "pre_execute"})
_STATE: Final = "post_set_state"
_OVERFLOW: Final = Ids()
"""Whose the counts are of nodes that were forgotten."""


class Suppressed(NamedTuple):
    """Polls of a node that were not recorded, and since when (seconds; and as ISO 8601)."""

    ids: Ids
    pre: int
    post: int
    began: float
    since: str

    def as_context(self) -> dict[str, Any]:
        return {_PRE: self.pre, _POST: self.post, "since": self.since}

    def as_data(self) -> dict[str, Any]:
        """As the data of a ``polls_suppressed`` record."""
        return {
            "root_pipeline_id": self.ids.root_pipeline_id,
            "node_id": self.ids.node_id,
            **self.as_context(),
        }

    def with_more(self, pre: int, post: int) -> Suppressed:
        return self._replace(pre=self.pre + pre, post=self.post + post)


class _Node:
    """The polls of one node in this process."""

    __slots__ = ("by_callback", "recorded_at", "skipping")

    def __init__(self) -> None:
        self.recorded_at = -math.inf
        self.skipping = False
        """Whether its latest pre_schedule was not recorded, so that its post_ is not either."""
        self.by_callback = False


class Polls:
    """What this process saw of polls; a forked child has seen none."""

    def __init__(self) -> None:
        self.waiting: dict[str, Suppressed] = {}
        """Counts that no record carries yet, by node."""
        self._nodes: dict[str, _Node] = {}
        self._begin()

    def _begin(self) -> None:
        # Reentrant: a signal handler may send an event while its own thread is in here.
        self._lock = threading.RLock()
        self.waiting.clear()
        self._nodes.clear()
        self._interval = 0.0
        self._due_at = math.inf

    def skips(self, event_type: str, data: Any, ids: Ids, interval: float | None) -> bool:
        """Whether an event is a poll that is not recorded; it is counted then.

        A callback looks like a poll. Once a callback of a node was seen here, none of that
        node is skipped; one that came to another process cannot be told from a poll.
        """
        node_id = ids.node_id
        if not node_id:
            return False
        if event_type == _PRE:
            return self._skips_pre(ids, interval or 0.0)
        if event_type == _POST:
            node = self._nodes.get(node_id)
            if node is None or not node.skipping:
                return False
            with self._lock:
                self._count(ids, 0, 1)
            return True
        if event_type in _CALLBACKS:
            with self._lock:
                self._node(node_id).by_callback = True
        elif node_id in self._nodes and (
            event_type in _BEGINS
            or (event_type == _STATE and type(data) is dict and data.get("to_state") == "RUNNING")
        ):
            with self._lock:
                if (node := self._nodes.get(node_id)) is not None:
                    node.recorded_at = -math.inf
        return False

    def _skips_pre(self, ids: Ids, interval: float) -> bool:
        with self._lock:
            self._interval = interval
            node = self._node(ids.node_id)
            now = time.monotonic()
            node.skipping = not node.by_callback and now - node.recorded_at < interval
            if node.skipping:
                self._count(ids, 1, 0)
            else:
                node.recorded_at = now
            return node.skipping

    def take(self, node_id: str) -> Suppressed | None:
        """What the next record of a node carries; from now on it is the caller's."""
        if node_id not in self.waiting or not node_id:  # without the lock: nearly always
            return None
        with self._lock:
            return self.waiting.pop(node_id, None)

    def give_back(self, counts: Suppressed) -> None:
        """Take back what could not be told."""
        with self._lock:
            self._add(counts)

    def is_due(self) -> bool:
        """Whether some counts have waited for an interval, at the price of a comparison."""
        return self._due_at <= time.monotonic()

    def leftovers(self, now: float, most: int | None = None) -> list[Suppressed]:
        """Counts older than the interval at ``now`` (``time.monotonic()``; infinity: all of them).

        Their node polls no more, or finished in another process. They are the caller's, who
        records each as ``polls_suppressed``, or gives it back.
        """
        with self._lock:
            old = [
                node_id
                for node_id, counts in self.waiting.items()
                if counts.began + self._interval <= now
            ][:most]
            found = [self.waiting.pop(node_id) for node_id in old]
            self._due_at = self._interval + min(
                (counts.began for counts in self.waiting.values()), default=math.inf
            )
            if len(old) != most:
                self._tidy()
            return found

    def _tidy(self) -> None:
        """Forget nodes whose next poll would be recorded anyway."""
        now = time.monotonic()
        for node_id, node in list(self._nodes.items()):
            needed = node.by_callback or node.skipping
            if not needed and node.recorded_at + self._interval <= now:
                del self._nodes[node_id]

    def put_off(self) -> None:
        """Telling failed: it is tried again after another interval, not with every event."""
        self._due_at = time.monotonic() + self._interval

    def _node(self, node_id: str) -> _Node:
        node = self._nodes.get(node_id)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                self._forget(MAX_NODES // 50)
            node = self._nodes[node_id] = _Node()
        return node

    def _forget(self, number: int) -> None:
        # Many at once: a dict walks over every hole that deleting left at its front.
        for node_id in list(islice(self._nodes, number)):
            del self._nodes[node_id]
            if (counts := self.waiting.pop(node_id, None)) is not None:
                self._add(counts._replace(ids=_OVERFLOW))

    def _count(self, ids: Ids, pre: int, post: int) -> None:
        before = self.waiting.get(ids.node_id)
        if before is not None:
            self.waiting[ids.node_id] = before.with_more(pre, post)
        else:
            since = datetime.datetime.now(datetime.UTC).isoformat()
            self._add(Suppressed(ids, pre, post, time.monotonic(), since))

    def _add(self, counts: Suppressed) -> None:
        before = self.waiting.get(counts.ids.node_id, counts)
        if before is not counts:
            first, second = (before, counts) if before.began <= counts.began else (counts, before)
            counts = first.with_more(second.pre, second.post)
        self.waiting[counts.ids.node_id] = counts
        self._due_at = min(self._due_at, counts.began + self._interval)


polls: Final = Polls()
os.register_at_fork(after_in_child=polls._begin)
