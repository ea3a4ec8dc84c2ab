"""What waits in the spool, as ``audit_status`` tells it."""

from __future__ import annotations

import datetime
import json
import os
import re
import time
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections

from audit import status
from audit.shipping import report
from audit.shipping.election import Election
from audit.spool import folder


@pytest.fixture
def problems(using):
    def now():
        return " ".join(status.read().problems)

    return now


def printed():
    out = StringIO()
    try:
        call_command("audit_status", stdout=out, no_color=True)
    except SystemExit:
        out.write("exit 1")
    return out.getvalue()


def test_what_waits_is_counted(emit, drain, using, spool_dir):
    emit(10)
    drain()
    before = datetime.datetime.now(datetime.UTC)
    emit(5)
    found = report.read(using)
    assert (found.waiting, found.segments, found.shipper_pid) == (5, 1, None)
    assert found.oldest_at >= before
    assert found.bytes == 1 << 20
    assert found.path == str(spool_dir)
    drain()
    assert report.read(using).waiting == 0
    assert report.read(using).oldest_at is None


def test_with_the_log_away_everything_waits(emit, monkeypatch):
    emit(7)
    entry = {**connections.databases["default"], "HOST": "/nowhere"}
    entry["ENGINE"] = "django.db.backends.postgresql"
    monkeypatch.setitem(connections.databases, "away", entry)
    assert report.read("away").waiting == 7
    del connections["away"]


def test_records_that_wait_long_are_a_problem(emit, drain, problems, monkeypatch):
    emit(3)
    assert "records wait" not in problems()
    monkeypatch.setattr(status, "WAITING_ALARM", datetime.timedelta(0))
    assert "3 records wait in" in problems()
    assert "nobody ships. Run: manage.py audit_ship" in problems()
    drain()
    assert "records wait" not in problems()


def test_who_ships_is_named(emit, using, spool_dir):
    election = Election(spool_dir)
    assert election.stand()
    assert report.read(using).shipper_pid == os.getpid()
    election.resign()
    assert report.read(using).shipper_pid is None


def test_a_spool_that_is_nearly_full_is_a_problem(emit, problems, settings):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "SPOOL_MAX_BYTES": 16 << 20}
    assert "nearly full" not in problems()
    emit(30, data={"text": "x" * 450_000})
    assert "nearly full" in problems()


def test_a_folder_that_cannot_be_used_is_a_problem(problems, spool_dir):
    spool_dir.chmod(0o777)
    assert "is open to others" in problems()
    assert "kept in memory" in problems()
    spool_dir.chmod(0o700)


def test_segments_set_aside_are_a_problem(problems, spool_dir):
    (spool_dir / "x.bad").write_bytes(b"")
    assert "1 segments could not be read" in problems()


def test_silent_writers_are_a_problem(emit, drain, problems, sql, fresh):
    emit()
    drain()
    sql(
        "UPDATE bamboo_audit_spoolwriter SET seen_at = now() - interval '1 hour' "
        "WHERE writer_id = %s",
        fresh.id,
    )
    assert re.search(r"[1-9]\d* writers have not been seen for 0:10:00", problems())


def test_the_spool_of_a_process_that_lives_is_not_left_behind(emit, using, spool_dir):
    emit()
    other = spool_dir.with_name(spool_dir.name.rpartition("-")[0] + "-another")
    spool_dir.rename(other)
    (open_one,) = folder.segments(other)
    os.utime(open_one.path, (time.time() - 700, time.time() - 700))
    assert report.read(using).left_behind == []


def test_spools_of_another_database_are_named(emit, using, spool_dir, problems, fresh):
    emit()
    fresh.close()
    other = spool_dir.with_name(spool_dir.name.rpartition("-")[0] + "-another")
    spool_dir.rename(other)
    assert report.read(using).others == [str(other)]
    assert "nobody ships" not in problems(), "its host may ship by a command"
    (left,) = folder.segments(other)
    os.utime(left.path, (time.time() - 700, time.time() - 700))
    found = report.read(using)
    assert found.others == found.left_behind == [str(other)]
    assert f"{other} holds records that nobody ships" in problems()
    election = Election(other)
    assert election.stand()
    found = report.read(using)
    assert (found.others, found.left_behind) == ([str(other)], [])
    assert "nobody ships" not in problems()
    election.resign()


def test_the_command_shows_it(emit, drain):
    emit(4)
    text = printed()
    assert "writers      " in text
    assert "spool        /" in text
    assert "shipping     by nobody now; 4 records wait, the oldest since" in text
    out = StringIO()
    with pytest.raises(SystemExit) if "exit 1" in text else pytest.MonkeyPatch.context():
        call_command("audit_status", "--json", stdout=out)
    now = json.loads(out.getvalue())
    assert now["spool"]["waiting"] == 4
    assert now["writers"]["missing"] >= 0
