"""Segments: what was put can be read, by others too, and whatever is damaged costs only itself."""

from __future__ import annotations

import os
import stat
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.exceptions import SpoolCorrupted
from audit.spool import segment as segments
from audit.spool.reader import Reader
from audit.spool.segment import (
    CLOSED,
    ENTRY,
    ENTRY_BYTES,
    HEADER_BYTES,
    Header,
    Segment,
    new_mark,
)


def header(mark=None):
    return Header(uuid.uuid4(), 1, mark or new_mark(), {"host": "here", "pid": 7})


@pytest.fixture(params=["mapped", "plain", "memory"])
def make(request, tmp_path):
    """A segment of each make, in use from position 1 on, and a reader of it."""
    made = []

    def build(size=1 << 16, first=1):
        path = None if request.param == "memory" else tmp_path / f"{len(made)}.seg"
        segment = Segment(header(), size, path, mapped=request.param == "mapped")
        segment.begin(first)
        reader = Reader.of_memory(segment) if path is None else Reader.of_file(path)
        made.append((segment, reader))
        return segment, reader

    yield build
    for segment, reader in made:
        reader.close()
        segment.close()


def read_all(reader):
    rows = []
    while chunk := reader.read(100, 1 << 20):
        rows += zip(range(chunk.first, chunk.last + 1), chunk.rows(), chunk.flags, strict=True)
    return rows


def test_what_was_put_is_read_once_and_in_order(make):
    segment, reader = make(first=41)
    assert reader.read(10, 1000) is None
    for number in range(300):
        assert segment.put(b"row %d" % number, number % 3)
    assert read_all(reader) == [(41 + n, b"row %d" % n, n % 3) for n in range(300)]
    assert not reader.has_more()
    segment.put(b"one more", 0)
    assert reader.has_more()
    assert read_all(reader) == [(341, b"one more", 0)]


def test_a_header_says_who_writes(make):
    segment, reader = make()
    assert reader.header == segment.header
    assert reader.first == 1


def test_a_segment_that_is_not_in_use_says_so(tmp_path):
    segment = Segment(header(), 1 << 16, tmp_path / "a.seg")
    reader = Reader.of_file(tmp_path / "a.seg")
    assert not reader.in_use()
    segment.begin(5)
    assert reader.in_use()
    reader.close()
    segment.close()


def test_it_is_full_before_rows_and_index_meet(make):
    segment, reader = make(size=4096)
    count = 0
    while segment.put(b"x" * 10, 0):
        count += 1
    assert 130 < count < 140
    assert not segment.put(b"", 0)
    assert segment.put(b"", CLOSED), "there is room for the last word"
    assert len(read_all(reader)) == count
    assert reader.closed
    assert reader.last == count


def test_a_row_larger_than_usual_gets_a_segment_of_its_size(tmp_path):
    row = b"x" * 3_000_000
    segment = Segment(header(), Segment.room_for(len(row)), tmp_path / "big.seg")
    segment.begin(1)
    assert segment.put(row, 0)
    assert not segment.put(b"", 0)
    reader = Reader.of_file(tmp_path / "big.seg")
    assert read_all(reader) == [(1, row, 0)]
    assert segment.put(b"", CLOSED)
    reader.close()
    segment.close()


def test_reading_is_bounded_by_rows_and_by_bytes(make):
    segment, reader = make()
    for _ in range(100):
        segment.put(b"x" * 100, 0)
    assert len(reader.read(30, 1 << 20).lengths) == 30
    assert len(reader.read(100, 1_000).lengths) == 10
    assert len(reader.read(1_000, 1 << 20).lengths) == 60


def test_files_are_private(tmp_path):
    old = os.umask(0)
    try:
        segment = Segment(header(), 1 << 16, tmp_path / "a.seg")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.seg").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.seg"], "no draft stays behind"
    segment.close()


def test_the_file_is_allocated_before_it_is_mapped(tmp_path):
    segment = Segment(header(), 1 << 20, tmp_path / "a.seg")
    assert (tmp_path / "a.seg").stat().st_blocks * 512 >= 1 << 20
    segment.close()


def test_a_writers_life_shows_in_its_lock(tmp_path):
    segment = Segment(header(), 1 << 16, tmp_path / "a.seg")
    reader = Reader.of_file(tmp_path / "a.seg")
    assert reader.writer_lives()
    segment.close()
    assert not reader.writer_lives()
    reader.close()


def fill(tmp_path, rows):
    segment = Segment(header(), 1 << 18, tmp_path / "a.seg")
    segment.begin(1)
    for each in rows:
        assert segment.put(each, 0)
    segment.close()
    return tmp_path / "a.seg"


