"""What is noted of every record of a run, whatever it says: who wrote it, where and when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from operator import itemgetter, lt
from typing import Final

from audit.events import NODE_FAILURE_DETAIL, RUN_TAGGED
from audit.fold.record import Record

_AFTERWARDS: Final = frozenset({NODE_FAILURE_DETAIL, RUN_TAGGED})
"""What is no sign of life of a run: it is looked up, or said, later."""


class Books:
    """Kept by columns and not by record, as far as that goes."""

    def __init__(self) -> None:
        self.count = 0
        """How many records there are."""
        self.first_position = self.last_position = 0
        self.first_at = self.last_at = 0
        """In microseconds; the last one is that of the last sign of life."""
        self.begun_by = ""
        """The writer of the first record."""
        self.last_of_writers: dict[str, int] = {}
        """The place of each writer's last record among the run's."""
        self.numbers: dict[str, tuple[int, int]] = {}
        """The numbers of each writer's first and last record."""
        self.positions: dict[str, int] = {}
        """The highest position of a record about each node or pipeline."""

    def fork(self) -> Books:
        """Others that go on from here."""
        found = copy(self)
        found.last_of_writers = self.last_of_writers.copy()
        found.numbers, found.positions = self.numbers.copy(), self.positions.copy()
        return found

    def note(self, records: Sequence[Record]) -> None:
        """The next records, at least one."""
        positions = [record.position for record in records]
        self.first_position = min(self.first_position or positions[0], *positions)
        self.last_position = max(self.last_position, *positions)
        self.first_at = self.first_at or records[0].at
        self.begun_by = self.begun_by or records[0].writer_id
        self.last_at = next(
            (each.at for each in reversed(records) if each.event_type not in _AFTERWARDS),
            self.last_at or records[0].at,
        )
        writers = [record.writer_id for record in records]
        backwards = writers[::-1]
        for writer in set(writers):
            last = len(writers) - 1 - backwards.index(writer)
            self.last_of_writers[writer] = self.count + 1 + last
            known = self.numbers.get(writer)
            first = known[0] if known else records[writers.index(writer)].writer_position
            self.numbers[writer] = first, records[last].writer_position
        self._note_positions(records, positions)
        self.count += len(records)

    def _note_positions(self, records: Sequence[Record], positions: list[int]) -> None:
        about = [record.node_id or record.pipeline_id for record in records]
        pairs: Iterable[tuple[str, int]] = zip(about, positions, strict=True)
        if not all(map(lt, positions, positions[1:])):
            pairs = sorted(pairs, key=itemgetter(1))
        known = self.positions
        for each, position in dict(pairs).items():
            if known.get(each, 0) < position:
                known[each] = position
