"""What the fold finds out: plain values that never change.

Times are kept as microseconds since the epoch and answered as aware ones, in UTC: to make those
takes a sixth of a record's fold, and who compares or writes needs few of them. The
fold makes its results by ``tuple.__new__``, which is half as dear as calling their types.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from audit.fold.clock import as_time
from audit.fold.states import FAILED, FINISHED, REVOKED
from audit.fold.tree import Place

EXECUTING: Final = "executing"
"""In a plugin's execute(), or in its schedule() after a callback."""
SCHEDULED: Final = "scheduled"
"""execute() is done and the node is not: it will be polled, or called back."""
CALLBACK: Final = "callback"
"""Waiting for a callback; one arrived where ``arrived_at`` says so."""
POLLING: Final = "polling"
PAUSED: Final = "paused"
CONVERGING: Final = "converging"
"""A converge gateway that some branches have reached."""


class Cause(NamedTuple):
    """The record that explains a change, and who asked for it and why, where somebody did."""

    position: int
    event_type: str
    actor: str = ""
    executor: str = ""
    reason: str = ""
    source: str = ""


def plain_cause(position: int, event_type: str) -> Cause:
    """The cause that nobody stands behind."""
    return tuple.__new__(Cause, (position, event_type, "", "", "", ""))


class Transition(NamedTuple):
    """One interval of a node's or run's timeline; ``left_at`` is None for the last."""

    node_id: str
    ordinal: int
    """1, 2, 3… in the node's timeline."""
    from_state: str
    """"" where it was born."""
    state: str
    entered_us: int
    left_us: int | None
    version: str
    loop: int
    attempt: int
    """The attempt that it belongs to; 0 before the first."""
    cause: Cause
    irregular: bool
    """Outside the engine's table: its check and its write are not one step."""

    @property
    def entered_at(self) -> datetime.datetime:
        return as_time(self.entered_us)

    @property
    def left_at(self) -> datetime.datetime | None:
        return as_time(self.left_us)


class Phase(NamedTuple):
    """What an attempt did for a while; ``ended_at`` is None where it still does."""

    kind: str
    started_us: int
    ended_us: int | None
    polls: int = 0
    """Times that schedule() was called, with those that were counted and not recorded."""
    last_poll_us: int | None = None
    """The last of those that were recorded."""
    poll_interval_us: int | None = None
    """Between the last two that were recorded next to each other."""
    arrived_us: int | None = None
    """When the callback came that ended the waiting, or is to end it."""

    @property
    def started_at(self) -> datetime.datetime:
        return as_time(self.started_us)

    @property
    def ended_at(self) -> datetime.datetime | None:
        return as_time(self.ended_us)

    @property
    def last_poll_at(self) -> datetime.datetime | None:
        return as_time(self.last_poll_us)

    @property
    def poll_interval(self) -> datetime.timedelta | None:
        found = self.poll_interval_us
        return None if found is None else datetime.timedelta(microseconds=found)

    @property
    def arrived_at(self) -> datetime.datetime | None:
        return as_time(self.arrived_us)


class Attempt(NamedTuple):
    """One execution of a node: a retry, a loop or a re-entry starts a new one."""

    node_id: str
    no: int
    version: str
    loop: int
    state: str
    """RUNNING, SUSPENDED, FINISHED, FAILED…: where it stands, or how it ended."""
    started_us: int
    ended_us: int | None
    cause: Cause
    phases: tuple[Phase, ...]
    error: str
    """Why it failed, where anybody said so; also of an error that was ignored."""
    error_ignored: bool
    forced: bool
    """Somebody forced it to fail."""
    ran_until_us: int | None
    """When the plugin's code came to its end where that was after the attempt's."""

    @property
    def started_at(self) -> datetime.datetime:
        return as_time(self.started_us)

    @property
    def ended_at(self) -> datetime.datetime | None:
        return as_time(self.ended_us)

    @property
    def ran_until(self) -> datetime.datetime | None:
        return as_time(self.ran_until_us)


