"""One file of the spool: a header, rows from the left, and their index from the right.

    header   512 bytes: who writes it, checksummed, and the position of the first record
    rows     one after the other, as COPY takes them
    zeros    the file is allocated in one piece beforehand
    index    the last entry first: offset, length, checksum and flags of each row

A row's entry goes in after the row: once it can be read, the row is whole. Rows lie side by
side, so that a shipper sends thousands of them as they are, in one piece; and entries have
fixed places, so that a reader knows what is missing after a lost page. A checksum goes on from
the one before: one pass over many rows checks them all, and each can be checked alone. It is
Adler's, which needs no table that would have to be fetched: the processor's cache is empty when the
engine comes back from a query.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import adler32

import orjson

from audit.exceptions import SpoolCorrupted
from audit.spool.folder import DRAFT
from audit.spool.forks import barred

HEADER_BYTES: Final = 512
SMALLEST: Final = 1 << 20
LARGEST: Final = 8 << 20

ROOTLESS: Final = 1
"""Flag: the record's run is not known."""
FAILED: Final = 2
"""Flag: a node's state became FAILED, or its error was ignored; the engine knows more."""
CLOSED: Final = 4
"""Flag: no record, but the writer's last word."""

_FILE_MAGIC: Final = b"bamboo-audit 1\n\0"
_HEADER: Final = struct.Struct("<16s16sQHH")
_FIRST: Final = struct.Struct("<QQ")
_FIRST_AT: Final = HEADER_BYTES - _FIRST.size
_CHECKED: Final = _FIRST_AT - 4
ENTRY: Final = struct.Struct("<IIIHH")
"""Offset, length, checksum, flags, and the segment's mark, which is never zero."""
ENTRY_BYTES: Final = ENTRY.size
_AT_ONCE: Final = 256 << 10
"""Bytes whose pages are touched in one go: a fork waits for that, some tenths of a millisecond."""
PIECE: Final = 4_096
"""zlib gives up the GIL for more than 5 KB at once, which costs up to 5 ms to get back."""

_pack_entry: Final = ENTRY.pack


class Header(NamedTuple):
    """What a segment says of itself."""

    writer_id: uuid.UUID
    sequence: int
    mark: int
    about: dict[str, Any]
    """Of the writer's process: host, pid, kind, started_at, boot."""


def new_mark() -> int:
    """Drawn for each segment, so that what is in a row is no entry of another's index."""
    return secrets.randbelow(0xFFFF) + 1


def pack_header(header: Header) -> bytes:
    """The header without ``first``, which is not known when a segment is made beforehand."""
    about = orjson.dumps(header.about)
    if len(about) > _CHECKED - _HEADER.size:
        about = b"{}"
    front = _HEADER.pack(
        _FILE_MAGIC, header.writer_id.bytes, header.sequence, header.mark, len(about)
    )
    body = (front + about).ljust(_CHECKED, b"\0")
    return body + struct.pack("<I", adler32(body))


def unpack_header(raw: bytes) -> Header:
    """Raises ``SpoolCorrupted`` where that is no header of ours."""
    if len(raw) < HEADER_BYTES or not raw.startswith(_FILE_MAGIC):
        raise SpoolCorrupted("The file does not begin as a segment does.")
    body, (checksum,) = raw[:_CHECKED], struct.unpack_from("<I", raw, _CHECKED)
    if adler32(body) != checksum:
        raise SpoolCorrupted("The segment's header is damaged.")
    _, writer_id, sequence, mark, length = _HEADER.unpack_from(body)
    about = orjson.loads(body[_HEADER.size : _HEADER.size + length])
    return Header(uuid.UUID(bytes=writer_id), sequence, mark, about)


def unpack_first(data: Any) -> int:
    """The position of a segment's first record; 0 where the segment is not in use yet."""
    first, complement = _FIRST.unpack(data[_FIRST_AT:HEADER_BYTES])
    return int(first) if first ^ complement == 0xFFFFFFFFFFFFFFFF else 0


def checksum(row: bytes, before: int) -> int:
    """Going on from the row before, without giving up the GIL."""
    for at in range(0, len(row), PIECE):
        before = adler32(row[at : at + PIECE], before)
    return before


