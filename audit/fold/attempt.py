"""One execution of a node while it is folded: its phases, its errors, how it ended."""

from __future__ import annotations

from copy import copy
from typing import Final

from audit.fold import results
from audit.fold.results import Attempt, Cause, Phase

_UNANSWERED: Final = frozenset(
    {"pre_execute", "pre_schedule", "node_execute_exception", "node_schedule_exception"}
)


class PhaseBuilder:
    """A phase while it is folded; times in microseconds."""

    __slots__ = (
        "arrived",
        "confirmed",
        "ended",
        "interval",
        "kind",
        "polled",
        "polls",
        "skipped",
        "started",
    )

    def __init__(self, kind: str, started: int) -> None:
        self.kind = kind
        self.started = started
        self.ended: int | None = None
        self.polls = 0
        self.polled: int | None = None
        self.interval: int | None = None
        self.skipped = False
        """Whether polls since the last one were not recorded."""
        self.arrived: int | None = None
        self.confirmed = False
        """Whether the engine took the callback: until it says so, that was an attempt."""

    def polls_at(self, at: int) -> None:
        """schedule() is called once more."""
        if self.polled is not None and not self.skipped:
            self.interval = at - self.polled
        self.polled, self.skipped = at, False
        self.polls += 1

    def result(self) -> Phase:
        fields = (
            self.kind,
            self.started,
            self.ended,
            self.polls,
            self.polled,
            self.interval,
            self.arrived if self.confirmed or self.ended is not None else None,
        )
        return tuple.__new__(Phase, fields)


class AttemptBuilder:
    """An attempt while it is folded; times in microseconds."""

    __slots__ = (
        *("no", "version", "ended_as", "loop", "state", "started", "ended", "cause"),
        *("phases", "error", "error_ignored", "failing", "forced", "ran_until", "last_event"),
        "_made",
    )

    def __init__(self, no: int, version: str, loop: int, started: int, cause: Cause) -> None:
        self.no = no
        self.version = version
        self.ended_as = version
        """The version at its end: a forced fail gives the node another."""
        self.loop = loop
        self.state = "RUNNING"
        self.started = started
        self.ended: int | None = None
        self.cause = cause
        self.phases: list[PhaseBuilder] = []
        self.error = ""
        self.error_ignored = False
        self.failing: Cause | None = None
        """The event that said that it fails."""
        self.forced = False
        self.ran_until: int | None = None
        self.last_event = ""
        """Of its plugin's calls."""
        self._made: Attempt | None = None
        """As it was answered before, where it had ended."""

    def fork(self) -> AttemptBuilder:
        """Another one that goes on from here."""
        found = copy(self)
        found.phases = [copy(phase) for phase in self.phases]
        return found

    @property
    def is_open(self) -> bool:
        return self.ended is None

    @property
    def was_unanswered(self) -> bool:
        """Whether the plugin's last call did not end well: what finishes then ignores an error."""
        return self.last_event in _UNANSWERED

    def enter(self, kind: str, at: int) -> PhaseBuilder:
        """Begin a phase; the one before ends."""
        phases = self.phases
        if phases and phases[-1].ended is None:
            phases[-1].ended = at
        phase = PhaseBuilder(kind, at)
        phases.append(phase)
        return phase

    def leave(self, at: int) -> None:
        """End the phase, if one goes on."""
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].ended = at

    def phase(self, *kinds: str) -> PhaseBuilder | None:
        """The phase that goes on, if it is of one of these kinds."""
        last = self.phases[-1] if self.phases else None
        return last if last is not None and last.ended is None and last.kind in kinds else None

    def has_converged(self, since: int) -> None:
        """It is a converge gateway, whose first branch came so early."""
        self.phases.append(PhaseBuilder(results.CONVERGING, since))
        self.leave(self.started)

    def executes(self, at: int) -> None:
        """execute() is called."""
        self.last_event = "pre_execute"
        self.enter(results.EXECUTING, at)

    def executed(self, at: int) -> None:
        """execute() returned true. What comes next is its end, a poll or a callback."""
        self.last_event = "post_execute"
        self.enter(results.SCHEDULED, at)

    def is_called_back(self, at: int) -> None:
        """A callback came."""
        phase = self.phase(results.SCHEDULED, results.CALLBACK)
        if phase is not None:
            phase.kind, phase.arrived = results.CALLBACK, at

    def was_called_back(self) -> None:
        """The engine took the callback."""
        if (phase := self.phase(results.CALLBACK)) is not None:
            phase.confirmed = True

    def schedules(self, at: int) -> None:
        """schedule() is called: because a callback came, or else for a poll."""
        self.last_event = "pre_schedule"
        if (phase := self.phase(results.CALLBACK)) is not None and phase.arrived is not None:
            self.enter(results.EXECUTING, at).polls_at(at)
            return
        phase = self.phase(results.POLLING, results.SCHEDULED, results.EXECUTING)
        if phase is None or phase.kind == results.EXECUTING:
            phase = self.enter(results.POLLING, at)
        phase.kind = results.POLLING
        phase.polls_at(at)

    def scheduled(self, at: int) -> None:
        """schedule() returned true; it may be called again."""
        self.last_event = "post_schedule"
        if self.phase(results.EXECUTING) is not None:
            self.enter(results.SCHEDULED, at)

    def polls_were_suppressed(self, pre: int, post: int) -> None:
        """Some polls since the last record were counted only."""
        self.last_event = "pre_schedule" if pre > post else "post_schedule"
        for phase in reversed(self.phases):
            if phase.kind in (results.POLLING, results.SCHEDULED):
                phase.kind = results.POLLING
                phase.polls += pre
                phase.skipped = True
                return

    def fails(self, event: Cause, text: str) -> None:
        """The engine said that it fails, or somebody forced it to."""
        self.failing = event
        if text:
            self.error = text

    def end(self, state: str, version: str, at: int) -> None:
        """It came to its end."""
        self.state, self.ended, self.ended_as = state, at, version
        last = self.phases[-1] if self.phases else None
        if last is not None and last.kind == results.SCHEDULED and last.ended is None:
            self.phases.pop()  # nothing was waited for
        self.leave(at)

    def result(self, node_id: str) -> Attempt:
        later = self.error, self.error_ignored, self.forced, self.ran_until
        made = self._made
        if made is not None and later == made[-4:]:  # nothing else of it changes after its end
            return made
        fields = (
            node_id,
            self.no,
            self.version,
            self.loop,
            self.state,
            self.started,
            self.ended,
            self.cause,
            tuple([phase.result() for phase in self.phases]),
            *later,
        )
        made = tuple.__new__(Attempt, fields)
        if self.ended is not None:
            self._made = made
        return made
