"""A node, a subprocess or the run itself while it is folded: the engine's rules for its state."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Final

from audit.fold import results
from audit.fold.attempt import AttemptBuilder
from audit.fold.results import Cause, Node, Transition
from audit.fold.states import (
    ENDED,
    FAILED,
    FINISHED,
    LOOP_READY,
    READY,
    REVOKED,
    RUNNING,
    SUSPENDED,
    TABLE,
)
from audit.fold.tree import PIPELINE, Place

_BEFORE_RUNNING: Final = frozenset({"", READY, LOOP_READY, SUSPENDED})
NO_LOOP: Final = -1
"""What the engine's signal has where it does not set the loop."""


class NodeBuilder:
    """Follows what the engine does to a row of its ``State`` (``StateMixin.set_state``)."""

    __slots__ = (
        *("place", "state", "version", "loop", "retry", "skip", "error_ignored"),
        *("root_id", "parent_id", "created", "started", "archived"),
        *("attempts", "attempt", "irregular", "_transitions", "_now", "_now_since"),
        *("_executing", "_ready_by", "_left"),
    )

    def __init__(self, place: Place) -> None:
        self.place = place
        self.state = ""
        self.version = ""
        self.loop = 1
        self.retry = 0
        self.skip = False
        self.error_ignored = False
        self.root_id = ""
        self.parent_id = ""
        self.created: int | None = None
        self.started: int | None = None
        self.archived: int | None = None
        self.attempts: list[AttemptBuilder] = []
        self.attempt: AttemptBuilder | None = None
        """The attempt that goes on."""
        self.irregular = 0
        self._transitions: list[Transition] = []
        self._now: tuple[str, int, Cause, bool]
        """Of the state that lasts: the one before, the attempt, the cause, whether irregular."""
        self._now_since = 0
        self._executing: dict[str, AttemptBuilder] = {}
        """Attempts in execute(), by the task that is in it."""
        self._ready_by: Cause | None = None
        """Who made it ready."""
        self._left = ""
        """The version before this one."""

    def fork(self) -> NodeBuilder:
        """Another one that goes on from here."""
        found = copy(self)
        attempts = {each.no: each.fork() for each in self.attempts}
        found.attempts = list(attempts.values())
        found.attempt = attempts[self.attempt.no] if self.attempt is not None else None
        found._transitions = self._transitions.copy()
        found._executing = {task: attempts[each.no] for task, each in self._executing.items()}
        return found

    def change(
        self, state: str, version: str, loop: int, at: int, told: Cause, asked: Cause | None = None
    ) -> bool:
        """Apply a change of state; whether it was one, and not told a second time.

        ``told``: the record that tells of it; ``asked``: who asked for it, where somebody did.
        """
        before = self.state
        if state == before and version == self.version:
            return False
        allowed = TABLE.get(before)
        irregular = allowed is None or state not in allowed
        is_known = version != "" and version in (self.version, self._left)
        if is_known and before == FAILED and state == FINISHED:
            # No skip, which gives it another version: a worker that came to its end while somebody
            # forced the node to fail. The engine keeps the version that it has.
            irregular, version = True, self.version
        if not before:
            self.created = at
        else:
            self.irregular += irregular
            if self._is_another_row(before, state, version, loop):
                self.loop, self.retry, self.skip, self.error_ignored = 1, 0, False, False
                self.created, self.started, self.archived = at, None, None
            self._transitions.append(self._transition(at))
        cause = asked or self._cause_of(state, told)
        if state == RUNNING:
            self._run(before, version, loop, at, cause)
        elif state in ENDED:
            self._end(before, state, version, at)
        elif state == SUSPENDED:
            if self.attempt is not None:
                self.attempt.enter(results.PAUSED, at)
        elif state in (READY, LOOP_READY):
            is_retry = version != self.version or "retry" in cause.event_type
            self._make_ready(state, at, cause, is_retry=before == FAILED and is_retry)
        if loop != NO_LOOP:
            self.loop = loop
        if version != self.version:
            self._left, self.version = self.version, version
        self.state = state
        self._now = before, len(self.attempts), cause, irregular
        self._now_since = at
        return True

    def _transition(self, left: int | None) -> Transition:
        """The interval of the state that lasts, or until now lasted."""
        before, attempt, cause, irregular = self._now
        fields = (
            self.place.node_id,
            len(self._transitions) + 1,
            before,
            self.state,
            self._now_since,
            left,
            self.version,
            self.loop,
            attempt,
            cause,
            irregular,
        )
        return tuple.__new__(Transition, fields)

    def _is_another_row(self, before: str, state: str, version: str, loop: int) -> bool:
        """Whether the engine deleted its row since, of which it says nothing (a rollback).

        A node that finished is entered again with the next loop, and only one that failed is
        made ready by an operation. A run's own row stays.
        """
        if version == self.version or before in _BEFORE_RUNNING:
            return False
        if state == RUNNING:
            return loop == 1 or before == FAILED
        return state == READY and before != FAILED and self.place.node_type != PIPELINE

    def _cause_of(self, state: str, told: Cause) -> Cause:
        if state == FAILED and self.attempts and self.attempts[-1].failing is not None:
            return self.attempts[-1].failing
        return told

    def _run(self, before: str, version: str, loop: int, at: int, cause: Cause) -> None:
        if before == FINISHED:
            self.skip = self.error_ignored = False
            if not self.place.loops:
                self.retry = 0
        if before and loop == NO_LOOP:  # a pipeline that is resumed
            if self.attempt is not None:
                self.attempt.leave(at)
            return
        self.started = at
        if self.place.node_type == PIPELINE:
            return
        if self.attempt is not None:
            self.attempt.end(before, self.version, at)
        by = self._ready_by or cause
        self._ready_by = None
        self.attempt = AttemptBuilder(
            len(self.attempts) + 1, version, self.loop if loop == NO_LOOP else loop, at, by
        )
        self.attempts.append(self.attempt)

    def _end(self, before: str, state: str, version: str, at: int) -> None:
        attempt = self.attempt
        if state != REVOKED:
            self.archived = at
        if state == FINISHED:
            if before == FAILED:
                self.skip = version == "" or version != self.version
            elif attempt is not None and attempt.was_unanswered:
                self.error_ignored = attempt.error_ignored = True
        if attempt is not None:
            attempt.end(state, version, at)
            self.attempt = None

    def _make_ready(self, state: str, at: int, cause: Cause, *, is_retry: bool) -> None:
        """Also a failed node that somebody only resumes: the engine counts nothing then."""
        self._ready_by = cause
        if self.attempt is not None:
            self.attempt.leave(at)
        if is_retry:
            self.started = self.archived = None
            if state == READY:
                self.retry += 1

    def converges(self, nodes: Mapping[str, NodeBuilder]) -> None:
        """A converge gateway begins when the last branch has come; it waited since the first."""
        attempt = self.attempt
        if attempt is None or attempt.phases:
            return
        before = self.attempts[-2].started if len(self.attempts) > 1 else 0
        came = [
            found.archived
            for source in self.place.sources
            if (found := nodes.get(source)) is not None
            and found.archived is not None
            and before < found.archived <= attempt.started
        ]
        if came:
            attempt.has_converged(min(came))

    # What its plugin does. ``task``: the task that calls it.

    def executes(self, task: str, at: int) -> None:
        """execute() is called."""
        if (attempt := self.attempt) is not None:
            attempt.executes(at)
            self._executing[task] = attempt

    def executed(self, task: str, at: int) -> None:
        """execute() returned true; perhaps of an attempt that was forced to fail meanwhile."""
        attempt = self._executing.pop(task, None) or self.attempt
        if attempt is None:
            return
        if attempt.is_open:
            attempt.executed(at)
        else:
            attempt.ran_until = at

    def fails(self, task: str, event: Cause, text: str, at: int) -> None:
        """A call raised, or the engine gives the attempt up."""
        attempt = self._executing.get(task) or self.attempt
        if attempt is None:
            return
        if attempt.is_open:
            attempt.fails(event, text)
            if text:
                attempt.last_event = event.event_type
        else:
            attempt.ran_until = at

    def was_forced(self, event: Cause, text: str) -> None:
        """Somebody forced its last attempt to fail."""
        if self.attempts:
            self.attempts[-1].forced = True
            self.attempts[-1].fails(event, text)

    def failed_because(self, version: str, text: str) -> None:
        """What the engine kept of a failure, read afterwards."""
        for attempt in reversed(self.attempts):
            if version in (attempt.ended_as, attempt.version):
                if len(text) > len(attempt.error):
                    attempt.error = text
                return

    def result(self) -> Node:
        """What is known of it until now."""
        node_id = self.place.node_id
        transitions = tuple(self._transitions)
        if self.state:
            transitions = (*transitions, self._transition(None))
        fields = (
            self.place,
            self.state,
            self.version,
            self.loop,
            self.retry,
            self.skip,
            self.error_ignored,
            self.root_id,
            self.parent_id,
            self.created,
            self.started,
            self.archived,
            transitions,
            tuple([each.result(node_id) for each in self.attempts]),
        )
        return tuple.__new__(Node, fields)
