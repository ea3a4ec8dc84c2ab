"""From the spool to the log: everything, once, in order, whatever happens on the way."""

from __future__ import annotations

import datetime
import logging
import os
import time
import uuid

import pytest

from audit.exceptions import LogUnavailable
from audit.log import link as links
from audit.log import ship
from audit.models import PipelineEventRecord, SpoolWriter
from audit.shipping import shelf as shelves
from audit.shipping import shipper as shippers
from audit.shipping import source as sources
from audit.shipping.shipper import Shipper
from audit.shipping.source import Source
from audit.spool import folder
from audit.spool import writer as writers
from audit.spool.writer import Writer


def test_everything_is_shipped_once_and_in_order(emit, drain, shipped, books, fresh):
    emit(3_000)
    drain()
    assert shipped() == list(range(1, 3_001))
    emit(10)
    drain()
    drain()
    assert shipped() == list(range(1, 3_011))
    row = books()
    assert (row.position, row.missing, row.ended, row.pid) == (3_010, 0, "", os.getpid())
    assert (
        row.last_at
        == PipelineEventRecord.objects.get(writer_id=fresh.id, writer_position=3_010).occurred_at
    )


def test_a_record_is_what_was_captured(emit, drain, fresh):
    emit(data={"审": ["\\", '"', None, 1.5, {"deep": True}]}, run="r", node="n")
    drain()
    record = PipelineEventRecord.objects.get(writer_id=fresh.id)
    assert record.data == {"审": ["\\", '"', None, 1.5, {"deep": True}]}
    assert (record.root_pipeline_id, record.node_id, record.event_type) == ("r", "n", "node_enter")
    assert record.context["pid"] == os.getpid()
    assert abs(record.recorded_at - record.occurred_at) < datetime.timedelta(seconds=20)


def test_many_writers_in_one_batch(emit, drain, shipper, shipped):
    many = [Writer() for _ in range(5)]
    for turn in range(3):
        for one in many:
            emit(turn + 1, of=one)
    drain()
    assert [shipped(one.id) for one in many] == [[1, 2, 3, 4, 5, 6]] * 5
    for one in many:
        one.close()


def test_a_busy_writer_does_not_keep_the_others_waiting(emit, shipper, shipped, monkeypatch):
    monkeypatch.setattr(shippers, "BATCH_ROWS", 10)
    busy, quiet = Writer(), Writer()
    emit(1_000, of=busy)
    emit(3, of=quiet)
    for _ in range(6):
        shipper.cycle(look=True)
    assert shipped(quiet.id) == [1, 2, 3]
    assert len(shipped(busy.id)) < 1_000
    busy.close()
    quiet.close()


def test_batches_are_bounded_by_bytes(emit, shipper, shipped, monkeypatch):
    monkeypatch.setattr(shippers, "BATCH_BYTES", 100_000)
    emit(10, data={"text": "x" * 40_000})
    assert shipper.cycle(look=True) <= 4
    while shipper.cycle():
        pass
    assert shipped() == list(range(1, 11))


def test_segments_that_are_shipped_are_kept_a_while(emit, drain, spool_dir, fresh, monkeypatch):
    emit(5, data={"text": "x" * 400_000})
    drain()
    names = [found.path.name for found in folder.segments(spool_dir) if found.shipped]
    assert names == [f"{fresh.id.hex}-000001-2.done", f"{fresh.id.hex}-000002-5.done"][: len(names)]
    assert names
    monkeypatch.setattr(shelves, "RESEND_KEEP", 0.0)
    monkeypatch.setattr(shelves, "DISCOVER_EVERY", 0.0)
    monkeypatch.setattr(shelves, "TIDY_EVERY", 0.0)
    time.sleep(0.01)
    drain()
    assert not any(found.shipped for found in folder.segments(spool_dir))


def test_shipped_segments_take_a_share_of_the_spool_at_most(
    emit, drain, spool_dir, settings, monkeypatch
):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "SPOOL_MAX_BYTES": 16 << 20}
    monkeypatch.setattr(shelves, "DISCOVER_EVERY", 0.0)
    monkeypatch.setattr(shelves, "TIDY_EVERY", 0.0)
    for _ in range(30):
        emit(1, data={"text": "x" * 450_000})
        drain()
    drain()
    kept = sum(found.size for found in folder.segments(spool_dir) if found.shipped)
    assert kept <= 16 << 20 >> 2


def test_a_closed_writer_is_put_away(emit, drain, spool_dir, books, fresh):
    emit(4)
    writer_id = fresh.id
    fresh.close()
    drain()
    row = books(writer_id)
    assert (row.position, row.ended) == (4, "closed")
    assert row.ended_at is not None
    assert [found.last for found in folder.segments(spool_dir)] == [4]


