"""A run while it is folded: each record to the node, operation or fact that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, Final

from audit.events import (
    NODE_FAILURE_DETAIL,
    POLLS_SUPPRESSED,
    POST_PREPARE,
    POST_SET_STATE,
    PRE_PREPARE,
    RUN_TAGGED,
)
from audit.fold import tree
from audit.fold.books import Books
from audit.fold.clock import as_time
from audit.fold.inference import Inference
from audit.fold.node import NO_LOOP, NodeBuilder
from audit.fold.operations import CALLBACK, EFFECTS, FORCED_FAIL, Operations, cause_of
from audit.fold.record import Record, text_of
from audit.fold.results import Cause, Facts, Node, RunTimeline, plain_cause
from audit.fold.states import FAILED, FINISHED, REVOKED, RUNNING
from audit.fold.tree import CONVERGE, PIPELINE, Place

ENGINE_SENDER: Final = "pipeline.eri.models.State"
"""Whose state changes are folded: some hosts send that signal themselves."""

MAX_LOOP: Final = 2**31
"""The engine's column holds no larger number."""

Handler = Callable[["RunBuilder", Record], None]


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
        self._start: Cause | None = None
        self._handed_over = self._said_finished = False
        self._foreign = self._suppressed = 0
        self._unentered: dict[str, None] = {}
        self._books = Books()
        self._index = 0
        """The place of the record that is applied."""

    def fork(self, nodes: Iterable[str]) -> RunBuilder:
        """Another one that goes on from here, by records that name no other nodes than these.

        All others it shares with this one. Not where states are inferred, and not by records that
        bring a tree: they reach further.
        """
        found = copy(self)
        found.nodes = self.nodes.copy()
        for each in {self.root, "", *nodes} & self.nodes.keys():  # "": where a record names none
            found.nodes[each] = self.nodes[each].fork()
        found.operations, found._books = self.operations.fork(), self._books.fork()
        found.tags, found._unentered = self.tags.copy(), self._unentered.copy()
        return found

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

    def apply(self, records: Sequence[Record]) -> None:
        """The next records, at least one."""
        before = self._books.count
        self._books.note(records)
        inference, handlers = self.inference, _HANDLERS
        for index, record in enumerate(records, before + 1):
            if "suppressed" in record.context:
                self._count_polls(record, record.context["suppressed"])
            handler = handlers.get(record.event_type)
            if handler is not None:
                self._index = index
                handler(self, record)
            if inference is not None:
                inference.apply(record)

    # The run.

    def _prepares(self, record: Record) -> None:
        self._start = self._start or cause_of(record)
        self._learn(record)
        tags = record.context.get("tags")
        if isinstance(tags, dict):
            self.tags.update(tags)

    def _prepared(self, record: Record) -> None:
        self._handed_over = True
        if not self.places:
            self._learn(record)

    def _learn(self, record: Record) -> None:
        places = tree.read(record.data.get("pipeline"))
        if self.root in places:
            self.places = places
            for node_id, node in self.nodes.items():
                node.place = places.get(node_id, node.place)

    def _says_finished(self, record: Record) -> None:
        self._said_finished = True

    def _is_under_way(self) -> bool:
        """Whether any of its nodes began, which only a worker does."""
        return any(node.attempts for each, node in self.nodes.items() if each != self.root)

    def _tagged(self, record: Record) -> None:
        tags = record.data.get("tags")
        if isinstance(tags, dict):
            self.tags.update(tags)

    # States.

    def _state_changed(self, record: Record) -> None:
        if record.context.get("sender") != ENGINE_SENDER:
            self._foreign += 1
            return
        data = record.data
        node = self.nodes.get(record.node_id) or self.node(record.node_id)
        if not node.root_id:
            node.root_id = text_of(data.get("root_id"))
        if not node.parent_id:
            node.parent_id = text_of(data.get("parent_id"))
        state, loop = data.get("to_state"), data.get("loop")
        if not state:
            return
        self.change(
            node,
            record,
            state if type(state) is str else text_of(state),
            record.node_version,
            loop if type(loop) is int and 0 < loop < MAX_LOOP else NO_LOOP,
        )

    def change(
        self, node: NodeBuilder, record: Record, state: str, version: str = "", loop: int = NO_LOOP
    ) -> None:
        """A change of state that a record tells of."""
        place = node.place
        if not node.state and state in (FINISHED, FAILED):
            self._unentered[place.node_id] = None
        asked = None
        if place.node_id in self.operations.asked_for:
            refreshed = self.inference is not None or version != node.version
            asked = self.operations.explain(
                place.node_id, state, record.writer_id, self._index, refreshed=refreshed
            )
        told = plain_cause(record.position, record.event_type)
        if asked is None:
            node.change(state, version, loop, record.at, told)
        else:
            node.change(state, version, loop, record.at, told, asked.cause)
            if asked.kind == FORCED_FAIL:
                node.was_forced(asked.cause, text_of(asked.data.get("ex_data")))
        if state == RUNNING and place.node_type == CONVERGE:
            node.converges(self.nodes)

    # Operations.

    def _asked(self, record: Record) -> None:
        kind = record.event_type.removeprefix("pre_")
        self.operations.begin(kind, record, self._index)
        if kind == CALLBACK and (attempt := self.node(record.node_id).attempt) is not None:
            attempt.is_called_back(record.at)

    def _done(self, record: Record) -> None:
        kind = record.event_type.removeprefix("post_")
        operation = self.operations.end(kind, record, self._index)
        if kind == CALLBACK and (attempt := self.node(record.node_id).attempt) is not None:
            attempt.was_called_back()
        version = text_of(record.data.get("new_version"))
        if kind == FORCED_FAIL and version:
            # By default the engine's admin sends no state change for it.
            node, cause = self.node(record.node_id), operation.cause
            if node.version != version and node.state != FAILED:
                node.change(FAILED, version, NO_LOOP, record.at, cause, cause)
                node.was_forced(cause, text_of(record.data.get("ex_data")))

    # What plugins do.

    def _executes(self, record: Record) -> None:
        self._handed_over = True
        node = self.nodes.get(record.node_id) or self.node(record.node_id)
        if not node.state and self.inference is None:
            self._unentered[record.node_id] = None
        node.executes(record.task, record.at)

    def _executed(self, record: Record) -> None:
        node = self.nodes.get(record.node_id) or self.node(record.node_id)
        node.executed(record.task, record.at)

    def _schedules(self, record: Record) -> None:
        if (attempt := self.node(record.node_id).attempt) is not None:
            attempt.schedules(record.at)

    def _scheduled(self, record: Record) -> None:
        if (attempt := self.node(record.node_id).attempt) is not None:
            attempt.scheduled(record.at)

    def _fails(self, record: Record) -> None:
        event = plain_cause(record.position, record.event_type)
        text = text_of(record.data.get("ex_data"))
        self.node(record.node_id).fails(record.task, event, text, record.at)

    def _failed_because(self, record: Record) -> None:
        text = text_of(record.data.get("ex_data"))
        self.node(record.node_id).failed_because(record.node_version, text)

    def _polls_suppressed(self, record: Record) -> None:
        self._count_polls(record, record.data)

    def _count_polls(self, record: Record, counts: Any) -> None:
        if not isinstance(counts, dict):
            return
        pre, post = counts.get("pre_schedule"), counts.get("post_schedule")
        if isinstance(pre, int) and isinstance(post, int):
            self._suppressed += pre
            if record.node_id and (attempt := self.node(record.node_id).attempt) is not None:
                attempt.polls_were_suppressed(pre, post)

    def result(self, known: Mapping[str, Node] = MappingProxyType({})) -> RunTimeline:
        """The timeline of all records until now; ``known``: what is known of some nodes."""
        books = self._books
        self.operations.settle(books.last_of_writers)
        root, nodes = self.node(self.root), self.nodes
        ordered = {self.root: None, **dict.fromkeys(self.places), **dict.fromkeys(nodes)}
        ordered.pop("", None)  # records that name no node where they should
        found = {each: known.get(each) or self.node(each).result() for each in ordered}
        unfinished: tuple[str, ...] = ()
        if root.state == FINISHED:
            unfinished = tuple(each for each in ordered if self.node(each).attempt is not None)
        elif self._said_finished and root.state != REVOKED:
            unfinished = (self.root,)
        return RunTimeline(
            root_pipeline_id=self.root,
            nodes=found,
            interventions=tuple(each.result() for each in self.operations.all),
            tags=dict(self.tags),
            start=self._start,
            facts=Facts(
                started=self._start is not None,
                handed_over=self._handed_over or self._is_under_way(),
                states_recorded=self.inference is None,
                first_at=as_time(books.first_at),
                last_at=as_time(books.last_at),
                first_position=books.first_position,
                last_position=books.last_position,
                irregular=sum(node.irregular for node in nodes.values()),
                foreign=self._foreign,
                polls_suppressed=self._suppressed,
                unfinished=unfinished,
                unentered=tuple(self._unentered),
                unanswered=self.operations.unanswered(books.last_of_writers),
                begun_by=books.begun_by,
                writers=dict(books.numbers),
                positions=dict(books.positions),
            ),
        )


_HANDLERS: Final[dict[str, Handler]] = {
    PRE_PREPARE: RunBuilder._prepares,
    POST_PREPARE: RunBuilder._prepared,
    RUN_TAGGED: RunBuilder._tagged,
    POST_SET_STATE: RunBuilder._state_changed,
    "pipeline_finish": RunBuilder._says_finished,
    "pre_execute": RunBuilder._executes,
    "post_execute": RunBuilder._executed,
    "pre_schedule": RunBuilder._schedules,
    "post_schedule": RunBuilder._scheduled,
    "node_execute_fail": RunBuilder._fails,
    "node_execute_exception": RunBuilder._fails,
    "node_schedule_fail": RunBuilder._fails,
    "node_schedule_exception": RunBuilder._fails,
    NODE_FAILURE_DETAIL: RunBuilder._failed_because,
    POLLS_SUPPRESSED: RunBuilder._polls_suppressed,
    **{f"pre_{kind}": RunBuilder._asked for kind in EFFECTS},
    **{f"post_{kind}": RunBuilder._done for kind in EFFECTS},
}
