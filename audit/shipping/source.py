"""One writer's segments, read in order, from where the log has its records."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from audit.spool import folder
from audit.spool.about import boot
from audit.spool.reader import Chunk, Reader

HOLE_PATIENCE: Final = (2.0, 600.0)
"""Seconds before records are told to be missing, where their writer is dead, and where it lives:
another shipper may have them (those that are in a process's memory are shipped by that process),
and a folder that is written to may be listed without a file that is there."""
NEVER: Final = datetime.datetime.min.replace(tzinfo=datetime.UTC)
DAMAGED: Final = "segment damaged or removed"
WENT_BACK: Final = "the log's database went back to an earlier time"
LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at whether a writer still lives: that is a system call."""


class Hole(NamedTuple):
    """Positions that a writer's segments do not have; ``last`` is None where nobody knows."""

    first: int
    last: int | None
    why: str


class Source:
    """A writer as its shipper sees it: segments, and how far each was read and kept."""

    def __init__(
        self,
        writer_id: uuid.UUID,
        newest: Callable[[uuid.UUID], int],
        elsewhere: Callable[[uuid.UUID, int], bool],
    ) -> None:
        self.writer_id = writer_id
        self._newest, self._elsewhere = newest, elsewhere
        self.readers: list[Reader] = []
        self.position = 0
        """Up to here the writer's records are in the log."""
        self.reached = 0
        """Up to here they were read."""
        self.last_at = self._kept_at = NEVER
        """When the last of them occurred, in the database's time."""
        self._waits_at, self._waits_since = -1, 0.0
        self.ended = ""
        self.went_back = False
        """Whether the log's database went back to an earlier time."""
        self._lives = True
        self._looked_at = 0.0
        self._told: set[Hole] = set()

    def add(self, reader: Reader) -> None:
        """Another segment of this writer."""
        self.readers.append(reader)
        self.readers.sort(key=lambda each: each.header.sequence)

    def seek(self, position: int, last_at: datetime.datetime | None) -> None:
        """Begin again after ``position``, which is what the log has."""
        self.position = self.reached = position
        self.last_at = self._kept_at = last_at or NEVER
        self.ended = ""
        for reader in self.readers:
            reader.restart()

    def read(self, rows: int, room: int) -> tuple[list[Chunk], list[Hole]]:
        """The next rows after ``reached``, in order, and the holes before and between them.

        No more than ``rows``, of about ``room`` bytes.
        """
        chunks: list[Chunk] = []
        holes: list[Hole] = []
        why = WENT_BACK if self.went_back else DAMAGED
        for index, reader in enumerate(self.readers):
            # Asked first: what was appended before the answer is seen by reading after it.
            over = self._is_over(index)
            if reader.in_use() and reader.first > self.reached + 1:
                if not self._is_missing(reader):
                    break
                holes.append(Hole(self.reached + 1, reader.first - 1, why))
                self.reached = reader.first - 1
            while rows > 0 and room > 0:
                found = reader.read(rows, room)
                if found is None:
                    if not over or not reader.skip():
                        break
                    if reader.last > self.reached:
                        holes.append(Hole(self.reached + 1, reader.last, why))
                        self.reached = reader.last
                    continue
                found = found.after(self.reached)
                if found is None:
                    continue  # it is in the log already
                self.reached = found.last
                chunks.append(found)
                rows -= len(found.lengths)
                room -= len(found.data)
            if rows <= 0 or room <= 0 or not over:
                break
        if self._ends():
            last = self.readers[-1]
            if not last.closed and last.header.about.get("boot") not in ("", None, boot()):
                holes.append(
                    Hole(self.reached + 1, None, "the machine went down before the writer closed")
                )
        new = [hole for hole in holes if hole not in self._told]
        self._told.update(new)
        return chunks, new

    def _is_missing(self, reader: Reader) -> bool:
        """Whether nobody has the records before this segment."""
        now = time.monotonic()
        if self._waits_at != self.reached:
            self._waits_at, self._waits_since = self.reached, now
        if self.went_back:
            return True  # the log had them once; what is left was found again
        dead, alive = HOLE_PATIENCE
        waited = now - self._waits_since
        return waited >= (
            alive if self._lives and reader.path is not None else dead
        ) and not self._elsewhere(self.writer_id, reader.header.sequence)

    @property
    def waits(self) -> bool:
        """Whether it waits for records that another shipper may have: the log will tell."""
        return self._waits_at == self.reached == self.position

    def _is_over(self, index: int) -> bool:
        """Whether nobody appends to this segment any more."""
        if self.readers[index].closed:
            return True
        if any(later.in_use() for later in self.readers[index + 1 :]):
            return True
        if self.readers[index].path is None:
            return False  # this process's own, in memory
        now = time.monotonic()
        if self._lives and now - self._looked_at >= LOOK_AGAIN:
            self._looked_at = now
            self._lives = any(each.writer_lives() for each in self.readers) or (
                # It lets go of a segment only after it has made the next one, which is not
                # found yet: asked after the lock, since it may do both in between.
                self._newest(self.writer_id) > self.readers[-1].header.sequence
            )
        return not self._lives

    def _ends(self) -> bool:
        """Whether the writer goes on no more, and everything of it was read."""
        return bool(
            self.readers
            and not self.ended
            and (self.readers[-1].closed or any(r.closed for r in self.readers) or not self._lives)
            and not self.has_more()
        )

    def has_more(self, rows: int = 1) -> bool:
        """Whether so many rows wait in one segment: looks at memory only."""
        return any(reader.has_more(rows) for reader in self.readers)

    def keep(self) -> None:
        """What was read is in the log."""
        self.position, self._kept_at = self.reached, self.last_at
        for reader in self.readers:
            reader.kept = reader.count

    def undo(self) -> None:
        """What was read is not in the log; read it again."""
        self.reached, self.last_at = self.position, self._kept_at
        for reader in self.readers:
            reader.count = reader.kept

    def ending(self) -> str:
        """``closed`` or ``died`` once, when all that the writer left is in the log; else ""."""
        if not self._ends() or self.reached != self.position:
            return ""
        self.ended = "closed" if any(reader.closed for reader in self.readers) else "died"
        return self.ended

    def finished(self) -> list[Reader]:
        """The segments that are over and in the log; they are this source's no more."""
        done = []
        # The last one only with its writer. One that died between the two questions was left
        # without segments otherwise, and so without an end: ten minutes later it was "lost".
        while self.readers and (self.ended or (len(self.readers) > 1 and self._is_over(0))):
            reader = self.readers[0]
            if reader.has_more():
                break
            done.append(self.readers.pop(0))
        return done


def mark_shipped(reader: Reader) -> None:
    """Give a segment's file the name of one whose records are in the log, and the time of that."""
    if reader.path is None:
        return
    if not reader.in_use():
        # Made beforehand by a writer that was killed before it came to it.
        reader.path.unlink()
    else:
        name = folder.name_of(reader.header.writer_id, reader.header.sequence, reader.last)
        rename_now(reader.path, reader.path.with_name(name))


def rename_now(path: Path, to: Path) -> None:
    """Rename a file and set its time to now."""
    path.rename(to)
    to.touch()
