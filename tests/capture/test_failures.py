from __future__ import annotations

import datetime
import logging
import threading
import traceback
from collections import Counter

import pytest

from audit.capture import failures as module
from audit.capture.failures import Failures, Gap, failures
from audit.capture.ids import Ids

AT = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
LATER = AT + datetime.timedelta(hours=1)
IDS = Ids(root_pipeline_id="run-1", node_id="node-1")


@pytest.fixture
def lines(caplog):
    """The log lines so far, as a list that grows."""
    caplog.set_level(logging.DEBUG, "audit")
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append
    logging.getLogger("audit").addHandler(handler)
    yield found
    logging.getLogger("audit").removeHandler(handler)


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


def test_the_first_failure_is_logged_with_its_event_and_traceback(lines):
    Failures().failed("node_enter", IDS, caused(RuntimeError("no log"), OSError("away")))

    (line,) = lines
    assert line.levelno == logging.ERROR
    for part in ("node_enter", "run-1", "node-1", "RuntimeError: no log", "The engine goes on"):
        assert part in line.getMessage()
    assert "OSError: away" in "".join(traceback.format_exception(line.exc_info[1]))


def test_unknown_ids_are_question_marks(lines):
    Failures().failed("?", None, ValueError())
    assert "could not record ? of run unknown, node none" in lines[0].getMessage()


def test_a_kind_of_error_is_logged_once_a_minute_with_the_number_since(lines):
    fresh = Failures()
    for _ in range(100):
        fresh.failed("node_enter", IDS, ValueError("bad"))
    assert len(lines) == 1
    # A minute later.
    fresh._logged_at["ValueError"] -= module.LOG_EVERY
    fresh.failed("node_finish", IDS, ValueError("bad"))
    assert len(lines) == 2
    assert "and 99 more since the last message" in lines[1].getMessage()
    assert "node_finish" in lines[1].getMessage()

    fresh._logged_at["ValueError"] -= module.LOG_EVERY
    fresh.failed("node_finish", IDS, ValueError("bad"))
    assert "more since" not in lines[2].getMessage()


def test_another_kind_of_error_has_a_line_of_its_own(lines):
    fresh = Failures()
    for error in (ValueError(), OSError(), ValueError(), caused(ValueError(), OSError())):
        fresh.failed("x", None, error)
    assert len(lines) == 2, "the cause is the kind"
    assert fresh.summary().by_reason == {"ValueError": 2, "OSError": 2}


def test_missed_events_are_counted_without_a_line(lines):
    fresh = Failures()
    assert not fresh.pending
    fresh.missed("node_enter", "switched off")
    assert fresh.pending
    assert lines == []
    assert fresh.summary() == module.Summary(
        total=1, pending=1, by_reason={"switched off": 1}, last_event_type="", last_error=""
    )


def test_an_error_whose_text_raises_is_counted_and_logged(lines):
    class Bad(Exception):
        def __str__(self) -> str:
            raise RuntimeError("boom")

    fresh = Failures()
    fresh.failed("x", None, Bad())
    assert fresh.summary().by_reason == {"Bad": 1}
    assert len(lines) == 1


def test_an_error_that_is_false_is_still_the_cause():
    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    fresh = Failures()
    fresh.failed("x", None, caused(ValueError(), Empty()))
    assert fresh.summary().by_reason == {"Empty": 1}


def test_the_gap_tells_how_many_from_when_to_when_and_why():
    fresh = Failures()
    before = datetime.datetime.now(datetime.UTC)
    fresh.missed("node_enter", "log resting")
    fresh.missed("node_enter", "switched off")
    fresh.missed("node_finish", "switched off")
    after = datetime.datetime.now(datetime.UTC)

    gap = fresh.take()
    assert gap.as_data() == {
        "count": 3,
        "first_at": gap.first_at.isoformat(),
        "last_at": gap.last_at.isoformat(),
        "reasons": {"log resting": 1, "switched off": 2},
        "event_types": {"node_enter": 2, "node_finish": 1},
    }
    assert before <= gap.first_at < gap.last_at <= after


@pytest.mark.parametrize("swapped", [False, True])
def test_gaps_add_up_in_any_order(swapped):
    early = Gap(2, AT, AT, Counter(a=2), Counter(x=2))
    late = Gap(3, LATER, LATER, Counter(a=1, b=2), Counter(x=1, y=2))
    if swapped:
        early, late = late, early
    early.add(late)
    assert early == Gap(5, AT, LATER, Counter(a=3, b=2), Counter(x=3, y=2))


def test_adding_nothing_changes_nothing():
    gap = Gap(1, AT, LATER, Counter(a=1), Counter(x=1))
    gap.add(Gap())
    assert gap == Gap(1, AT, LATER, Counter(a=1), Counter(x=1))
    empty = Gap()
    empty.add(gap)
    assert empty == gap
    assert Gap().as_data()["first_at"] is None


def test_what_is_taken_is_pending_no_more_until_it_is_given_back():
    fresh = Failures()
    fresh.missed("x", "away")
    gap = fresh.take()
    assert not fresh.pending
    assert fresh.take().count == 0
    fresh.missed("y", "away")
    fresh.give_back(gap)
    assert fresh.take().event_types == Counter(x=1, y=1)
    assert fresh.summary().total == 2, "the total is of the process, told or not"


def test_nothing_is_counted_twice_or_not_at_all_in_threads():
    fresh, told, ready = Failures(), Gap(), threading.Barrier(9)
    stop = threading.Event()

    def miss() -> None:
        ready.wait()
        for _ in range(2_000):
            fresh.missed("x", "away")

    def tell() -> None:
        ready.wait()
        number = 0
        while not stop.is_set():
            gap, number = fresh.take(), number + 1
            if number % 2:
                fresh.give_back(gap)
            else:
                told.add(gap)

    missing = [threading.Thread(target=miss) for _ in range(8)]
    teller = threading.Thread(target=tell)
    for thread in (*missing, teller):
        thread.start()
    for thread in missing:
        thread.join()
    stop.set()
    teller.join()
    told.add(fresh.take())
    assert told.count == told.reasons["away"] == fresh.summary().total == 16_000


def test_a_forked_child_starts_at_zero_and_does_not_hang(in_child, held):
    failures.missed("x", "away")
    held(failures._lock)

    def child() -> list[int]:
        before = failures.summary().total
        failures.missed("y", "away")
        return [before, failures.take().count]

    assert in_child(child) == [0, 1]
    assert failures._pending.count == 1