def test_a_killed_writer_is_read_to_its_end(emit, drain, books, shipped, rest_of_a_killed_child):
    writer_id = rest_of_a_killed_child(7)
    drain()
    assert shipped(writer_id) == [1, 2, 3, 4, 5, 6, 7]
    row = books(writer_id)
    assert (row.position, row.missing, row.ended) == (7, 0, "died")


@pytest.fixture
def rest_of_a_killed_child(emit):
    """Fork, append, and die without a word; answers the writer's id."""

    def run(count, **how):
        reader, pipe = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                one = Writer()
                emit(count, of=one, **how)
                one.prepare()
                os.write(pipe, str(one.id).encode())
            finally:
                os.kill(os.getpid(), 9)
        os.waitpid(pid, 0)
        os.close(pipe)
        answer = os.read(reader, 100).decode()
        os.close(reader)
        return uuid.UUID(answer)

    return run


def test_a_writer_that_went_on_in_another_segment_is_not_dead(
    emit, drain, shipper, shipped, books, gaps, fresh, monkeypatch
):
    """It has let go of the segment that the shipper knows, and the next one is not found yet."""
    monkeypatch.setattr(sources, "LOOK_AGAIN", 0.0)
    emit(1)
    drain()
    monkeypatch.setattr(shelves, "DISCOVER_EVERY", 3600.0)
    emit(10, data={"text": "x" * 300_000})
    for _ in range(3):
        shipper.cycle()
        assert books().ended == ""
    emit(10)
    monkeypatch.setattr(shelves, "DISCOVER_EVERY", 0.0)
    drain()
    assert shipped() == list(range(1, 22))
    assert gaps(fresh.id) == []


def test_what_is_in_a_killed_writers_records_is_no_entry_of_the_index(
    emit, drain, books, shipped, gaps, rest_of_a_killed_child, monkeypatch
):
    monkeypatch.setattr(writers, "new_mark", lambda: 0x7878)
    writer_id = rest_of_a_killed_child(7, data={"text": "x" * 1_000})
    drain()
    drain()
    assert shipped(writer_id) == [1, 2, 3, 4, 5, 6, 7]
    assert (books(writer_id).position, books(writer_id).missing) == (7, 0)
    assert gaps(writer_id) == []


def test_a_segment_that_a_killed_writer_had_not_come_to_is_removed(
    emit, drain, spool_dir, rest_of_a_killed_child
):
    rest_of_a_killed_child(2, data={"text": "x" * 400_000})
    drain()
    (path,) = spool_dir.glob("*-*")
    assert path.name.endswith("-000001-2.done")


def test_a_writer_that_dies_while_its_segments_are_put_away(
    emit, drain, books, rest_of_a_killed_child, monkeypatch
):
    ending = Source.ending

    def and_then_it_dies(source):
        said = ending(source)
        monkeypatch.setattr(sources, "LOOK_AGAIN", 0.0)
        return said

    monkeypatch.setattr(sources, "LOOK_AGAIN", float("inf"))
    monkeypatch.setattr(Source, "ending", and_then_it_dies)
    writer_id = rest_of_a_killed_child(3)
    drain()
    drain()
    assert books(writer_id).ended == "died"


def test_drafts_of_killed_writers_are_removed(emit, drain, spool_dir):
    old, new = spool_dir / "old.draft", spool_dir / "new.draft"
    for each in (old, new):
        each.touch()
    os.utime(old, (0, time.time() - 61))
    emit()
    drain()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_writer_is_known_before_its_first_record(emit, shipper, books, monkeypatch):
    emit()
    monkeypatch.setattr(shipper, "_send", lambda batch: None)
    shipper.cycle(look=True)
    assert books().position == 0
    assert books().spool == str(shipper.shelf.path)


# Exactly once.


def test_an_answer_to_commit_that_is_lost(emit, drain, shipper, shipped, monkeypatch):
    append = ship.append

    def committed_but_silent(*args):
        append(*args)
        monkeypatch.setattr(ship, "append", append)
        shipper.link.close()
        raise LogUnavailable("server closed the connection unexpectedly")

    emit(100)
    monkeypatch.setattr(ship, "append", committed_but_silent)
    with pytest.raises(LogUnavailable):
        shipper.cycle(look=True)
    drain()
    emit(5)
    drain()
    assert shipped() == list(range(1, 106))


