"""A run's timeline as people and programs ask it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from audit.exceptions import NotRecorded
from audit.fold import RunTimeline, completeness, waiting
from audit.fold.completeness import Gap, Verdict
from audit.fold.results import Attempt, Facts, Intervention, Node, Transition
from audit.fold.waiting import Wait
from audit.timeline import document


def aware(moment: datetime.datetime) -> datetime.datetime:
    """The moment in UTC.

    Raises:
        ValueError: it has no time zone, or no UTC has it.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: which moment is meant is not known.")
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:
        raise ValueError(f"{moment!r} is out of range.") from None


class NodeChange(NamedTuple):
    """What became of a node between two moments."""

    node_id: str
    name: str
    from_state: str
    """"" where it was not reached."""
    state: str
    transitions: tuple[Transition, ...]


class Diff(NamedTuple):
    """What happened between two moments: after the first, up to and with the second."""

    start: datetime.datetime
    end: datetime.datetime
    nodes: tuple[NodeChange, ...]
    """Those with a transition in between, also where they came back to the same state."""
    interventions: tuple[Intervention, ...]


class Timeline:
    """One run, folded from the log. Times are aware, in UTC; nothing in it changes."""

    def __init__(
        self,
        run: RunTimeline,
        gaps: tuple[Gap, ...] = (),
        *,
        asked_for: str = "",
        at: datetime.datetime | None = None,
        now: datetime.datetime,
    ) -> None:
        self._run = run
        self.gaps = gaps
        """What is missing of its writers, since it began."""
        self.asked_for = asked_for or run.root_pipeline_id
        """The id that it was loaded by: the run's, or that of one of its nodes."""
        self.at = at
        """The moment that it shows; None for the present."""
        self.now = at or now
        """The moment that ``waiting()`` and ``verdict()`` are judged at."""

    def __repr__(self) -> str:
        state = self.pipeline.state or "not begun"
        return f"<Timeline {self.root_pipeline_id}: {state}, {len(self.nodes)} nodes>"

    @property
    def root_pipeline_id(self) -> str:
        """The run's id."""
        return self._run.root_pipeline_id

    @property
    def pipeline(self) -> Node:
        """The run itself."""
        return self._run.pipeline

    @property
    def nodes(self) -> Mapping[str, Node]:
        """By id: the run first, then what its tree has, then what only records name."""
        return self._run.nodes

    @property
    def tags(self) -> Mapping[str, Any]:
        """The run's tags, with those that were given later."""
        return self._run.tags

    @property
    def facts(self) -> Facts:
        """What tells whether its records are whole."""
        return self._run.facts

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """What people and other systems did to it, in order, each with its outcome."""
        return self._run.interventions

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """All changes of state, of the run and of its nodes, in the order of time."""
        found = [each for node in self.nodes.values() for each in node.transitions]
        return tuple(sorted(found, key=lambda each: (each.entered_at, each.cause.position)))

    def attempts(self, node_id: str) -> tuple[Attempt, ...]:
        """The executions of a node, the first one first.

        Raises:
            NotRecorded: the run has no such node.
        """
        return self._node(node_id).attempts

    def state_at(self, moment: datetime.datetime) -> dict[str, str]:
        """The state of every node that had one at a moment (aware), the run's own first.

        Raises:
            ValueError: it has no time zone, or is after the moment that this timeline shows.
        """
        moment = aware(moment)
        if self.at is not None and moment > self.at:
            raise ValueError(
                f"This timeline was loaded as of {self.at}, and tells nothing of {moment}: load it "
                "again, at that moment or without one."
            )
        found = {}
        for node_id, node in self.nodes.items():
            for transition in reversed(node.transitions):
                if transition.entered_at <= moment:
                    found[node_id] = transition.state
                    break
        return found

    def diff(self, start: datetime.datetime, end: datetime.datetime) -> Diff:
        """What happened after ``start``, up to and with ``end`` (both aware).

        Raises:
            ValueError: ``end`` is before ``start``; otherwise as ``state_at``.
        """
        start, end = aware(start), aware(end)
        if end < start:
            raise ValueError(f"The end {end} is before the start {start}: exchange them.")
        before, after = self.state_at(start), self.state_at(end)
        nodes = []
        for node_id, node in self.nodes.items():
            between = tuple(each for each in node.transitions if start < each.entered_at <= end)
            if between:
                name = node.place.name
                states = before.get(node_id, ""), after[node_id]
                nodes.append(NodeChange(node_id, name, *states, between))
        done = tuple(each for each in self.interventions if start < each.at <= end)
        return Diff(start, end, tuple(nodes), done)

    def waiting(self) -> tuple[Wait, ...]:
        """Why the run does not go on: what is under way, what it waits for and since when."""
        return waiting.waits(self._run)

    def verdict(self, now: datetime.datetime | None = None) -> Verdict:
        """Is its record whole? Judged at the moment that it shows, or at another one."""
        return completeness.verdict(self._run, self.gaps, now or self.now)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it, times in ISO 8601 with their offset: for front ends."""
        return document.of_run(self._run, self.waiting(), self.verdict(), self.at)

    def as_states(self, flat_children: bool = True) -> dict[str, Any]:
        """As the engine's ``get_pipeline_states``, each node also with its name and ex_data."""
        return document.as_states(self._run, flat_children=flat_children)

    def _node(self, node_id: str) -> Node:
        try:
            return self.nodes[node_id]
        except KeyError:
            raise NotRecorded(
                f"Run {self.root_pipeline_id!r} has no node {node_id!r}. It has: "
                f"{', '.join(list(self.nodes)[:20])}."
            ) from None
