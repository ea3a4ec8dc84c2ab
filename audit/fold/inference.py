"""States from ``pipeline_event`` alone, for runs whose changes of state were not recorded.

What the events do not say stays unknown: that a gateway or a subprocess failed, that a node
reached its rerun limit, that an end was reached of a subprocess that was paused in that moment, and
all versions but those of callbacks and forced fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from audit.events import PRE_PREPARE
from audit.fold.node import NodeBuilder
from audit.fold.operations import EFFECTS, FORCED_FAIL
from audit.fold.record import Record
from audit.fold.states import FAILED, FINISHED, READY, RUNNING
from audit.fold.tree import FORKS, SUBPROCESSES

if TYPE_CHECKING:
    from audit.fold.run import RunBuilder

_TO_READY: Final = ("retry_node", "retry_subprocess")


class Inference:
    """Tells a run's nodes what happened to them, as post_set_state would."""

    def __init__(self, run: RunBuilder, ordered: Sequence[Record]) -> None:
        self._run = run
        self._began = any(record.event_type != PRE_PREPARE for record in ordered)
        self._done = _done(ordered)
        self._handlers: dict[str, Callable[[Record], None]] = {
            PRE_PREPARE: self._prepares,
            "node_enter": self._enters,
            "pre_execute": self._executes,
            "node_finish": self._finishes,
            "node_execute_fail": self._fails,
            "node_schedule_fail": self._fails,
            "pipeline_finish": self._pipeline_finishes,
            "pre_callback": self._is_called_back,
        }
        for kind, states in EFFECTS.items():
            if states and kind != FORCED_FAIL:
                state = READY if kind in _TO_READY else next(iter(states))
                self._handlers[f"pre_{kind}"] = self._operation(state)

    def apply(self, record: Record) -> None:
        """The next record."""
        handler = self._handlers.get(record.event_type)
        if handler is not None:
            handler(record)

    def _prepares(self, record: Record) -> None:
        if self._began:  # it is asked for before anything is done
            self._run.change(self._run.node(self._run.root), record, RUNNING)

    def _enters(self, record: Record) -> None:
        self._enter(self._run.node(record.node_id), record)

    def _executes(self, record: Record) -> None:
        node = self._run.node(record.node_id)
        if node.state != RUNNING:  # its node_enter was not recorded
            self._enter(node, record)

    def _enter(self, node: NodeBuilder, record: Record) -> None:
        """A node begins, and before it the gateways that forked to it: they send nothing."""
        if node.state == RUNNING:
            if not node.place.loops or record.event_type != "node_enter":
                return  # told again by a task that was sent again
            self._run.change(node, record, FINISHED)
        loop = node.loop + 1 if node.state == FINISHED else node.loop
        for source in node.place.sources:
            place = self._run.places.get(source)
            if place is not None and place.node_type in FORKS:
                fork = self._run.node(source)
                if fork.state != FINISHED or fork.loop < loop:
                    self._enter(fork, record)
                    self._run.change(fork, record, FINISHED)
        self._run.change(node, record, RUNNING, loop=loop)

    def _finishes(self, record: Record) -> None:
        node = self._run.node(record.node_id)
        kind = node.place.node_type
        if kind in SUBPROCESSES:  # for those it means that they were entered
            self._enter(node, record)
            return
        if node.state != RUNNING:
            self._enter(node, record)
        self._run.change(node, record, FINISHED)
        parent = node.place.parent_id
        if kind.endswith("EndEvent") and parent and parent != self._run.root:
            self._run.change(self._run.node(parent), record, FINISHED)

    def _fails(self, record: Record) -> None:
        self._run.change(self._run.node(record.node_id), record, FAILED)

    def _pipeline_finishes(self, record: Record) -> None:
        self._run.change(self._run.node(self._run.root), record, FINISHED)

    def _is_called_back(self, record: Record) -> None:
        if record.node_version:
            self._run.node(record.node_id).version = record.node_version

    def _operation(self, state: str) -> Callable[[Record], None]:
        def handle(record: Record) -> None:
            if (record.writer_id, record.writer_position) not in self._done:
                return
            node = self._run.node(record.pipeline_or_node)
            if record.event_type.startswith(("pre_retry", "pre_skip")) and node.state != FAILED:
                self._run.change(node, record, FAILED)  # of which no event tells
            self._run.change(node, record, state)

        return handle


def _done(ordered: Sequence[Record]) -> set[tuple[str, int]]:
    """Those pre_ events of operations that a post_ event followed.

    A worker's events may come in between: what was done holds from the first on.
    """
    waiting: dict[tuple[str, str], list[Record]] = {}
    found = set()
    for record in ordered:
        prefix, _, kind = record.event_type.partition("_")
        if kind not in EFFECTS:
            continue
        same = waiting.setdefault((kind, record.pipeline_or_node), [])
        if prefix == "pre":
            same.append(record)
        elif same:
            own = [each for each in same if each.writer_id == record.writer_id]
            asked = (own or same)[-1]
            same.remove(asked)
            found.add((asked.writer_id, asked.writer_position))
    return found
