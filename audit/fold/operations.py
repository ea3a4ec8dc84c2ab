"""What people do to a run: each operation with its two events, its effect and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Final

from audit.fold.record import Record
from audit.fold.results import Cause, Intervention
from audit.fold.states import FAILED, FINISHED, LOOP_READY, READY, REVOKED, RUNNING, SUSPENDED

DONE: Final = "done"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"

CALLBACK: Final = "callback"
FORCED_FAIL: Final = "forced_fail_activity"
_SKIPS: Final = (
    "skip_node",
    "skip_exclusive_gateway",
    "skip_conditional_parallel_gateway",
)
_REFRESHED: Final = frozenset({"retry_node", "retry_subprocess", FORCED_FAIL, *_SKIPS})
"""Those that give the node's state another version."""

EFFECTS: Final[Mapping[str, frozenset[str]]] = {
    "pause_pipeline": frozenset({SUSPENDED}),
    "resume_pipeline": frozenset({RUNNING}),
    "revoke_pipeline": frozenset({REVOKED}),
    "pause_node": frozenset({SUSPENDED}),
    "resume_node": frozenset({READY}),
    "retry_node": frozenset({READY, LOOP_READY}),
    "retry_subprocess": frozenset({READY}),
    **dict.fromkeys(_SKIPS, frozenset({FINISHED})),
    FORCED_FAIL: frozenset({FAILED}),
    CALLBACK: frozenset(),
}
"""The states that each operation leads to, as the engine's code sets them."""


def cause_of(record: Record) -> Cause:
    """A record as the cause of what came of it, with who and why."""
    context = record.context
    inherited = context.get("inherited")
    said = {**inherited, **context} if isinstance(inherited, dict) else context
    return Cause(
        record.position,
        record.event_type,
        *(_text(said.get(key)) for key in ("actor", "executor", "reason", "source")),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


class Operation:
    """One operation, from its first event on."""

    __slots__ = (
        "at",
        "cause",
        "data",
        "index",
        "is_answered",
        "kind",
        "outcome",
        "target",
        "writer_id",
    )

    def __init__(self, kind: str, record: Record, index: int) -> None:
        self.kind = kind
        self.target = record.pipeline_or_node
        self.at = record.at
        self.writer_id = record.writer_id
        self.index = index
        """Its place among the run's records, and once it had its effect, that one's."""
        self.cause = cause_of(record)
        self.data = record.data
        self.outcome = UNKNOWN
        self.is_answered = False
        """Whether its second event was recorded."""

    def explains(self, state: str, writer_id: str, *, refreshed: bool) -> bool:
        """Whether a change of its node is what it did: its process does both.

        A worker's change of the same state keeps the version that a retry, a skip or a forced
        fail would have changed.
        """
        return (
            self.writer_id == writer_id
            and state in EFFECTS[self.kind]
            and (refreshed or self.kind not in _REFRESHED)
        )

    def result(self) -> Intervention:
        return Intervention(
            self.target,
            self.kind,
            self.at,
            self.outcome,
            self.cause,
            self.data,
            self.writer_id,
        )


class Operations:
    """The operations of a run."""

    def __init__(self) -> None:
        self.all: list[Operation] = []
        self.asked_for: dict[str, list[Operation]] = {}
        """By node or pipeline, those whose second event was not seen."""

    def fork(self) -> Operations:
        """Another one that goes on from here."""
        # All others are answered, and done.
        forked = {id(each): copy(each) for asked in self.asked_for.values() for each in asked}
        found = Operations()
        found.all = [forked.get(id(each), each) for each in self.all]
        found.asked_for = {
            target: [forked[id(each)] for each in asked]
            for target, asked in self.asked_for.items()
            if asked
        }
        return found

    def begin(self, kind: str, record: Record, index: int) -> Operation:
        """An operation was asked for."""
        operation = Operation(kind, record, index)
        self.all.append(operation)
        self.asked_for.setdefault(operation.target, []).append(operation)
        return operation

    def end(self, kind: str, record: Record, index: int) -> Operation:
        """An operation was done; it begins here where its first event was not recorded."""
        waiting = self.asked_for.get(record.pipeline_or_node, [])
        same = [each for each in waiting if each.kind == kind]
        own = [each for each in same if each.writer_id == record.writer_id]
        if found := (own or same)[-1:]:
            operation = found[0]
            waiting.remove(operation)
        else:
            operation = Operation(kind, record, index)
            self.all.append(operation)
        operation.outcome, operation.is_answered = DONE, True
        return operation

    def explain(
        self, node_id: str, state: str, writer_id: str, index: int, *, refreshed: bool
    ) -> Operation | None:
        """What asked for a change of a node, where somebody did; from now on it is done."""
        for operation in reversed(self.asked_for.get(node_id, ())):
            if operation.outcome != DONE and operation.explains(
                state, writer_id, refreshed=refreshed
            ):
                operation.outcome, operation.index = DONE, index
                return operation
        return None

    def settle(self, last_of_writers: Mapping[str, int]) -> None:
        """What neither ended nor had an effect was refused, if its process went on to the next.

        ``last_of_writers``: the place of each writer's last record among the run's.
        """
        for operation in self.all:
            if operation.outcome == UNKNOWN and last_of_writers[operation.writer_id] > (
                operation.index
            ):
                operation.outcome = REFUSED

    def unanswered(self, last_of_writers: Mapping[str, int]) -> tuple[int, ...]:
        """Positions of what had its effect, and whose process went on without telling so."""
        return tuple(
            each.cause.position
            for each in self.all
            if each.outcome == DONE
            and not each.is_answered
            and last_of_writers[each.writer_id] > each.index
        )
