"""Load one run from the log, and fold it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Final

from audit import conf
from audit.exceptions import NotRecorded
from audit.fold import RunTimeline, fold
from audit.fold.operations import REFUSED, UNKNOWN
from audit.log import runs
from audit.timeline.timeline import Timeline, aware

ANSWER_TAKES: Final = datetime.timedelta(minutes=1)
"""An operation's two events are milliseconds apart; after so long its second one is not to come."""


def load(any_id: str, at: datetime.datetime | None = None) -> Timeline:
    """The timeline of a run, always fresh; ``any_id`` is its own, or a node's or subprocess's.

    ``at``: as it stood at that moment, aware; it is folded from what had occurred by then.

    Raises:
        NotRecorded: the log has nothing of that id, or nothing until then.
        ValueError: ``at`` has no time zone.
        LogUnavailable: the log's database cannot be asked.
    """
    if at is not None:
        at = aware(at)
    using, now = conf.get("DATABASE"), datetime.datetime.now(datetime.UTC)
    root = find_root(any_id)
    folded = fold(root, runs.records(using, root, at))
    if folded is None:
        raise NotRecorded(f"The log has no record of run {root!r} until {at}.")
    gaps = runs.gaps(using, folded.facts.writers, folded.facts.first_at, at)
    return Timeline(
        _with_outcomes(using, folded, at or now), tuple(gaps), asked_for=any_id, at=at, now=now
    )


def find_root(any_id: str) -> str:
    """The id of the run that an id belongs to: its own, or that of a node or subprocess.

    Raises:
        NotRecorded: the log has nothing of that id.
        LogUnavailable: the log's database cannot be asked.
    """
    root = runs.find_root(conf.get("DATABASE"), any_id)
    if root is None:
        raise NotRecorded(
            f"The log has no record of {any_id!r}. Is it the id of a run, a subprocess or a node "
            "that was reached? What was captured a moment ago may still be under way to the log."
        )
    return root


def _with_outcomes(using: str, run: RunTimeline, now: datetime.datetime) -> RunTimeline:
    """What has no second event was refused, where its writer has told of what came after.

    The run's own records leave that open where the writer's later ones are of other runs.
    """
    numbers = {each.cause.position: each for each in run.interventions if each.outcome == UNKNOWN}
    if not numbers:
        return run
    open_writers = runs.open_writers(using, {each.writer_id for each in numbers.values()})
    return run.with_interventions(
        each._replace(outcome=REFUSED)
        if each.outcome == UNKNOWN and _is_past(each.writer_id, each.at, open_writers, now)
        else each
        for each in run.interventions
    )


def _is_past(
    writer_id: str,
    at: datetime.datetime,
    open_writers: Mapping[str, datetime.datetime | None],
    now: datetime.datetime,
) -> bool:
    if now - at < ANSWER_TAKES:
        return False
    if writer_id not in open_writers:
        return True  # it ended, and all that it captured is in the log
    last_at = open_writers[writer_id]
    return last_at is not None and last_at - at >= ANSWER_TAKES