def test_a_batch_that_was_not_committed(emit, drain, shipper, shipped, monkeypatch):
    append = ship.append

    def cut_off(*args):
        monkeypatch.setattr(ship, "append", append)
        raise LogUnavailable("connection refused")

    emit(100)
    monkeypatch.setattr(ship, "append", cut_off)
    with pytest.raises(LogUnavailable):
        shipper.cycle(look=True)
    assert shipped() == []
    drain()
    assert shipped() == list(range(1, 101))


def test_the_connection_is_ended_in_mid_batch(emit, drain, shipper, shipped, sql, monkeypatch):
    emit(10)
    drain()
    copy = links._copy

    def killed(pgconn, statements, rows):
        sql("SELECT pg_terminate_backend(%s, 5000)", pgconn.backend_pid)
        monkeypatch.setattr(links, "_copy", copy)
        copy(pgconn, statements, rows)

    emit(10)
    monkeypatch.setattr(links, "_copy", killed)
    with pytest.raises(LogUnavailable):
        shipper.cycle()
    drain()
    assert shipped() == list(range(1, 21))


def test_two_would_be_shippers(emit, shipper, shipped, spool_dir, using):
    """Elected or not: what one has moved on, the other does not send again."""
    other = Shipper(spool_dir, using)
    for turn in range(20):
        emit(50)
        first, second = (shipper, other) if turn % 2 else (other, shipper)
        first.cycle(look=True)
        second.cycle(look=True)
        second.cycle(look=True)
    shipper.drain(time.monotonic() + 10)
    other.drain(time.monotonic() + 10)
    assert shipped() == list(range(1, 1_001))
    other.close()


def test_a_new_shipper_goes_on_where_the_log_is(emit, drain, shipped, spool_dir, using):
    emit(100)
    drain()
    emit(100)
    other = Shipper(spool_dir, using)
    drain(other)
    other.close()
    assert shipped() == list(range(1, 201))


def test_a_shipper_that_is_not_up_to_date(emit, drain, shipper, shipped, sql, fresh):
    """Another moved the writer on: nothing of the batch is sent, and it begins from there."""
    emit(10)
    drain()
    emit(10)
    sql("UPDATE bamboo_audit_spoolwriter SET position = 15 WHERE writer_id = %s", fresh.id)
    drain()
    assert shipped() == [*range(1, 11), *range(16, 21)]


# A database that went back in time.


def set_back(sql, writer_id, position):
    """As a failover or a restore leaves the log; its guards are off for that."""
    table = "bamboo_audit_pipelineeventrecord"
    sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    sql(f"DELETE FROM {table} WHERE writer_id = %s AND writer_position > %s", writer_id, position)
    sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER bamboo_audit_no_change")
    sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER bamboo_audit_no_truncate")
    sql(
        "UPDATE bamboo_audit_spoolwriter SET position = %s, ended = '' WHERE writer_id = %s",
        position,
        writer_id,
    )


def test_a_log_that_went_back_gets_again_what_it_lost(emit, drain, shipped, sql, fresh, caplog):
    emit(100)
    drain()
    set_back(sql, fresh.id, 40)
    emit(10)
    with caplog.at_level(logging.WARNING, "audit"):
        drain()
    assert shipped() == list(range(1, 111))
    assert "was further before" in caplog.text


def test_also_out_of_segments_that_were_done_with(emit, drain, shipped, sql, fresh, spool_dir):
    emit(10, data={"text": "x" * 300_000})
    drain()
    assert any(found.shipped for found in folder.segments(spool_dir))
    set_back(sql, fresh.id, 1)
    emit(1)
    drain()
    assert shipped() == list(range(1, 12))


@pytest.mark.parametrize("restarted", [False, True])
def test_also_of_a_writer_that_is_gone(
    emit, drain, shipper, shipped, sql, fresh, spool_dir, using, monkeypatch, restarted
):
    emit(20)
    gone = fresh.id
    fresh.close()
    drain()
    set_back(sql, gone, 5)
    other = Shipper(spool_dir, using) if restarted else shipper
    monkeypatch.setattr(shelves, "HEARTBEAT", 0.0)
    drain(other)
    drain(other)
    if restarted:
        other.close()
    assert shipped(gone) == list(range(1, 21))
    assert SpoolWriter.objects.get(writer_id=gone).ended == "closed"


def test_what_is_no_longer_there_is_told_by_a_gap(
    emit, drain, shipped, sql, fresh, spool_dir, gaps
):
    emit(10, data={"text": "x" * 300_000})
    drain()
    for found in folder.segments(spool_dir):
        if found.shipped and found.sequence == 1:
            missing = found.last
            found.path.unlink()
    set_back(sql, fresh.id, 1)
    emit(1)
    drain()
    assert shipped() == [1, *range(missing + 1, 12)]
    (gap,) = gaps(fresh.id)
    assert (gap["first_position"], gap["last_position"]) == (2, missing)
    assert gap["count"] == missing - 1
    assert list(gap["reasons"]) == ["the log's database went back to an earlier time"]


