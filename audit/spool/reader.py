"""Read a segment that a writer, of this process or of another, goes on appending to."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self, cast
from zlib import adler32

from audit.exceptions import SpoolCorrupted
from audit.spool.segment import (
    CLOSED,
    ENTRY,
    ENTRY_BYTES,
    HEADER_BYTES,
    Header,
    Segment,
    unpack_first,
    unpack_header,
)

_WINDOW: Final = 256
"""Entries that are looked at in one piece."""

Entry = tuple[int, int, int, int, int]


class Chunk(NamedTuple):
    """Rows that lie side by side, as they are in the file. ``first``: the first one's position."""

    first: int
    data: bytes
    lengths: Sequence[int]
    flags: Sequence[int]

    @property
    def last(self) -> int:
        return self.first + len(self.lengths) - 1

    def rows(self) -> list[bytes]:
        """One by one."""
        at, found = 0, []
        for length in self.lengths:
            found.append(self.data[at : at + length])
            at += length
        return found

    def after(self, position: int) -> Chunk | None:
        """What of it comes after a position."""
        known = position + 1 - self.first
        if known <= 0:
            return self
        if known >= len(self.lengths):
            return None
        skipped = sum(self.lengths[:known])
        return Chunk(position + 1, self.data[skipped:], self.lengths[known:], self.flags[known:])


class Reader:
    """Reads the rows of one segment; ``count`` of them were read."""

    def __init__(self, header: Header, data: mmap.mmap, path: Path | None) -> None:
        self.header, self.path = header, path
        self._map = data
        self._size = len(data)
        self._mark = header.mark
        self.count = 0
        self.kept = 0
        """So many are in the log."""

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Raises ``SpoolCorrupted`` where the file is no segment, ``FileNotFoundError``."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(fd).st_size < HEADER_BYTES:
                raise SpoolCorrupted("The file is shorter than a segment's header.")
            data = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
            return cls(unpack_header(data[:HEADER_BYTES]), data, path)
        finally:
            os.close(fd)  # the map has a descriptor of its own: one for each segment is enough

    @classmethod
    def of_memory(cls, segment: Segment) -> Self:
        """A segment of this process that has no file."""
        return cls(segment.header, cast("mmap.mmap", segment.map), None)

    @property
    def first(self) -> int:
        """The position of its first record; 0 where it is not in use yet."""
        return unpack_first(self._map)

    def read(self, rows: int, room: int) -> Chunk | None:
        """The next rows, no more than ``rows``, of about ``room`` bytes; moves on.

        None where there is none, or a damaged one: then ``skip`` tells how many to pass over.
        """
        entries = self._entries(rows, room)
        if not entries:
            return None
        offsets, lengths, checksums, flags, _ = zip(*entries, strict=True)
        begin, end = offsets[0], offsets[-1] + lengths[-1]
        data = self._map[begin:end]
        if adler32(data, self._sum_before()) != checksums[-1] or begin + sum(lengths) != end:
            whole = self._whole(entries)
            if not whole:
                return None
            lengths, flags = lengths[:whole], flags[:whole]
            data = self._map[begin : begin + sum(lengths)]
        chunk = Chunk(self.first + self.count, data, lengths, flags)
        self.count += len(lengths)
        return chunk

    def _entries(self, rows: int, room: int) -> list[Entry]:
        """The entries that are there, up to the writer's last word."""
        found: list[Entry] = []
        while len(found) < rows and room > 0:
            stop = self._size - (self.count + len(found)) * ENTRY_BYTES
            start = max(stop - min(_WINDOW, rows - len(found)) * ENTRY_BYTES, HEADER_BYTES)
            start += (stop - start) % ENTRY_BYTES
            window = list(ENTRY.iter_unpack(self._map[start:stop]))
            window.reverse()
            there = self._in_front(window, room)
            found += window[:there]
            if there < len(window) or not window:
                break
            room -= sum(entry[1] for entry in window)
        return found

    def _in_front(self, window: list[Entry], room: int) -> int:
        """How many entries are there, of about ``room`` bytes."""
        for number, (_, length, _, flags, mark) in enumerate(window):
            if mark != self._mark or flags & CLOSED or room <= 0:
                return number
            room -= length
        return len(window)

    def _entry(self, number: int) -> Entry:
        stop = self._size - number * ENTRY_BYTES
        return ENTRY.unpack(self._map[stop - ENTRY_BYTES : stop])

    def _sum_before(self) -> int:
        return self._entry(self.count - 1)[2] if self.count else self._mark

    def _whole(self, entries: list[Entry]) -> int:
        """How many of the first of them are whole."""
        before, at = self._sum_before(), entries[0][0]
        for number, (offset, length, total, _, _) in enumerate(entries):
            if offset != at or adler32(self._map[offset : offset + length], before) != total:
                return number
            before, at = total, offset + length
        return len(entries)

    def skip(self) -> int:
        """Pass over rows that cannot be read, to the next that can or to the end; how many.

        Only for segments that nobody appends to any more.
        """
        began = known = self.count
        for number, flags in self._marked():
            known = number + (not flags & CLOSED)
            if flags & CLOSED:
                break
            self.count = number
            if self.read(1, 1):
                known = number
                break
        self.count = known
        return known - began

    def _marked(self) -> Iterator[tuple[int, int]]:
        """What looks like an entry after the last that was read: its number and flags.

        Between the rows and the index only: in rows any two bytes may look like the mark (one in
        a hundred killed writers was told to have lost tens of thousands of records).
        """
        began, floor = self.count, HEADER_BYTES
        if began:
            offset, length, _, _, mark = self._entry(began - 1)
            if mark == self._mark:
                floor = offset + length
        most = (self._size - floor) // ENTRY_BYTES
        for number in range(began, most, _WINDOW):
            stop = self._size - number * ENTRY_BYTES
            window = self._map[stop - min(_WINDOW, most - number) * ENTRY_BYTES : stop]
            if not window.strip(b"\0"):
                continue  # as most of it is after a writer was killed
            entries = reversed(list(ENTRY.iter_unpack(window)))
            for index, (offset, length, _, flags, mark) in enumerate(entries):
                at = stop - (index + 1) * ENTRY_BYTES
                # Others are of a lost page of the index, or nothing.
                if mark == self._mark and floor <= offset and offset + length <= at:
                    yield number + index, flags

    @property
    def last(self) -> int:
        """The position of the last row that was read."""
        return self.first + self.count - 1

    @property
    def closed(self) -> bool:
        """Whether everything up to the writer's last word was read."""
        _, _, _, flags, mark = self._entry(self.count)
        return mark == self._mark and bool(flags & CLOSED)

    def restart(self) -> None:
        """From its first row on."""
        self.count = self.kept = 0

    def in_use(self) -> bool:
        """Whether its writer has come to it."""
        return self.first > 0

    def has_more(self, rows: int = 1) -> bool:
        """Whether so many rows wait to be read: one look at memory, no system call."""
        number = self.count + rows - 1
        if HEADER_BYTES + (number + 1) * ENTRY_BYTES > self._size:
            return False
        _, _, _, flags, mark = self._entry(number)
        return mark == self._mark and not flags & CLOSED

    def writer_lives(self) -> bool:
        """Whether the segment's writer still holds it."""
        if self.path is None:
            return True
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # removed, or nobody can tell now
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def close(self) -> None:
        """Let go of the file; memory belongs to its writer."""
        if self.path is not None:
            self._map.close()
