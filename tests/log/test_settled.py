"""The settled head: no reader ever passes a record that is still to come."""

from __future__ import annotations

import datetime
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connections
from psycopg.pq import ExecStatus

from audit import conf
from audit.log import settled
from audit.log.settled import Head

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

ANNOUNCE = "SELECT bamboo_audit_announce_append()"
INSERT = """
    INSERT INTO bamboo_audit_pipelineeventrecord (
        writer_position, occurred_at, writer_id, event_type, data, context
    )
    SELECT number, clock_timestamp(), %s, 'x', '{}', '{}' FROM generate_series(1, %s) AS number
    RETURNING id
"""
READ = "SELECT id FROM bamboo_audit_pipelineeventrecord WHERE id > %s AND id <= %s"


@contextmanager
def session() -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own, in a transaction."""
    parameters = connections[conf.get("DATABASE")].get_connection_params()
    parameters.pop("cursor_factory", None)
    with psycopg.connect(**parameters) as connection:
        yield connection


def insert(connection: psycopg.Connection[Any], count: int = 1, *, announced: bool = True) -> int:
    """Append some records; answers the highest position."""
    if announced:
        connection.execute(ANNOUNCE)
    return max(row[0] for row in connection.execute(INSERT, [uuid.uuid4(), count]))


@pytest.fixture
def head() -> Head:
    found = Head(conf.get("DATABASE"))
    found.look()
    return found


def test_nobody_reads_past_what_is_still_to_come(head):
    """A reader that goes on after the highest position it saw would lose it."""
    before = head.look()
    with session() as slow, session() as quick:
        early = insert(slow)
        late = insert(quick)
        quick.commit()
        seen = max(row[0] for row in quick.execute(READ, [before, 2**62]))
        assert seen == late > early, "what a plain reader would go on from"
        assert head.look() == before
        assert head.blocked_by is not None
        assert head.blocked_by.pid == slow.info.backend_pid
        slow.commit()
        assert head.look() == late
        assert head.blocked_by is None
        assert len(quick.execute(READ, [before, late]).fetchall()) == 2


def test_what_is_taken_back_holds_nobody_up(head):
    before = head.look()
    with session() as slow:
        early = insert(slow)
        slow.rollback()
        assert head.look() == before, "nothing is there"
        late = insert(slow)
        slow.commit()
        assert head.look() == late > early


def test_it_goes_on_while_somebody_always_appends(head):
    with session() as first, session() as second:
        insert(first)
        for _ in range(5):
            last = head.position
            for _ in range(2):
                insert(second)
                first.commit()
                first, second = second, first
                head.look()
            assert head.position > last
        first.rollback()
        second.rollback()


def test_who_announces_after_it_drew_a_position_is_lost(head):
    """Why the announcement is the first that an append does."""
    with session() as slow, session() as quick:
        early = insert(slow, announced=False)
        late = insert(quick)
        quick.commit()
        assert head.look() == late > early, "the reader goes past it"
        slow.execute(ANNOUNCE)
        slow.commit()
        assert head.look() == late


def test_positions_that_are_drawn_ahead_are_lost(head):
    """Why the sequence hands out one position at a time."""
    table = "bamboo_audit_pipelineeventrecord"
    with session() as admin, session() as slow, session() as quick:
        admin.execute(f"ALTER TABLE {table} ALTER COLUMN id SET CACHE 10")
        admin.commit()
        try:
            insert(slow)
            slow.commit()
            late = insert(quick)
            quick.commit()
            assert head.look() == late
            early = insert(slow)  # from those that this session has drawn before
            slow.commit()
            assert early < late
            assert head.look() == late, "the reader is past it"
        finally:
            slow.rollback()
            quick.rollback()
            admin.execute(f"ALTER TABLE {table} ALTER COLUMN id SET CACHE 1")
            admin.commit()
        (cache,) = admin.execute(
            "SELECT seqcache FROM pg_sequence"
            f" WHERE seqrelid = pg_get_serial_sequence('{table}', 'id')::regclass"
        ).fetchone()
        assert cache == 1, "as it is in the log"


def test_who_reads_as_of_before_the_look_loses_it(head):
    """Why the records are read by a later statement, which sees what was committed since."""
    before = head.look()
    with session() as slow, session() as quick, session() as reader:
        insert(slow)
        insert(quick)
        quick.commit()
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        slow.commit()
        late = head.look()
        assert len(reader.execute(READ, [before, late]).fetchall()) == 1
        reader.rollback()
        assert len(reader.execute(READ, [before, late]).fetchall()) == 2


def test_writers_that_commit_late_abort_and_linger_lose_nothing(head):
    """Against a reader that goes on after the highest position that it saw, which does."""
    before = head.look()
    committed: list[int] = []
    errors: list[Exception] = []
    over = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            with session() as connection:
                for _ in range(60):
                    connection.execute(ANNOUNCE)
                    rows = connection.execute(INSERT, [uuid.uuid4(), chance.randint(1, 5)])
                    drawn = [row[0] for row in rows]
                    time.sleep(chance.choice((0, 0, 0.002, 0.01)))
                    if chance.random() < 0.2:
                        connection.rollback()
                    else:
                        connection.commit()
                        committed.extend(drawn)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    settled_found: list[int] = []
    plain_found: list[int] = []
    with session() as reader:
        reader.autocommit = True

        def read(found: list[int], until: int) -> None:
            after = max(found, default=before)
            found += sorted(row[0] for row in reader.execute(READ, [after, until]))

        for thread in threads:
            thread.start()
        while not over.is_set():
            if not any(thread.is_alive() for thread in threads):
                over.set()
            read(plain_found, 2**62)
            read(settled_found, head.look())
    assert errors == []
    assert settled_found == sorted(committed)
    assert len(plain_found) < len(committed), "nobody committed late: it shows nothing"


def test_who_is_frozen_in_mid_copy_is_ended(head, monkeypatch, caplog):
    monkeypatch.setattr(settled, "FROZEN_AFTER", datetime.timedelta(seconds=0.3))
    before = head.look()
    with session() as frozen, session() as patient, session() as copying, session() as other:
        insert(patient)  # of a host's own transaction, which takes its time: not ours to end
        insert(copying)  # and of one that goes on to copy something itself
        begin_copy(copying, COPY)
        begin_copy(frozen, f"BEGIN; {ADVANCE}; {COPY}")
        late = insert(other)
        other.commit()
        deadline = time.monotonic() + 20
        while frozen.info.backend_pid in pids() and time.monotonic() < deadline:
            assert head.look() == before
            time.sleep(0.05)
        time.sleep(0.2)
        assert head.look() == before, "the others are waited for"
        assert pids() == {patient.info.backend_pid, copying.info.backend_pid}
        patient.commit()
        copying.pgconn.put_copy_end()
        while copying.pgconn.get_result() is not None:
            pass
        copying.rollback()
        assert head.look() == late
        frozen.close()  # it is gone, and does not know
    assert caplog.text.count("has ended the append in server process") == 1


COPY = """
    COPY bamboo_audit_pipelineeventrecord (
        writer_position, occurred_at, writer_id, event_type, data, context
    ) FROM STDIN
"""
ADVANCE = "SELECT bamboo_audit_advance('{}', '{}', '{}', '{}', '{}')"


def begin_copy(connection: psycopg.Connection[Any], statements: str) -> None:
    """As the shipper does, in one message; half a batch is sent."""
    result = connection.pgconn.exec_(statements.encode())
    assert result.status == ExecStatus.COPY_IN, result.error_message
    connection.pgconn.put_copy_data(f"1\tnow\t{uuid.uuid4()}\tx\t{{}}\t{{}}\n".encode())
    while connection.pgconn.flush():
        time.sleep(0.01)


def pids() -> set[int]:
    return {each.pid for each in settled.appending(conf.get("DATABASE")).values()}
