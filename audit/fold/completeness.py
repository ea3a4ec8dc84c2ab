"""Is a run's record whole? Reasons from its records and from gaps, and a verdict for a moment."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Final, NamedTuple

from audit.fold.results import RunTimeline
from audit.fold.waiting import BETWEEN, READY_TO_RUN, Wait, is_held, waits

COMPLETE: Final = "complete"
"""It is over, and nothing tells that a record is missing."""
RUNNING: Final = "running"
"""It goes on."""
WAITING: Final = "waiting"
"""It waits for a person or another system, as long as that takes."""
INCOMPLETE: Final = "incomplete"
"""Records are missing."""
SUSPECT: Final = "suspect"
"""It should go on, and nothing was heard of it for long."""
VERDICTS: Final = (COMPLETE, RUNNING, WAITING, INCOMPLETE, SUSPECT)

UNREACHED: Final = "unreached"
NO_START: Final = "no_start"
UNENTERED: Final = "unentered"
UNFINISHED: Final = "unfinished"
UNANSWERED: Final = "unanswered"
GAP: Final = "gap"
SILENT: Final = "silent"


TOLD_WITHIN: Final = datetime.timedelta(days=7)
"""A gap concerns runs that were heard of so long before it was told, not older ones."""


class Gap(NamedTuple):
    """Records of a writer that are missing. Times and numbers are None where nobody knows."""

    position: int
    """Of the gap record."""
    writer_id: str
    events: int | None
    """How many are missing."""
    first: int | None
    """The number of the first that is missing."""
    last: int | None
    first_at: datetime.datetime | None
    last_at: datetime.datetime
    """Of what is missing, where it is known; else when it was told."""
    told_at: datetime.datetime


class Reason(NamedTuple):
    """Why a run's record is not whole, or why that is suspected."""

    kind: str
    text: str
    nodes: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()


class Verdict(NamedTuple):
    """Is a run's record whole?"""

    kind: str
    reasons: tuple[Reason, ...]


def reasons(run: RunTimeline, gaps: Iterable[Gap] = ()) -> tuple[Reason, ...]:
    """What is known to be missing of a run. All from records, nothing from now."""
    facts, found = run.facts, []
    if not facts.started:
        found.append(Reason(NO_START, "Its start was not recorded."))
    elif facts.states_recorded and facts.unentered:
        found.append(
            Reason(
                UNENTERED, "Nodes ended or executed whose begin was not recorded.", facts.unentered
            )
        )
    if unreached := _unreached(run):
        found.append(
            Reason(
                UNREACHED, "Nodes began, and nothing was recorded of any before them.", unreached
            )
        )
    if facts.unfinished:
        found.append(
            Reason(
                UNFINISHED,
                "It is over, and an end was not recorded: of nodes, or its own.",
                facts.unfinished,
            )
        )
    if facts.unanswered:
        found.append(
            Reason(
                UNANSWERED,
                "Operations had their effect, and their post_ event is not there.",
                (),
                facts.unanswered,
            )
        )
    for gap in gaps:
        if _concerns(run, gap):
            found.append(Reason(GAP, _gap_text(gap), (), (gap.position,)))
    return tuple(found)


def _unreached(run: RunTimeline) -> tuple[str, ...]:
    """Nodes that began though none of those that lead to them did."""
    if not run.facts.started or not run.facts.states_recorded:
        return ()
    nodes = run.nodes
    return tuple(
        node_id
        for node_id, node in nodes.items()
        if node.attempts
        and node.place.sources
        and not any(each in nodes and nodes[each].state for each in node.place.sources)
    )


def _concerns(run: RunTimeline, gap: Gap) -> bool:
    """Whether the missing records may have been of this run: one of its writers, in its time."""
    facts = run.facts
    numbers = facts.writers.get(gap.writer_id)
    if numbers is None or gap.last_at < facts.first_at or gap.told_at - facts.last_at > TOLD_WITHIN:
        return False
    first, last = numbers
    if gap.first is not None:
        # Who began the run has nothing of it from before; who joined later may have.
        before = gap.last is not None and gap.last < first and gap.writer_id == facts.begun_by
        return not before and not (gap.first > last and run.is_over)
    return not run.is_over or gap.first_at is None or gap.first_at <= facts.last_at


def _gap_text(gap: Gap) -> str:
    many = "An unknown number of records" if gap.events is None else f"{gap.events:,} records"
    return f"{many} of a process that took part are missing."


def expected_by(run: RunTimeline, waiting: Iterable[Wait]) -> datetime.datetime | None:
    """By then more should be heard of a run; None where it is over, or may wait for ever."""
    found = [
        wait.expected_by
        for wait in waiting
        if wait.expected_by is not None
        and not (wait.why in (READY_TO_RUN, BETWEEN) and is_held(run, wait.node_id))
    ]
    return min(found, default=None)


def verdict(run: RunTimeline, gaps: Iterable[Gap], now: datetime.datetime) -> Verdict:
    """Is the record whole, judged at a moment?"""
    known = reasons(run, gaps)
    if known:
        return Verdict(INCOMPLETE, known)
    if run.is_over:
        return Verdict(COMPLETE, ())
    waiting = waits(run)
    by = expected_by(run, waiting)
    if by is None:
        return Verdict(WAITING, ())
    if now <= by:
        return Verdict(RUNNING, ())
    silent = tuple(
        wait.node_id for wait in waiting if wait.expected_by is not None and wait.expected_by < now
    )
    since = run.facts.last_at
    text = f"It should go on, and nothing was heard of it since {since:%Y-%m-%d %H:%M:%S} UTC."
    return Verdict(SUSPECT, (Reason(SILENT, text, silent),))
