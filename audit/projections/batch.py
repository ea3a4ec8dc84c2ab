"""Some records that follow each other in the log, as projections get them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Final, NamedTuple

from audit.fold import RunTimeline
from audit.fold.completeness import Gap
from audit.log import checkpoints, shards
from audit.log.checkpoints import LogRecord, Touched
from audit.projections.faults import is_the_records
from audit.projections.folds import Folds, News

AT_ONCE: Final = 20
"""Runs that are read together."""


class Failed(NamedTuple):
    """Why a run was left out."""

    position: int
    """The last record of the batch that is of it."""
    error: Exception


class Batch:
    """The records after one position, up to another. Nothing is read before it is asked for."""

    def __init__(
        self,
        using: str,
        after: int,
        until: int,
        event_types: Collection[str] | None = None,
        folds: Folds | None = None,
    ) -> None:
        self.using = using
        """The alias of the log's database, which the projection writes to."""
        self.after = after
        self.until = until
        self.failed: dict[str, Failed] = {}
        """The runs that were left out; what was made of them before stays."""
        self._event_types = event_types
        self._folds = folds or Folds()
        self._news: News | None = None
        self._gaps: dict[str, list[Gap]] = {}

    @cached_property
    def records(self) -> list[LogRecord]:
        """The records of the types that the projection wants, by position."""
        return checkpoints.records(self.using, self.after, self.until, self._event_types)

    @cached_property
    def touched(self) -> dict[str, int]:
        """The runs that any of its records is of, each with the last such position.

        Among them those that a gap concerns.
        """
        return {root: found.position for root, found in self._touched.items()}

    @cached_property
    def _touched(self) -> dict[str, Touched]:
        return checkpoints.touched_runs(self.using, self.after, self.until)

    def timelines(self) -> Iterator[RunTimeline]:
        """The timeline of each run that is touched, from all of its records until now.

        Whoever replaces what was made of a run by what follows from its timeline makes the same
        rows in whatever order records come.
        """
        self._folds.begin(self.using, self.after, self.until, self._touched)
        left = iter(self.touched)
        while several := list(islice(left, AT_ONCE)):
            found = self._folded(several)
            self._gaps = gaps_of(self.using, [each.run for each in found])
            for self._news in found:
                yield self._news.run
        self._news = None
        self._folds.end(self.until)

    def _folded(self, roots: list[str]) -> list[News]:
        folds, found = self._folds, []
        whole = [root for root in roots if not folds.has(root)]
        records = shards.records(self.using, whole) if whole else {}
        for root in roots:
            with self.leaving_out(root):
                if root in records:
                    news = folds.whole(root, records.pop(root), self.until)
                else:
                    news = folds.go_on(self.using, root, self.until)
                if news is not None:
                    found.append(news)
        return found

    def news(self, run: RunTimeline) -> News:
        """Which nodes of the timeline that was answered last have changed."""
        return self._news or News(run)

    @contextmanager
    def leaving_out(self, root_pipeline_id: str) -> Iterator[None]:
        """Go on without a run where its records are to blame for what is raised inside."""
        try:
            yield
        except Exception as error:
            if not is_the_records(error):
                raise
            self._folds.forget(root_pipeline_id)
            position = self.touched.get(root_pipeline_id, self.until)
            self.failed[root_pipeline_id] = Failed(position, error)

    def forget(self) -> None:
        """Let go of the records: they are applied, and may be large."""
        self.__dict__.pop("records", None)

    def gaps(self, run: RunTimeline) -> list[Gap]:
        """What is missing of the processes that took part in the run that was answered last."""
        since = run.facts.first_at
        found = [each for writer in run.facts.writers for each in self._gaps.get(writer, ())]
        return sorted(each for each in found if each.told_at >= since)


def gaps_of(using: str, found: list[RunTimeline]) -> dict[str, list[Gap]]:
    """What is missing of the processes that took part in some runs, by process."""
    if not found:
        return {}
    writers = {writer for run in found for writer in run.facts.writers}
    return shards.gaps(using, min(run.facts.first_at for run in found), writers)
