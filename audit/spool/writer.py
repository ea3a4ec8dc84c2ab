"""The writer: one per process. It numbers records 1, 2, 3… and appends them to its segments.

``append`` runs on the engine's thread. It takes one lock, copies bytes into mapped memory, and
neither calls the system nor gives up the GIL, which another Python thread would keep for 5 ms;
only a new segment, once in some megabytes, does, where none was prepared.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import uuid
from collections import deque
from time import time_ns
from typing import Final

from audit import conf
from audit.capture.row import FRONT_BYTES, front
from audit.exceptions import SpoolFull, SpoolUnusable
from audit.spool import folder
from audit.spool.about import about
from audit.spool.bell import Bell
from audit.spool.segment import (
    CLOSED,
    LARGEST,
    SMALLEST,
    Header,
    Segment,
    new_mark,
)

logger = logging.getLogger("audit")

MEMORY_BYTES: Final = 16 << 20
"""What is kept in memory at most where the folder cannot be written."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
LOOK_FOR_ROOM: Final = 1.0
"""Seconds for which a spool that is full is taken to be full still."""
RETRY_FOLDER: Final = 10.0
"""Seconds after which a folder that could not be written is tried again."""
NEVER: Final = 1 << 63
"""No position is so high."""


class Writer:
    """Appends this process's records to the spool; a forked child is a writer of its own."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # Reentrant: a signal handler or a __del__ may send an event in mid-append.
        self._lock = threading.RLock()
        self._late: deque[tuple[bytes, int]] = deque()
        self.in_memory: deque[Segment] = deque()
        """Segments without a file, which this process's own shipper reads."""
        self.bell = Bell()
        """Rung when something is to be done beside the engine's thread."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        """As another writer, of the same process: other threads wait for the lock as before."""
        self.id = uuid.uuid4()
        self._id = self.id.bytes
        self.position = 0
        self._latest = 0
        self._busy = False
        self._unsure = False
        """Whether an exception may have come between a row and its number."""
        self._segment: Segment | None = None
        self._prepared: Segment | None = None
        self._sequence = 0
        self._size = SMALLEST
        self._sync = False
        self._folder_bad_until = self._full_until = 0.0
        self._full = ""
        self.complaint = ""
        """Why records are kept in memory; "" where they are not."""
        self._rung = False
        self.ring_at = NEVER
        """The position with which it is rung once, set by whoever wants to know."""

    # On the engine's thread.

    def append(self, rest: bytes, flags: int = 0) -> None:
        """Append one record: ``row.rest`` of it. On return a killed process no longer loses it.

        Raises:
            SpoolFull: there is no room for it, on the disk or in memory.
        """
        with self._lock:
            if self._busy:
                # This very thread is in here already. After what it is doing.
                self._late.append((rest, flags))
                return
            try:
                self._busy = True
                self._put(rest, flags)
                while self._late:
                    self._put(*self._late[0])
                    self._late.popleft()
            finally:
                self._busy = False

    def _put(self, rest: bytes, flags: int) -> None:
        segment = self._segment
        if segment is None:
            segment = self._next(len(rest))
        elif self._unsure:
            self.position = segment.catch_up()
        self._unsure = True
        now = time_ns() // 1_000
        if now > self._latest:
            self._latest = now
        row = front(self._latest, self.position + 1, self._id) + rest
        while not segment.put(row, flags):
            segment = self._next(len(row))
        self.position += 1
        self._unsure = False
        if self._sync:
            segment.sync()
        if segment.end << 1 > segment.size and not self._rung:
            self._rung = True
            self.bell.ring()
        if self.position >= self.ring_at:
            self.ring_at = NEVER
            self.bell.ring()

    def _next(self, row: int) -> Segment:
        """Go on in another segment."""
        room = Segment.room_for(row + FRONT_BYTES)
        segment, self._prepared = self._prepared, None
        if segment is not None and segment.size < room:
            _discard(segment)
            segment = None
        if segment is None:
            segment = self._make(max(self._size, room))
        segment.begin(self.position + 1)
        before, self._segment = self._segment, segment
        if before is not None:
            before.close()
        self._sync = segment.path is not None and conf.get("SPOOL_SYNC")
        self._size = min(self._size * 2, LARGEST)
        self._rung = False
        self.bell.ring()
        return segment

    def _make(self, size: int) -> Segment:
        """A new segment, in the folder where that can be, else in memory."""
        # A new number for each try: an exception from a signal may leave a draft of this one.
        self._sequence += 1
        header = Header(self.id, self._sequence, new_mark(), about())
        segment = self._in_folder(header, size)
        if segment is None:
            if sum(each.size for each in self.in_memory) + size > MEMORY_BYTES:
                raise SpoolFull(f"{self.complaint} And the memory set aside for that is full.")
            segment = Segment(header, size)
            self.in_memory.append(segment)
        return segment

    def _in_folder(self, header: Header, size: int) -> Segment | None:
        now = time.monotonic()
        if now < self._full_until:
            raise SpoolFull(
                self._full
            )  # looking takes milliseconds, and it is asked for each event
        if now < self._folder_bad_until:
            return None
        try:
            path = folder.place()
            mapped = folder.ready(path)
            folder.make_room(path, size)
            name = path / folder.name_of(header.writer_id, header.sequence)
            try:
                segment = Segment(header, size, name, mapped=mapped)
            except OSError as error:
                # What is in the log already goes first, as where SPOOL_MAX_BYTES is reached.
                if error.errno not in _FULL or not folder.drop_shipped(path):
                    raise
                segment = Segment(header, size, name, mapped=mapped)
        except SpoolFull as error:
            # Not in memory instead: it is small, and the disk is as full as the host allowed.
            self._full_until, self._full = now + LOOK_FOR_ROOM, str(error)
            raise
        except (OSError, SpoolUnusable) as error:
            self._folder_bad_until = time.monotonic() + RETRY_FOLDER
            self._complain(str(error))
            return None
        self.complaint = ""
        return segment

    def _complain(self, complaint: str) -> None:
        if complaint == self.complaint:
            return
        self.complaint = complaint
        logger.error(
            "bamboo-audit keeps records in memory (%d MB at most), where a killed process loses "
            "them: %s Set BAMBOO_AUDIT['SPOOL_DIR'] to a local folder with room.",
            MEMORY_BYTES >> 20,
            complaint,
        )

    # Beside it.

    @property
    def in_use(self) -> tuple[uuid.UUID, int]:
        """Which segment it appends to: writer and number, 0 before the first."""
        segment = self._segment
        return self.id, segment.header.sequence if segment is not None else 0

    def prepare(self) -> None:
        """Make the next segment before it is needed: allocating one takes milliseconds."""
        with self._lock:
            segment = self._segment
            if (
                self._busy
                or segment is None
                or segment.path is None
                or self._prepared is not None
                or segment.end << 1 <= segment.size
            ):
                return
            self._sequence += 1
            header, size = Header(self.id, self._sequence, new_mark(), about()), self._size
        # Without the lock, which the engine's thread would wait for; and only where there is room
        # for one more, which it may need before this one is there.
        try:
            folder.make_room(folder.place(), 2 * size)
            prepared = self._in_folder(header, size)
        except (SpoolFull, OSError):
            return
        if prepared is None:
            return
        prepared.fault_in()
        if not self._keep(prepared):
            _discard(prepared)

    def _keep(self, prepared: Segment) -> bool:
        """Whether it will be the next segment; it may have been needed before it was there."""
        with self._lock:
            segment, header = self._segment, prepared.header
            if (
                self._prepared is not None
                or segment is None
                or segment.header.writer_id != header.writer_id
                or segment.header.sequence > header.sequence
            ):
                return False
            self._prepared = prepared
            return True

    def close(self) -> None:
        """Say the last word: nothing comes after it. An event after it begins a new writer."""
        with self._lock:
            prepared, segment = self._prepared, self._segment
            if segment is not None and not self._busy:
                segment.catch_up()
                segment.put(b"", CLOSED)
                segment.close()
            if prepared is not None:
                _discard(prepared)
            self._begin_anew()

    def let_go(self, segment_id: tuple[uuid.UUID, int]) -> None:
        """A segment in memory was shipped: forget it. Writer and sequence tell which."""
        with self._lock:
            self.in_memory = deque(
                each
                for each in self.in_memory
                if (each.header.writer_id, each.header.sequence) != segment_id
            )


def _discard(segment: Segment) -> None:
    """A segment that was made beforehand, and is not needed."""
    segment.close()
    if segment.path is not None:
        segment.path.unlink(missing_ok=True)


writer: Final = Writer()
os.register_at_fork(after_in_child=writer._begin)
