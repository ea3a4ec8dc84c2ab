from __future__ import annotations

import datetime
import os
import socket
import sys
import threading
import uuid

import pytest

from audit.capture.writer import Writer, host, process_kind, writer


def test_numbers_begin_at_one_and_have_no_holes():
    fresh = Writer()
    stamps = [fresh.stamp() for _ in range(100)]
    assert [stamp.position for stamp in stamps] == list(range(1, 101))
    assert len({stamp.writer_id for stamp in stamps}) == 1


def test_two_writers_have_two_ids():
    assert Writer().stamp().writer_id != Writer().stamp().writer_id


def test_twenty_threads_draw_each_number_once_and_in_the_order_of_time():
    fresh, drawn, ready = Writer(), [], threading.Barrier(20)

    def draw() -> None:
        ready.wait()
        drawn.append([fresh.stamp() for _ in range(500)])

    threads = [threading.Thread(target=draw) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stamps = sorted((stamp for part in drawn for stamp in part), key=lambda stamp: stamp.position)
    assert [stamp.position for stamp in stamps] == list(range(1, 10_001))
    times = [stamp.occurred_at for stamp in stamps]
    assert times == sorted(times)
    assert all(part == sorted(part, key=lambda stamp: stamp.position) for part in drawn)


def test_time_is_utc_and_now():
    before = datetime.datetime.now(datetime.UTC)
    at = Writer().stamp().occurred_at
    assert before <= at <= datetime.datetime.now(datetime.UTC)
    assert at.tzinfo is datetime.UTC


def test_time_never_runs_backwards_when_the_clock_does():
    fresh = Writer()
    # As if the clock had been an hour ahead until now.
    fresh._latest = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    times = [fresh.stamp().occurred_at for _ in range(3)]
    assert times == [fresh._latest] * 3


def test_a_number_that_is_given_back_is_the_next_one_drawn():
    fresh = Writer()
    fresh.stamp(), (unused := fresh.stamp()), fresh.stamp()
    fresh.give_back(unused)
    assert [fresh.stamp().position for _ in range(3)] == [2, 4, 5]


def test_numbers_that_threads_give_back_leave_no_hole():
    fresh, kept, ready = Writer(), [], threading.Barrier(10)

    def draw() -> None:
        ready.wait()
        for number in range(300):
            stamp = fresh.stamp()
            if number % 3 == 0:
                fresh.give_back(stamp)
            else:
                kept.append(stamp.position)

    threads = [threading.Thread(target=draw) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rest = [fresh.stamp().position for _ in range(len(fresh._unused))]
    assert sorted(kept + rest) == list(range(1, len(kept) + len(rest) + 1))


def test_a_number_of_another_writer_is_not_taken_back():
    fresh = Writer()
    fresh.give_back(Writer().stamp())
    assert [fresh.stamp().position for _ in range(2)] == [1, 2]


def test_a_forked_child_is_a_writer_of_its_own(in_child, held):
    parent = writer.stamp()
    unused = writer.stamp()
    writer.give_back(unused)
    held(writer._lock)

    def child() -> list[object]:
        stamps = [writer.stamp() for _ in range(3)]
        writer.give_back(parent)
        return [str(stamps[0].writer_id), [stamp.position for stamp in stamps]]

    first, second = in_child(child), in_child(child)
    assert first[1] == second[1] == [1, 2, 3]
    assert len({first[0], second[0], str(parent.writer_id)}) == 3
    assert uuid.UUID(first[0]).version == 4


def test_the_parent_goes_on_where_it_was(in_child):
    parent = writer.stamp()
    in_child(lambda: writer.stamp().position)
    after = writer.stamp()
    assert (after.writer_id, after.position) == (parent.writer_id, parent.position + 1)


def test_a_signal_handler_in_the_middle_of_a_stamp_does_not_deadlock():
    with writer._lock:
        assert writer.stamp().position == 1


def test_host_is_this_machine():
    assert host() == socket.gethostname() == os.uname().nodename


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("manage.py", "command"),
        ("/srv/shop/manage.py", "command"),
        ("/venv/bin/django-admin", "command"),
        ("/venv/lib/site-packages/django/__main__.py", "command"),
        ("/venv/bin/gunicorn", "process"),
        ("/venv/lib/site-packages/celery/__main__.py", "process"),
        ("-c", "process"),
        ("", "process"),
        (None, "process"),
    ],
)
def test_what_kind_of_process_this_is(monkeypatch, program, kind):
    monkeypatch.setattr(sys, "argv", [] if program is None else [program, "work"])
    process_kind.cache_clear()
    assert process_kind() == kind
    monkeypatch.undo()
    process_kind.cache_clear()
