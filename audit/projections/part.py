"""Some runs with all of their records, as projections get them when they are made anew."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property

from audit.fold import Record, RunTimeline, fold
from audit.fold.completeness import Gap
from audit.log import shards
from audit.log.checkpoints import LogRecord
from audit.projections.batch import Batch, gaps_of
from audit.projections.faults import is_the_records


class Runs:
    """Some runs, read and folded once for all projections."""

    def __init__(self, using: str, roots: Collection[str], first: int) -> None:
        self.using = using
        self.roots = roots
        self._first = first
        """None of their records is at a lower position."""
        self._failed: dict[str, Exception] = {}

    @cached_property
    def _records(self) -> dict[str, list[Record]]:
        return shards.records(self.using, self.roots, self._first)

    @cached_property
    def last_positions(self) -> dict[str, int]:
        """Of each run the last of its records."""
        found = self._records.items()
        return {root: max(each.position for each in own) for root, own in found if own}

    @cached_property
    def folded(self) -> dict[str, RunTimeline | Exception]:
        """The timeline of each run, or why there is none."""
        found: dict[str, RunTimeline | Exception] = {}
        for root in self.last_positions:
            try:
                run = fold(root, self._records.pop(root))
            except Exception as error:
                if not is_the_records(error):
                    raise
                found[root] = error
            else:
                if run is not None:
                    found[root] = run
        return found

    @cached_property
    def gaps(self) -> dict[str, list[Gap]]:
        """What is missing of the processes that took part, by process."""
        return gaps_of(
            self.using, [each for each in self.folded.values() if isinstance(each, RunTimeline)]
        )


class Part(Batch):
    """The batch that one projection gets of them."""

    def __init__(self, runs: Runs) -> None:
        super().__init__(runs.using, 0, 0)
        self._runs = runs
        self.touched = runs.last_positions

    @property
    def records(self) -> list[LogRecord]:
        """Not these: they are no records that follow each other.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "A RunProjection that is rebuilt gets timelines, and no records: derive it from "
            "Projection where it needs those."
        )

    def timelines(self) -> Iterator[RunTimeline]:
        self._gaps = self._runs.gaps
        for root, found in self._runs.folded.items():
            with self.leaving_out(root):
                if isinstance(found, Exception):
                    raise found
            if not isinstance(found, Exception):
                yield found
