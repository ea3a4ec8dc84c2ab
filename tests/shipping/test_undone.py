"""A batch that is not in the log, and a spool that is not all there yet: nothing is lost."""

from __future__ import annotations

import os
import time

import pytest

from audit.exceptions import LogUnavailable
from audit.log import ship
from audit.models import PipelineEventRecord, SpoolWriter
from audit.shipping import shelf as shelves
from audit.shipping import shipper as shippers
from audit.shipping import source as sources
from audit.shipping.shipper import Shipper
from audit.spool.writer import Writer

# What a batch that is not in the log must leave as it was.


def test_a_closed_writer_whose_batch_was_refused_by_the_fence_is_sent_again(
    emit, drain, shipper, shipped, books, sql, spool_dir
):
    moved, closed = Writer(), Writer()
    emit(2, of=moved)
    drain()
    emit(10, of=moved)
    emit(12, of=closed)
    ended = closed.id
    closed.close()
    sql("UPDATE bamboo_audit_spoolwriter SET position = 5 WHERE writer_id = %s", moved.id)
    drain()
    assert shipped(ended) == list(range(1, 13))
    assert (books(ended).position, books(ended).ended) == (12, "closed")
    moved.close()


def test_a_closed_writer_whose_batch_failed_is_sent_again(
    emit, drain, shipper, shipped, books, monkeypatch
):
    monkeypatch.setattr(shippers, "BATCH_ROWS", 60)
    busy, closed = Writer(), Writer()
    emit(50, of=closed)
    ended = closed.id
    closed.close()
    append = ship.append

    def away(*args):
        monkeypatch.setattr(ship, "append", append)
        raise LogUnavailable("away")

    monkeypatch.setattr(ship, "append", away)
    with pytest.raises(LogUnavailable):
        shipper.cycle(look=True)
    emit(500, of=busy)
    drain()
    assert shipped(ended) == list(range(1, 51))
    assert (books(ended).position, books(ended).ended) == (50, "closed")
    busy.close()


def test_times_are_as_they_were_after_a_batch_that_failed(emit, drain, shipper, fresh, monkeypatch):
    append = ship.append

    def away(*args):
        monkeypatch.setattr(ship, "append", append)
        raise LogUnavailable("away")

    for _ in range(5):
        emit(1)
        time.sleep(0.01)
    monkeypatch.setattr(ship, "append", away)
    with pytest.raises(LogUnavailable):
        shipper.cycle(look=True)
    drain()
    times = PipelineEventRecord.objects.filter(writer_id=fresh.id).values_list("occurred_at")
    assert len(set(times)) == 5


def test_records_in_memory_wait_for_those_in_the_folder(
    emit, drain, shipper, shipped, gaps, fresh, using, spool_dir, monkeypatch
):
    """The disk was full: this process ships its memory, another one the folder, in any order."""
    monkeypatch.setattr(sources, "HOLE_PATIENCE", (0.2, 600.0))
    emit(20)
    monkeypatch.setattr(fresh, "_in_folder", lambda header, size: None)
    emit(4, data={"text": "x" * 400_000})
    monkeypatch.setattr(shelves, "WAITING", 0.0)
    monkeypatch.setattr(shelves, "writer", fresh)
    memory = Shipper(None, using)
    for _ in range(3):
        memory.cycle(look=True)
        time.sleep(0.15)
    assert shipped() == []
    monkeypatch.setattr(shelves, "writer", Writer())
    shipper.drain(time.monotonic() + 5)
    before = shipped()
    monkeypatch.setattr(shelves, "writer", fresh)
    memory.drain(time.monotonic() + 5)
    memory.close()
    assert len(before) >= 20
    assert shipped() == list(range(1, 25))
    assert gaps(fresh.id) == []


def test_out_of_descriptors_no_segment_is_set_aside(emit, drain, shipped, spool_dir, monkeypatch):
    from audit.spool.reader import Reader

    of_file, raised = Reader.of_file, []

    def failing(path):
        if len(raised) < 3:
            raised.append(path)
            raise OSError(24, "Too many open files")
        return of_file(path)

    emit(3)
    monkeypatch.setattr(Reader, "of_file", failing)
    for _ in range(5):
        drain()
    assert shipped() == [1, 2, 3]
    assert not list(spool_dir.glob("*.bad"))


def test_few_segments_are_open_at_once(emit, drain, shipper, shipped, monkeypatch):
    monkeypatch.setattr(shelves, "MOST_OPEN", 3)
    many = [Writer() for _ in range(8)]
    for one in many:
        emit(2, of=one)
    for _ in range(10):
        shipper.cycle(look=True)
        opened = sum(len(source.readers) for source in shipper.shelf.sources.values())
        assert opened <= 3
        for one in many:
            if shipped(one.id) and one.position:
                one.close()
    ids = {row.writer_id for row in SpoolWriter.objects.filter(pid=os.getpid())}
    assert len(ids) >= 8
