"""A node, a subprocess or the run itself while it is folded: the engine's rules for its state."""

from __future__ import annotations

from typing import Final, NamedTuple

from audit.fold import results
from audit.fold.attempt import AttemptBuilder
from audit.fold.clock import as_time
from audit.fold.results import Cause, Node, Transition
from audit.fold.states import (
    FAILED,
    FINISHED,
    LOOP_READY,
    READY,
    REVOKED,
    RUNNING,
    SUSPENDED,
    is_irregular,
)
from audit.fold.tree import PIPELINE, Place

_BEFORE_RUNNING: Final = frozenset({"", READY, LOOP_READY, SUSPENDED})
_ENDS: Final = frozenset({FINISHED, FAILED, REVOKED})
NO_LOOP: Final = -1
"""What the engine's signal has where it does not set the loop."""


class Change(NamedTuple):
    """A change of state. ``cause``: who asked for it; else the record that told of it."""

    state: str
    version: str
    loop: int
    at: int
    told: Cause
    asked: Cause | None


class NodeBuilder:
    """Follows what the engine does to a row of its ``State`` (``StateMixin.set_state``)."""

    __slots__ = (
        *("place", "state", "version", "loop", "retry", "skip", "error_ignored"),
        *("root_id", "parent_id", "created", "started", "archived", "last_position"),
        *("attempts", "irregular", "_cause", "_changes", "_executing", "_ready_by"),
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
        self.last_position = 0
        self.attempts: list[AttemptBuilder] = []
        self.irregular = 0
        self._changes: list[tuple[str, Change, int, int, bool, Cause]] = []
        self._executing: dict[str, AttemptBuilder] = {}
        """Attempts in execute(), by the task that is in it."""
        self._ready_by: Cause | None = None
        """Who made it ready."""

    @property
    def attempt(self) -> AttemptBuilder | None:
        """The attempt that goes on."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.ended is None else None

    def change(self, change: Change) -> bool:
        """Apply a change of state; whether it was one, and not told a second time."""
        before, state = self.state, change.state
        if state == before and change.version == self.version:
            return False
        irregular = is_irregular(before, state)
        self.irregular += irregular
        if before and self._is_another_row(before, change):
            self.loop, self.retry, self.skip, self.error_ignored = 1, 0, False, False
            self.created, self.started, self.archived = change.at, None, None
        elif not before:
            self.created = change.at
        cause = change.asked or self._cause_of(change)
        if state == RUNNING:
            self._run(before, change, cause)
        elif state in _ENDS:
            self._end(before, change)
        elif state == SUSPENDED:
            if (attempt := self.attempt) is not None:
                attempt.enter(results.PAUSED, change.at)
        elif state in (READY, LOOP_READY):
            self._make_ready(before, change, cause)
        if change.loop != NO_LOOP:
            self.loop = change.loop
        self.state, self.version = state, change.version
        no = self.attempts[-1].no if self.attempts else 0
        self._changes.append((before, change, self.loop, no, irregular, cause))
        return True

    def _is_another_row(self, before: str, change: Change) -> bool:
        """Whether the engine deleted its row since, of which it says nothing (a rollback).

        A node that finished is entered again with the next loop, and only one that failed is
        made ready by an operation. A run's own row stays.
        """
        if change.version == self.version or before in _BEFORE_RUNNING:
            return False
        if change.state == RUNNING:
            return change.loop == 1 or before == FAILED
        return change.state == READY and before != FAILED and self.place.node_type != PIPELINE

    def _cause_of(self, change: Change) -> Cause:
        attempt = self.attempts[-1] if self.attempts else None
        if change.state == FAILED and attempt is not None and attempt.failing is not None:
            return attempt.failing
        return change.told

    def _run(self, before: str, change: Change, cause: Cause) -> None:
        if before == FINISHED:
            self.skip = self.error_ignored = False
            if not self.place.loops:
                self.retry = 0
        enters = change.loop != NO_LOOP or not before
        if not enters:  # a pipeline that is resumed
            if (attempt := self.attempt) is not None:
                attempt.leave(change.at)
            return
        self.started = change.at
        if self.place.node_type == PIPELINE:
            return
        if (attempt := self.attempt) is not None:
            attempt.end(before, self.version, change.at)
        loop = self.loop if change.loop == NO_LOOP else change.loop
        by = self._ready_by or cause
        self._ready_by = None
        self.attempts.append(
            AttemptBuilder(len(self.attempts) + 1, change.version, loop, change.at, by)
        )

    def _end(self, before: str, change: Change) -> None:
        attempt = self.attempt
        if change.state != REVOKED:
            self.archived = change.at
        if change.state == FINISHED:
            if before == FAILED:
                self.skip = True  # the engine has no other way from there
            elif attempt is not None and attempt.was_unanswered:
                self.error_ignored = attempt.error_ignored = True
        if attempt is not None:
            attempt.end(change.state, change.version, change.at)

    def _make_ready(self, before: str, change: Change, cause: Cause) -> None:
        self._ready_by = cause
        if (attempt := self.attempt) is not None:
            attempt.leave(change.at)
        if before == FAILED:
            self.started = self.archived = None
            if change.state == READY:
                self.retry += 1

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
        transitions = []
        for index, (before, change, loop, no, irregular, cause) in enumerate(self._changes):
            following = self._changes[index + 1 : index + 2]
            left = following[0][1].at if following else None
            transitions.append(
                Transition(
                    self.place.node_id,
                    index + 1,
                    before,
                    change.state,
                    as_time(change.at),
                    as_time(left),
                    change.version,
                    loop,
                    no,
                    cause,
                    irregular,
                )
            )
        return Node(
            place=self.place,
            state=self.state,
            version=self.version,
            loop=self.loop,
            retry=self.retry,
            skip=self.skip,
            error_ignored=self.error_ignored,
            root_id=self.root_id,
            parent_id=self.parent_id,
            created_at=as_time(self.created),
            started_at=as_time(self.started),
            archived_at=as_time(self.archived),
            transitions=tuple(transitions),
            attempts=tuple(each.result(self.place.node_id) for each in self.attempts),
            last_position=self.last_position,
        )