class PlainFile:
    """A file that is written by system calls, with as much of a map's ways as appending needs."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, size, access=mmap.ACCESS_READ)

    def __getitem__(self, where: Any) -> Any:
        return self._map[where]

    def __setitem__(self, where: slice, data: bytes) -> None:
        at: int = where.start
        while data:
            written = os.pwrite(self._fd, data, at)
            at, data = at + written, data[written:]

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._map.close()


class Segment:
    """A segment that this process appends to, in a file or, without one, in memory.

    ``end`` is where the next row goes, ``index`` where the last entry is. Writing to ``map`` is a
    copy into mapped memory, which never gives up the GIL; on file systems where a mapped page
    may turn out to have no block on the disk (``mapped=False``) it is a system call.
    """

    __slots__ = ("_mark", "_sum", "end", "fd", "first", "header", "index", "map", "path", "size")

    def __init__(
        self, header: Header, size: int, path: Path | None = None, *, mapped: bool = True
    ) -> None:
        self.header, self.size, self.path = header, size, path
        self._mark, self._sum = header.mark, header.mark
        self.end, self.index = HEADER_BYTES, size
        self.first = 0
        self.fd = -1
        self.map: mmap.mmap | PlainFile
        if path is None:
            self.map = mmap.mmap(-1, size)
            self.map[0:_FIRST_AT] = pack_header(header)
        else:
            self._create(path, mapped)

    def _create(self, path: Path, mapped: bool) -> None:
        # Under another name until it is whole and locked: the lock says that its writer lives.
        draft = path.with_suffix(DRAFT)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with barred:
                self.fd = os.open(draft, flags, 0o600)
                _open.add(self)
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mapped:
                # Not ftruncate: writing to a hole of a mapped file on a full disk is SIGBUS.
                os.posix_fallocate(self.fd, 0, self.size)
            else:
                os.ftruncate(self.fd, self.size)
            with barred:  # a map has a descriptor of its own
                self.map = (mmap.mmap if mapped else PlainFile)(self.fd, self.size)
            self.map[0:_FIRST_AT] = pack_header(self.header)
            draft.rename(path)
        except BaseException:
            self.close()
            draft.unlink(missing_ok=True)
            raise

    def fault_in(self) -> None:
        """Touch all of its pages before they are needed, without the GIL.

        The first touch of a page takes microseconds of whoever does it: 0.6 for each record.
        Bit by bit: a map cannot be closed while it is written to, and so not in a child.
        """
        if not isinstance(self.map, mmap.mmap):
            return
        with suppress(OSError), open("/dev/zero", "rb", buffering=0) as zeros:
            for begin in range(HEADER_BYTES, self.size, _AT_ONCE):
                with (
                    barred,
                    memoryview(self.map) as whole,
                    whole[begin : begin + _AT_ONCE] as empty,
                ):
                    zeros.readinto(empty)

    @staticmethod
    def room_for(row: int) -> int:
        """The size of a segment that holds a row of so many bytes and the last word."""
        return HEADER_BYTES + row + 2 * ENTRY_BYTES

    def begin(self, first: int) -> None:
        """From now on it is in use; ``first`` is the position of the next record."""
        self.first = first
        self.map[_FIRST_AT:HEADER_BYTES] = _FIRST.pack(first, first ^ 0xFFFFFFFFFFFFFFFF)

    def put(self, row: bytes, flags: int) -> bool:
        """Append a row, and then what makes it count. False where it does not fit."""
        end, index, length = self.end, self.index, len(row)
        stop, entry_at = end + length, index - ENTRY_BYTES
        if stop > entry_at - ENTRY_BYTES and not flags & CLOSED:
            return False
        total = adler32(row, self._sum) if length <= PIECE else checksum(row, self._sum)
        entry = _pack_entry(end, length, total, flags, self._mark)
        mapped = self.map
        mapped[end:stop] = row
        mapped[entry_at:index] = entry
        self.end, self.index, self._sum = stop, entry_at, total
        return True

    def catch_up(self) -> int:
        """The position of the last row. A signal's exception may have come between a row's entry
        and the moment when ``end`` and ``index`` moved on; then they do now.
        """
        before = self.map[self.index - ENTRY_BYTES : self.index]
        offset, length, total, _, mark = ENTRY.unpack(before)
        if mark == self._mark:
            self.end, self.index, self._sum = offset + length, self.index - ENTRY_BYTES, total
        return self.first - 1 + (self.size - self.index) // ENTRY_BYTES

    def sync(self) -> None:
        """Have the disk keep what was put so far, also through a power loss."""
        if self.fd >= 0:
            self.map.flush()
            os.fsync(self.fd)

    def close(self) -> None:
        """Let go of the file: from now on it is a dead writer's, or nobody's."""
        with barred:
            _open.discard(self)
            if self.fd >= 0:
                fd, self.fd = self.fd, -1
                os.close(fd)
                with suppress(AttributeError):  # cut off before there was one
                    self.map.close()


_open: Final[set[Segment]] = set()


def _after_fork() -> None:
    """In the child: the files are its parent's, which alone may write to them and lock them."""
    for segment in list(_open):
        with suppress(OSError, BufferError):
            segment.close()


os.register_at_fork(after_in_child=_after_fork)