def damage(path, at, data):
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(data)


def survivors(path):
    """Positions that can be read, and how many were passed over on the way."""
    reader, found, lost = Reader.of_file(path), [], 0
    while True:
        chunk = reader.read(50, 1 << 20)
        if chunk is None:
            skipped = reader.skip()
            if not skipped:
                break
            lost += skipped
            continue
        found += range(chunk.first, chunk.last + 1)
    reader.close()
    return found, lost


def test_a_lost_page_of_rows_costs_the_rows_in_it(tmp_path):
    path = fill(tmp_path, [b"%0100d" % n for n in range(500)])
    damage(path, 8192, bytes(4096))
    found, lost = survivors(path)
    assert lost == 500 - len(found)
    assert 40 <= lost <= 43, "4096 bytes are 41 rows of a hundred"
    assert found[-1] == 500


def test_a_lost_page_of_the_index_costs_what_it_told_of(tmp_path):
    path = fill(tmp_path, [b"%0100d" % n for n in range(1000)])
    damage(path, -8192, bytes(4096))
    found, lost = survivors(path)
    assert lost == 1000 - len(found)
    assert lost == 4096 // segments.ENTRY_BYTES + 1, "and the one that goes on from it"
    assert found[:256] == list(range(1, 257))
    assert found[-1] == 1000


@given(st.integers(HEADER_BYTES, (1 << 16) - 1), st.binary(min_size=1, max_size=64))
def test_no_damage_makes_a_row_another_one(tmp_path_factory, at, noise):
    path = tmp_path_factory.mktemp("damaged") / "a.seg"
    segment = Segment(header(), 1 << 16, path)
    segment.begin(1)
    rows = [b"row %d " % n * 5 for n in range(60)]
    for each in rows:
        segment.put(each, 0)
    segment.close()
    damage(path, at, noise[: (1 << 16) - at])
    reader = Reader.of_file(path)
    for _ in range(200):
        chunk = reader.read(50, 1 << 20)
        if chunk is None:
            if not reader.skip():
                break
            continue
        for position, read in enumerate(chunk.rows(), chunk.first):
            assert read == rows[position - 1]
    reader.close()


def test_what_looks_like_an_entry_in_a_row_is_none(make):
    segment, reader = make()
    mark = segment.header.mark
    forged = segments.ENTRY.pack(HEADER_BYTES, 4, 0, 0, mark % 0xFFFF + 1)
    for _ in range(50):
        segment.put(forged * 4, 0)
    assert len(read_all(reader)) == 50


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 5000, bytes(5000)])
def test_what_is_no_segment_is_refused(tmp_path, content):
    (tmp_path / "a.seg").write_bytes(content)
    with pytest.raises(SpoolCorrupted):
        Reader.of_file(tmp_path / "a.seg")


def test_a_damaged_header_is_refused(tmp_path):
    path = fill(tmp_path, [b"x"])
    damage(path, 20, b"\xff\xff")
    with pytest.raises(SpoolCorrupted, match="damaged"):
        Reader.of_file(path)


def test_a_link_is_not_followed(tmp_path):
    fill(tmp_path, [b"x"])
    (tmp_path / "b.seg").symlink_to(tmp_path / "a.seg")
    with pytest.raises(OSError, match="symbolic"):
        Reader.of_file(tmp_path / "b.seg")


def test_a_row_whose_entry_was_not_announced_counts(make):
    """A signal's exception came right after the entry went in."""
    segment, reader = make()
    segment.put(b"one", 0)
    before = segment.end, segment.index, segment._sum
    segment.put(b"two", 0)
    segment.end, segment.index, segment._sum = before
    assert segment.catch_up() == 2
    segment.put(b"three", 0)
    assert [each for _, each, _ in read_all(reader)] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("place", [(0, None), (0, 0), (600, 10), (None, None)])
def test_a_damaged_last_entry_costs_its_own_row_only(make, place):
    segment, reader = make()
    for number in range(5):
        segment.put(b"row%03d" % number * 40, 0)
    entry = segment.map[segment.index : segment.index + ENTRY_BYTES]
    offset, length, total, flags, mark = ENTRY.unpack(entry)
    at, size = place
    damaged = ENTRY.pack(
        offset if at is None else at, length if size is None else size, total ^ 1, flags, mark
    )
    segment.map[segment.index : segment.index + ENTRY_BYTES] = damaged
    assert [row for _, row, _ in read_all(reader)] == [b"row%03d" % n * 40 for n in range(4)]