# What is damaged or missing.


def test_a_damaged_record_is_told_by_a_gap(emit, drain, shipped, books, spool_dir, fresh, gaps):
    emit(50, data={"text": "x" * 100})
    writer_id = fresh.id
    fresh.close()
    (found,) = folder.segments(spool_dir)
    with found.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 64)
    drain()
    drain()
    numbers = shipped(writer_id)
    missing = sorted(set(range(1, 51)) - set(numbers))
    assert 1 <= len(missing) <= 2
    (gap,) = gaps(writer_id)
    assert gap["count"] == len(missing)
    assert [gap["first_position"], gap["last_position"]] == [missing[0], missing[-1]]
    row = books(writer_id)
    assert (row.position, row.missing, row.ended) == (50, len(missing), "closed")


def test_a_segment_that_cannot_be_read_is_set_aside(emit, drain, spool_dir, fresh, gaps, caplog):
    emit(3)
    writer_id = fresh.id
    fresh.close()
    (found,) = folder.segments(spool_dir)
    found.path.write_bytes(b"rubbish" * 1000)
    drain()
    drain()
    assert [path.suffix for path in spool_dir.glob("*.bad")] == [".bad"]
    (gap,) = gaps(writer_id)
    assert gap["count"] is None
    assert "cannot read the segment" in caplog.text


def test_a_segment_that_was_removed_is_told_by_a_gap(emit, drain, shipped, spool_dir, fresh, gaps):
    emit(10, data={"text": "x" * 300_000})
    folder.segments(spool_dir)[0].path.unlink()
    drain()
    drain()
    numbers = shipped()
    assert numbers[-1] == 10
    (gap,) = gaps(fresh.id)
    assert gap["first_position"] == 1
    assert gap["last_position"] == numbers[0] - 1


def test_after_a_crash_of_the_machine_nobody_knows_what_is_missing(
    emit, drain, shipped, fresh, gaps, monkeypatch, rest_of_a_killed_child
):
    writer_id = rest_of_a_killed_child(3)
    monkeypatch.setattr(sources, "boot", lambda: "another start")
    drain()
    drain()
    assert shipped(writer_id) == [1, 2, 3]
    (gap,) = gaps(writer_id)
    assert gap["count"] is None
    assert gap["first_position"] == 4


# Time.


def test_times_are_the_databases(emit, drain, shipper, fresh, monkeypatch):
    measure = shipper.clock.measure

    def measured(link, *, now=False):
        measure(link, now=now)
        shipper.clock.behind = 3_600_000_000  # as on a host whose clock is an hour late

    monkeypatch.setattr(shipper.clock, "measure", measured)
    emit(10)
    drain()
    emit(10)
    drain()
    records = list(PipelineEventRecord.objects.filter(writer_id=fresh.id).order_by("id"))
    times = [record.occurred_at for record in records]
    ahead = times[0] - records[0].recorded_at
    assert datetime.timedelta(minutes=59) < ahead < datetime.timedelta(minutes=61)
    assert times == sorted(times)
    shipper.clock.behind = 0
    emit(3)
    drain()
    last = PipelineEventRecord.objects.get(writer_id=fresh.id, writer_position=23)
    assert last.occurred_at >= times[-1], "within a writer, time does not run back"


def test_the_clock_is_the_smallest_round_trips(shipper, monkeypatch):
    from audit.shipping import clock as clocks

    shipper.clock.measure(shipper.link)
    assert abs(shipper.clock.behind) < 1_000_000
    base = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: base)
    later = datetime.datetime.fromtimestamp(base / 1e9 + 5, datetime.UTC)
    monkeypatch.setattr(clocks.ship, "database_time", lambda link: later)
    shipper.clock.measure(shipper.link)
    assert abs(shipper.clock.behind) < 1_000_000, "not measured again so soon"
    shipper.clock.measure(shipper.link, now=True)
    assert abs(shipper.clock.behind - 5_000_000) < 1_000


# Partitions.


def test_a_missing_partition_is_made(emit, drain, shipped, sql, using):
    from audit import partitions

    highest = partitions.report(using).partitions[-1].high
    sql(f"ALTER TABLE bamboo_audit_pipelineeventrecord ALTER COLUMN id RESTART WITH {highest - 2}")
    emit(10)
    drain()
    assert shipped() == list(range(1, 11))
