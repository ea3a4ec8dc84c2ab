"""A run while it is folded: each record to the node, operation or fact that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from audit.events import (
    NODE_FAILURE_DETAIL,
    POLLS_SUPPRESSED,
    POST_SET_STATE,
    PRE_PREPARE,
    RUN_TAGGED,
)
from audit.fold import tree
from audit.fold.clock import as_time
from audit.fold.inference import Inference
from audit.fold.node import NO_LOOP, Change, NodeBuilder
from audit.fold.operations import CALLBACK, EFFECTS, FORCED_FAIL, Operations
from audit.fold.record import Record, in_order
from audit.fold.results import Cause, Facts, RunTimeline
from audit.fold.states import FAILED, FINISHED, REVOKED
from audit.fold.tree import PIPELINE, Place

ENGINE_SENDER: Final = "pipeline.eri.models.State"
"""Whose state changes are folded: some hosts send that signal themselves."""

Handler = Callable[[Record], None]


def fold(root_pipeline_id: str, records: Iterable[Record]) -> RunTimeline | None:
    """The timeline of a run from its records, in whatever order and however often they come.

    None where there is no record.
    """
    ordered = in_order(records)
    if not ordered:
        return None
    run = RunBuilder(root_pipeline_id)
    if not any(map(_is_state_change, ordered)):
        run.inference = Inference(run, ordered)
    for record in ordered:
        run.apply(record)
    return run.result()


def _is_state_change(record: Record) -> bool:
    return record.event_type == POST_SET_STATE and record.context.get("sender") == ENGINE_SENDER


class RunBuilder:
    """Takes the records of one run in their order."""

    def __init__(self, root_pipeline_id: str) -> None:
        self.root = root_pipeline_id
        self.places: dict[str, Place] = {}
        self.nodes: dict[str, NodeBuilder] = {}
        self.operations = Operations()
        self.tags: dict[str, Any] = {}
        self.inference: Inference | None = None
        """Where no state change was recorded: states follow from the other events."""
        self._handlers = self._all_handlers()
        self._started = self._handed_over = False
        self._foreign = self._suppressed = 0
        self._unentered: dict[str, None] = {}
        self._last_of_writers: dict[str, int] = {}
        self._count = 0
        self._first_position = self._last_position = 0
        self._last_at = 0

    def _all_handlers(self) -> dict[str, Handler]:
        handlers: dict[str, Handler] = {
            PRE_PREPARE: self._prepares,
            "post_prepare_run_pipeline": self._prepared,
            RUN_TAGGED: self._tagged,
            POST_SET_STATE: self._state_changed,
            "pre_execute": self._executes,
            "post_execute": self._executed,
            "pre_schedule": self._schedules,
            "post_schedule": self._scheduled,
            NODE_FAILURE_DETAIL: self._failed_because,
            POLLS_SUPPRESSED: self._polls_suppressed,
        }
        for name in ("execute", "schedule"):
            handlers[f"node_{name}_fail"] = handlers[f"node_{name}_exception"] = self._fails
        for kind in EFFECTS:
            handlers[f"pre_{kind}"] = self._asked(kind)
            handlers[f"post_{kind}"] = self._done(kind)
        return handlers

    def node(self, node_id: str) -> NodeBuilder:
        """What is known of a node, also of one that no tree has."""
        found = self.nodes.get(node_id)
        if found is None:
            place = self.places.get(node_id)
            if place is None:
                kind = PIPELINE if node_id == self.root else ""
                place = Place(node_id, self.root, node_type=kind)
            found = self.nodes[node_id] = NodeBuilder(place)
        return found

    def apply(self, record: Record) -> None:
        """The next record."""
        self._count += 1
        self._last_of_writers[record.writer_id] = self._count
        position = record.position
        if not self._first_position or position < self._first_position:
            self._first_position = position
        if position > self._last_position:
            self._last_position = position
        self._last_at = record.at
        suppressed = record.context.get("suppressed")
        if suppressed is not None:
            self._count_polls(record, suppressed)
        handler = self._handlers.get(record.event_type)
        if handler is not None:
            handler(record)
        if self.inference is not None:
            self.inference.apply(record)
        node = self.nodes.get(record.pipeline_or_node)
        if node is not None and position > node.last_position:
            node.last_position = position

    # The run.

    def _prepares(self, record: Record) -> None:
        self._started = True
        self._learn(record)
        tags = record.context.get("tags")
        if isinstance(tags, Mapping):
            self.tags.update(tags)

    def _prepared(self, record: Record) -> None:
        self._handed_over = True
        if not self.places:
            self._learn(record)

    def _learn(self, record: Record) -> None:
        places = tree.read(record.data.get("pipeline"))
        if self.root not in places:
            return
        self.places = places
        for node_id, node in self.nodes.items():
            node.place = places.get(node_id, node.place)

    def _tagged(self, record: Record) -> None:
        tags = record.data.get("tags")
        if isinstance(tags, Mapping):
            self.tags.update(tags)

    # States.

    def _state_changed(self, record: Record) -> None:
        if record.context.get("sender") != ENGINE_SENDER:
            self._foreign += 1
            return
        data = record.data
        node = self.node(record.node_id)
        node.root_id = data.get("root_id") or node.root_id
        node.parent_id = data.get("parent_id") or node.parent_id
        loop = data.get("loop")
        self.change(
            node,
            record,
            str(data.get("to_state")),
            record.node_version,
            loop if isinstance(loop, int) else NO_LOOP,
        )

    def change(
        self, node: NodeBuilder, record: Record, state: str, version: str = "", loop: int = NO_LOOP
    ) -> None:
        """A change of state that a record tells of."""
        asked = self.operations.explain(
            node.place.node_id,
            state,
            record.writer_id,
            refreshed=self.inference is not None or version != node.version,
        )
        told = Cause(record.position, record.event_type)
        if not node.state and state in (FINISHED, FAILED):
            self._unentered[node.place.node_id] = None
        cause = None if asked is None else asked.cause
        node.change(Change(state, version, loop, record.at, told, cause))
        if asked is not None and asked.kind == FORCED_FAIL:
            node.was_forced(asked.cause, _text(asked.data.get("ex_data")))

    # Operations.

    def _asked(self, kind: str) -> Handler:
        def handle(record: Record) -> None:
            self.operations.begin(kind, record, self._count)
            if kind == CALLBACK and (attempt := self.node(record.node_id).attempt) is not None:
                attempt.is_called_back(record.at)

        return handle

    def _done(self, kind: str) -> Handler:
        def handle(record: Record) -> None:
            operation = self.operations.end(kind, record, self._count)
            version = _text(record.data.get("new_version"))
            if kind == FORCED_FAIL and version:
                # By default the engine's admin sends no state change for it.
                node, cause = self.node(record.node_id), operation.cause
                if node.version != version and node.state != FAILED:
                    node.change(Change(FAILED, version, NO_LOOP, record.at, cause, cause))
                    node.was_forced(cause, _text(record.data.get("ex_data")))

        return handle

    # What plugins do.

    def _executes(self, record: Record) -> None:
        self._handed_over = True
        self.node(record.node_id).executes(_task(record), record.at)

    def _executed(self, record: Record) -> None:
        self.node(record.node_id).executed(_task(record), record.at)

    def _schedules(self, record: Record) -> None:
        if (attempt := self.node(record.node_id).attempt) is not None:
            attempt.schedules(record.at)

    def _scheduled(self, record: Record) -> None:
        if (attempt := self.node(record.node_id).attempt) is not None:
            attempt.scheduled(record.at)

    def _fails(self, record: Record) -> None:
        event = Cause(record.position, record.event_type)
        text = _text(record.data.get("ex_data"))
        self.node(record.node_id).fails(_task(record), event, text, record.at)

    def _failed_because(self, record: Record) -> None:
        text = _text(record.data.get("ex_data"))
        self.node(record.node_id).failed_because(record.node_version, text)

    def _polls_suppressed(self, record: Record) -> None:
        self._count_polls(record, record.data)

    def _count_polls(self, record: Record, counts: Any) -> None:
        if not isinstance(counts, Mapping):
            return
        pre, post = counts.get("pre_schedule"), counts.get("post_schedule")
        if isinstance(pre, int) and isinstance(post, int):
            self._suppressed += pre
            if record.node_id and (attempt := self.node(record.node_id).attempt) is not None:
                attempt.polls_were_suppressed(pre, post)

    def result(self) -> RunTimeline:
        """The timeline of all records until now."""
        self.operations.settle(self._last_of_writers)
        for node_id in (self.root, *self.places):
            self.node(node_id)
        order = {node_id: index for index, node_id in enumerate((self.root, *self.places))}
        nodes = sorted(self.nodes.items(), key=lambda item: order.get(item[0], len(order)))
        done = self.nodes[self.root].state in (FINISHED, REVOKED)
        return RunTimeline(
            root_pipeline_id=self.root,
            nodes={node_id: node.result() for node_id, node in nodes},
            interventions=tuple(each.result() for each in self.operations.all),
            tags=self.tags,
            facts=Facts(
                started=self._started,
                handed_over=self._handed_over,
                states_recorded=self.inference is None,
                last_at=as_time(self._last_at),
                first_position=self._first_position,
                last_position=self._last_position,
                irregular=sum(node.irregular for node in self.nodes.values()),
                foreign=self._foreign,
                polls_suppressed=self._suppressed,
                unfinished=tuple(
                    node_id for node_id, node in nodes if done and node.attempt is not None
                ),
                unentered=tuple(self._unentered),
                writers=frozenset(self._last_of_writers),
            ),
        )


def _task(record: Record) -> str:
    """The task that a record comes from; else its process, which runs one at a time then."""
    task = record.context.get("task")
    found = task.get("id") if isinstance(task, Mapping) else None
    return str(found or record.writer_id)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else repr(value)
