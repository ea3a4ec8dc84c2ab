"""What is noted of every record of a run, whatever it says: who wrote it, where and when."""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt, itemgetter
from typing import Final

from audit.events import NODE_FAILURE_DETAIL, RUN_TAGGED
from audit.fold.record import Record

_AFTERWARDS: Final = frozenset({NODE_FAILURE_DETAIL, RUN_TAGGED})
"""What is no sign of life of a run: it is looked up, or said, later."""


class Books:
    """Kept by columns, in C: together these take a seventh of a fold's time."""

    def __init__(self) -> None:
        self.count = 0
        """How many records there are."""
        self.first_position = self.last_position = 0
        self.first_at = self.last_at = 0
        """In microseconds; the last one is that of the last sign of life."""
        self.last_of_writers: dict[str, int] = {}
        """The place of each writer's last record among the run's."""
        self.numbers: dict[str, tuple[int, int]] = {}
        """The numbers of each writer's first and last record."""
        self.last_of_nodes: dict[str, int] = {}
        """The position of the last record about each node or pipeline."""

    def note(self, records: Sequence[Record]) -> None:
        """The next records, at least one."""
        positions, ats, writers, numbers, types, pipelines, nodes, *_ = zip(*records, strict=True)
        self.first_position = min(self.first_position or positions[0], *positions)
        self.last_position = max(self.last_position, *positions)
        self.first_at = self.first_at or ats[0]
        self.last_at = next(
            (
                at
                for at, event_type in zip(reversed(ats), reversed(types), strict=True)
                if event_type not in _AFTERWARDS
            ),
            self.last_at or ats[0],
        )
        self._note_writers(writers, numbers)
        self._note_nodes(
            positions, [node or pipeline for node, pipeline in zip(nodes, pipelines, strict=True)]
        )
        self.count += len(records)

    def _note_writers(self, writers: Sequence[str], numbers: Sequence[int]) -> None:
        backwards = writers[::-1]
        for writer in set(writers):
            last = len(writers) - 1 - backwards.index(writer)
            self.last_of_writers[writer] = self.count + 1 + last
            known = self.numbers.get(writer)
            first = known[0] if known else numbers[writers.index(writer)]
            self.numbers[writer] = first, numbers[last]

    def _note_nodes(self, positions: Sequence[int], about: Sequence[str]) -> None:
        found = list(zip(about, positions, strict=True))
        if any(map(gt, positions, positions[1:])):  # not in the order in which they were stored
            found.sort(key=itemgetter(1))
        known = self.last_of_nodes
        for node_id, position in dict(found).items():
            if known.get(node_id, 0) < position:
                known[node_id] = position
