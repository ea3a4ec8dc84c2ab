"""When the attempts of a run were, as bars of one scale."""

from __future__ import annotations

import datetime
from typing import Final

from rich.text import Text

from audit.fold.results import EXECUTING, Attempt
from audit.timeline import Timeline

BAR: Final = 22
COLOURS: Final = {
    "FINISHED": "green",
    "FAILED": "red",
    "REVOKED": "magenta",
    "RUNNING": "cyan",
    "SUSPENDED": "yellow",
    "complete": "green",
    "running": "cyan",
    "waiting": "yellow",
    "incomplete": "red",
    "suspect": "red",
}


class Marks:
    """Signs for bars and branches; plain ones where the output cannot take others."""

    def __init__(self, encoding: str) -> None:
        try:
            "█░·└".encode(encoding)
            self.work, self.wait, self.none, self.branch = "█", "░", "·", "└"
        except (UnicodeEncodeError, LookupError):
            self.work, self.wait, self.none, self.branch = "#", "-", ".", "`"


class Scale:
    """From the run's first record to its end, or to now, as columns of a bar."""

    def __init__(self, timeline: Timeline) -> None:
        self.start = timeline.facts.first_at
        over = timeline.pipeline.finished_at is not None
        ends = [timeline.pipeline.finished_at]
        ends += [each.ended_at for node in timeline.nodes.values() for each in node.attempts]
        known = [each for each in ends if each is not None]
        self.end = max(known, default=self.start) if over else timeline.now
        self.span = max(self.end - self.start, datetime.timedelta(microseconds=1))

    def bar(self, attempts: tuple[Attempt, ...], marks: Marks) -> Text:
        cells = [(" ", "")] * BAR
        for attempt in attempts:
            colour = COLOURS.get(attempt.state, "")
            self._fill(cells, attempt.started_at, attempt.ended_at, marks.work, colour)
            for phase in attempt.phases:
                if phase.kind != EXECUTING:
                    self._fill(cells, phase.started_at, phase.ended_at, marks.wait, colour)
        found = Text()
        for sign, colour in cells:
            found.append(sign, style=colour)
        found.rstrip()
        return found

    def _fill(
        self,
        cells: list[tuple[str, str]],
        start: datetime.datetime,
        end: datetime.datetime | None,
        sign: str,
        colour: str,
    ) -> None:
        first = self._column(start)
        for column in range(first, max(self._column(end or self.end), first) + 1):
            cells[column] = sign, colour

    def _column(self, at: datetime.datetime) -> int:
        part = (at - self.start) / self.span
        return min(max(int(part * BAR), 0), BAR - 1)
