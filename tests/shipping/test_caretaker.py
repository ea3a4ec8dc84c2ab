"""A pod that is gone with its disk: never a silent hole."""

from __future__ import annotations

import datetime
import uuid
from contextlib import closing

import pytest

from audit import partitions
from audit.exceptions import LogUnavailable
from audit.models import SpoolWriter
from audit.shipping import caretaker
from audit.shipping.caretaker import Caretaker
from audit.shipping.shipper import Shipper
from audit.spool import folder
from audit.spool import writer as spool_writer
from audit.spool.about import about


@pytest.fixture
def look(shipper, monkeypatch):
    def again():
        shipper.caretaker._looked_at = float("-inf")
        shipper.caretaker.look()

    return again


@pytest.fixture
def silent_writer(sql):
    """The books of a writer on a host that is no more."""

    def insert(minutes, ended="", position=7):
        writer_id = uuid.uuid4()
        sql(
            "INSERT INTO bamboo_audit_spoolwriter "
            "(writer_id, host, pid, kind, position, seen_at, ended, ended_at) "
            "VALUES (%s, 'pod-1', 9, 'celery worker', %s, now() - %s * interval '1 minute', %s, "
            "now() - %s * interval '1 minute')",
            *(writer_id, position, minutes, ended, minutes),
        )
        return writer_id

    return insert


def test_a_writer_that_fell_silent_is_told_by_a_gap_of_unknown_size(
    look, drain, silent_writer, gaps, books
):
    lost, seen = silent_writer(11), silent_writer(9)
    look()
    look()
    drain()
    (gap,) = gaps(lost)
    assert gap["count"] is None
    assert (gap["first_position"], gap["last_position"]) == (8, None)
    assert (gap["host"], gap["pid"], gap["kind"]) == ("pod-1", 9, "celery worker")
    assert books(lost).ended == "lost"
    assert gaps(seen) == []
    assert books(seen).ended == ""


@pytest.mark.parametrize("ended", ["closed", "died"])
def test_one_that_ended_well_is_not_missed(look, drain, silent_writer, gaps, ended):
    writer_id = silent_writer(600, ended)
    look()
    drain()
    assert gaps(writer_id) == []


def test_one_that_comes_back_goes_on(look, emit, drain, fresh, sql, shipped, books):
    emit(3)
    drain()
    sql(
        "UPDATE bamboo_audit_spoolwriter SET seen_at = now() - interval '1 hour' "
        "WHERE writer_id = %s",
        fresh.id,
    )
    look()
    assert books().ended == "lost"
    emit(3)
    drain()
    assert shipped() == [1, 2, 3, 4, 5, 6]
    assert books().ended == ""


def test_after_an_outage_everybody_gets_time_to_say_that_they_live(
    shipper, drain, silent_writer, gaps
):
    """All were silent meanwhile; a shipper that has just begun does not judge."""
    writer_id = silent_writer(60)
    fresh_eyes = Caretaker(shipper.link)
    fresh_eyes.look()
    drain()
    assert gaps(writer_id) == []
    fresh_eyes._looked_at -= caretaker.SILENCE.total_seconds()
    fresh_eyes.look()
    drain()
    assert len(gaps(writer_id)) == 1


def test_those_that_ended_well_long_ago_are_forgotten(look, silent_writer):
    days = 60 * 24
    old = [silent_writer(8 * days, "closed"), silent_writer(8 * days, "died")]
    kept = [silent_writer(6 * days, "closed"), silent_writer(90 * days, "lost")]
    look()
    assert not SpoolWriter.objects.filter(writer_id__in=old).exists()
    assert SpoolWriter.objects.filter(writer_id__in=kept).count() == 2


def test_the_living_are_seen(emit, drain, shipper, books, sql, fresh):
    emit()
    drain()
    sql(
        "UPDATE bamboo_audit_spoolwriter SET seen_at = now() - interval '1 hour' "
        "WHERE writer_id = %s",
        fresh.id,
    )
    shipper.shelf.doubt()
    drain()
    age = datetime.datetime.now(datetime.UTC) - books().seen_at
    assert age < datetime.timedelta(minutes=1)


def test_partitions_are_kept_ahead(look, sql, using, emit, drain):
    last = partitions.report(using).partitions[-1]
    sql(f"ALTER TABLE bamboo_audit_pipelineeventrecord ALTER COLUMN id RESTART WITH {last.low + 7}")
    emit()
    drain()
    assert partitions.report(using).ahead == 0
    look()
    assert partitions.report(using).ahead == 2


def test_a_role_that_may_make_none_goes_on_shipping(look, monkeypatch, caplog):
    def refused(_):
        raise LogUnavailable("permission denied")

    monkeypatch.setattr(caretaker.ship, "create_partitions", refused)
    look()
    assert "Run manage.py audit_partitions" in caplog.text


def test_a_host_that_returns_when_its_writers_are_forgotten(
    emit, drain, fresh, look, shipped, sql, spool_dir, using, monkeypatch
):
    """It went down after all was in the log, and before its segments' names said so."""
    eight_days_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=8)
    monkeypatch.setattr(
        spool_writer, "about", lambda: {**about(), "started_at": eight_days_ago.isoformat()}
    )
    emit(10)
    writer_id = fresh.id
    fresh.close()
    drain()
    (done,) = folder.segments(spool_dir)
    done.path.rename(done.path.with_name(folder.name_of(writer_id, done.sequence)))
    sql("UPDATE bamboo_audit_spoolwriter SET ended_at = now() - interval '8 days'")
    look()
    assert not SpoolWriter.objects.filter(writer_id=writer_id).exists()
    with closing(Shipper(spool_dir, using)) as other:
        drain(other)
    assert shipped(writer_id) == list(range(1, 11))