class Intervention(NamedTuple):
    """What a person or system did to a run, and what came of it."""

    node_id: str
    """The node or pipeline that it was done to."""
    operation: str
    """Such as ``retry_node``."""
    at_us: int
    outcome: str
    """``done``, ``refused``, or ``unknown`` where no record says."""
    cause: Cause
    data: Mapping[str, Any]
    writer_id: str
    """The process that did it."""

    @property
    def at(self) -> datetime.datetime:
        return as_time(self.at_us)


class Node(NamedTuple):
    """A node, a subprocess or the run itself. State to parent are the engine's values."""

    place: Place
    state: str
    """"" where it was not reached."""
    version: str
    loop: int
    retry: int
    skip: bool
    error_ignored: bool
    root_id: str
    parent_id: str
    created_us: int | None
    started_us: int | None
    archived_us: int | None
    """As the engine has it: a node that is entered again keeps it."""
    transitions: tuple[Transition, ...]
    attempts: tuple[Attempt, ...]

    @property
    def created_at(self) -> datetime.datetime | None:
        return as_time(self.created_us)

    @property
    def started_at(self) -> datetime.datetime | None:
        return as_time(self.started_us)

    @property
    def archived_at(self) -> datetime.datetime | None:
        return as_time(self.archived_us)

    @property
    def finished_us(self) -> int | None:
        """When it came to its end; None while something is under way."""
        if self.state == REVOKED and self.transitions:
            return self.transitions[-1].entered_us
        return self.archived_us if self.state in (FINISHED, FAILED) else None

    @property
    def finished_at(self) -> datetime.datetime | None:
        return as_time(self.finished_us)

    @property
    def error(self) -> str:
        """Why the last attempt that failed did so."""
        return next((each.error for each in reversed(self.attempts) if each.error), "")


class Facts(NamedTuple):
    """What tells whether a run's records are whole. All from records, nothing from now."""

    started: bool
    """Its pre_prepare_run_pipeline was recorded."""
    handed_over: bool
    """Its post_prepare_run_pipeline, or anything that a worker did, was recorded."""
    states_recorded: bool
    """post_set_state was recorded; otherwise states are inferred from what is known."""
    first_at: datetime.datetime
    last_at: datetime.datetime
    """The last sign of life."""
    first_position: int
    last_position: int
    irregular: int
    foreign: int
    """State changes that somebody else than the engine sent; not folded."""
    polls_suppressed: int
    unfinished: tuple[str, ...]
    """Nodes with an attempt that has no end, in a run that finished; also the run itself, of which
    an event says so and no change of state."""
    unentered: tuple[str, ...]
    """Nodes that came to an end and were never seen to begin."""
    unanswered: tuple[int, ...]
    """Positions of operations that had their effect, whose post_ event is not there."""
    begun_by: str
    """The writer of its first record."""
    writers: Mapping[str, tuple[int, int]]
    """Who captured it: the numbers of each writer's first and last record."""
    positions: Mapping[str, int]
    """The highest position of a record about each node or pipeline."""


class RunTimeline(NamedTuple):
    """A run, folded."""

    root_pipeline_id: str
    nodes: Mapping[str, Node]
    """By id: what the tree has and what was seen, the run itself first."""
    interventions: tuple[Intervention, ...]
    tags: Mapping[str, Any]
    start: Cause | None
    """Its first event, with who started it and why; None where that was not recorded."""
    facts: Facts

    @property
    def pipeline(self) -> Node:
        """The run itself."""
        return self.nodes[self.root_pipeline_id]

    def with_interventions(self, interventions: Iterable[Intervention]) -> RunTimeline:
        """The same with other outcomes."""
        return self._replace(interventions=tuple(interventions))

    @property
    def is_over(self) -> bool:
        """Whether it came to its end: nothing more is to come of itself."""
        return self.pipeline.state in (FINISHED, REVOKED)
