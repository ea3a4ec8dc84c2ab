"""Which polls are recorded, and that the others are counted once, wherever they are told."""

from __future__ import annotations

import datetime
import math
import threading
from collections import Counter
from typing import Any

import pytest

from audit.capture import sampling
from audit.capture.ids import Ids
from audit.capture.sampling import Polls, polls

EVERY = 60.0
START = 1_000.0


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = START

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(sampling, "time", clock)
    return clock


@pytest.fixture
def seen(clock):
    return Polls()


def of(node: str) -> Ids:
    return Ids("r", "p", node)


def send(seen: Polls, event_type: str, node: str = "n", every: float | None = EVERY, **data: Any):
    """What the next event of a node carries, or "skipped"."""
    if seen.skips(event_type, data, of(node), every):
        return "skipped"
    counts = seen.take(node)
    return counts and (counts.pre, counts.post)


def poll(seen: Polls, node: str = "n", every: float | None = EVERY):
    """A poll that succeeds: its pre_ and its post_."""
    return send(seen, "pre_schedule", node, every), send(seen, "post_schedule", node, every)


SKIPPED = ("skipped", "skipped")


def test_the_first_is_recorded_then_one_an_interval(seen, clock):
    found = []
    for _ in range(62):
        found.append(poll(seen))
        clock.now += 2
    assert found == [
        (None, None),
        *[SKIPPED] * 29,
        ((29, 29), None),
        *[SKIPPED] * 29,
        ((29, 29), None),
        SKIPPED,
    ]


def test_nodes_do_not_share_an_interval(seen):
    assert poll(seen, "a") == poll(seen, "b") == (None, None)
    assert poll(seen, "a") == poll(seen, "b") == SKIPPED


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("node_enter", {}),
        ("pre_execute", {}),
        ("post_set_state", {"to_state": "RUNNING"}),
    ],
)
def test_the_first_of_another_attempt_is_recorded(seen, event_type, data):
    poll(seen)
    assert poll(seen) == SKIPPED
    assert send(seen, event_type, **data) == (1, 1)
    assert poll(seen) == (None, None)
    assert poll(seen) == SKIPPED


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("node_schedule_fail", {}),
        ("node_schedule_exception", {}),
        ("node_finish", {}),
        ("post_set_state", {"to_state": "FAILED"}),
        ("post_set_state", {}),
        ("pre_pause_node", {}),
        ("of_a_host", {}),
    ],
)
def test_any_event_of_the_node_tells_what_was_skipped_and_begins_nothing(seen, event_type, data):
    poll(seen)
    assert [poll(seen), send(seen, "pre_schedule")] == [SKIPPED, "skipped"]
    assert send(seen, event_type, "another", **data) is None
    assert send(seen, event_type, **data) == (2, 1)
    assert send(seen, event_type, **data) is None
    assert poll(seen) == SKIPPED


@pytest.mark.parametrize("data", [None, [], "RUNNING", {"to_state": ["RUNNING"]}])
def test_a_state_change_may_carry_anything(seen, data):
    poll(seen)
    assert not seen.skips("post_set_state", data, of("n"), EVERY)


def test_a_pre_and_its_post_stay_together(seen, clock):
    poll(seen)
    assert send(seen, "pre_schedule") == "skipped"
    clock.now += 10 * EVERY  # schedule() took that long
    seen.leftovers(clock.now)
    assert send(seen, "post_schedule") == "skipped"
    assert send(seen, "pre_schedule") == (0, 1)
    clock.now += EVERY / 2
    assert send(seen, "post_schedule") is None


def test_a_post_whose_pre_was_not_seen_is_recorded(seen):
    assert send(seen, "post_schedule") is None


@pytest.mark.parametrize("event_type", ["pre_callback", "post_callback"])
@pytest.mark.parametrize("polled", [True, False])
def test_callbacks_are_never_skipped(seen, clock, event_type, polled):
    if polled:
        poll(seen)
    for _ in range(3):
        assert send(seen, event_type) is None
    seen.leftovers(clock.now + EVERY)
    assert [poll(seen) for _ in range(3)] == [(None, None)] * 3
    send(seen, "post_set_state", to_state="RUNNING")
    assert [poll(seen) for _ in range(3)] == [(None, None)] * 3


def test_switched_off_nothing_more_is_skipped_and_what_was_is_told(seen):
    poll(seen)
    assert send(seen, "pre_schedule") == "skipped"
    assert send(seen, "post_schedule", every=None) == "skipped"
    assert poll(seen, every=None) == ((1, 1), None)
    assert poll(seen, every=None) == (None, None)


def test_an_event_without_a_node_is_no_poll_of_one(seen):
    for _ in range(3):
        assert send(seen, "pre_schedule", "") is None


def test_since_is_the_first_that_was_skipped(seen, clock):
    poll(seen)
    before = datetime.datetime.now(datetime.UTC)
    for _ in range(5):
        poll(seen)
    after = datetime.datetime.now(datetime.UTC)
    counts = seen.take("n")
    assert before <= datetime.datetime.fromisoformat(counts.since) <= after
    assert counts.as_context() == {"pre_schedule": 5, "post_schedule": 5, "since": counts.since}
    assert counts.as_data() == {
        "root_pipeline_id": "r",
        "node_id": "n",
        "pre_schedule": 5,
        "post_schedule": 5,
        "since": counts.since,
    }


# What no record carries.


def test_leftovers_are_what_has_waited_for_an_interval(seen, clock):
    poll(seen, "a")
    poll(seen, "b")
    poll(seen, "a")
    clock.now += 30
    poll(seen, "b")
    assert not seen.is_due()
    assert seen.leftovers(clock.now) == []
    clock.now += 30
    assert seen.is_due()
    (left,) = seen.leftovers(clock.now)
    assert (left.ids, left.pre, left.post) == (of("a"), 1, 1)
    assert not seen.is_due()
    assert send(seen, "node_finish", "a") is None
    clock.now += 30
    assert seen.is_due()
    assert [each.ids.node_id for each in seen.leftovers(clock.now)] == ["b"]
    assert not seen.waiting
    clock.now += 1e9
    assert not seen.is_due()


def test_all_are_leftovers_at_the_end(seen):
    for node in "abc":
        poll(seen, node)
        poll(seen, node)
    assert [each.ids.node_id for each in seen.leftovers(math.inf)] == ["a", "b", "c"]


def test_some_leftovers_now_the_others_later(seen, clock):
    for number in range(25):
        poll(seen, str(number))
        poll(seen, str(number))
    clock.now += EVERY
    assert [len(seen.leftovers(clock.now, 10)) for _ in range(4)] == [10, 10, 5, 0]


def test_what_is_given_back_is_added_to_what_came_meanwhile(seen, clock):
    poll(seen)
    poll(seen)
    first = seen.take("n")
    clock.now += 5
    poll(seen)
    seen.give_back(first)
    found = seen.take("n")
    assert (found.pre, found.post, found.since, found.began) == (2, 2, first.since, START)


def test_telling_that_failed_is_put_off(seen, clock):
    poll(seen)
    poll(seen)
    clock.now += EVERY
    (left,) = seen.leftovers(clock.now)
    seen.give_back(left)
    assert seen.is_due()
    seen.put_off()
    assert not seen.is_due()
    clock.now += EVERY
    assert seen.is_due()


# Bounds.


def test_memory_is_bounded_and_what_is_forgotten_is_told(seen, clock, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_NODES", 100)
    for number in range(1_000):
        poll(seen, str(number))
        poll(seen, str(number))
        assert len(seen._nodes) <= 100
        assert len(seen.waiting) <= 101
    assert seen.take("") is None, "the overflow is no node's"
    left = seen.leftovers(math.inf)
    assert sum(each.pre for each in left) == 1_000
    (overflow,) = [each for each in left if each.ids == Ids()]
    assert overflow.pre == overflow.post == 1_000 - len(left) + 1
    assert overflow.since == min(each.since for each in left)


def test_nodes_that_poll_no_more_are_forgotten(seen, clock):
    for number in range(50):
        poll(seen, str(number))
        poll(seen, str(number))
        send(seen, "node_finish", str(number))
    poll(seen, "last")
    poll(seen, "last")
    clock.now += 2 * EVERY
    seen.leftovers(clock.now)
    for number in range(50):
        assert poll(seen, str(number)) == (None, None)


def test_threads_count_each_poll_once():
    seen, told = Polls(), Counter()

    def work(node: str) -> None:
        for number in range(3_000):
            if seen.skips("pre_schedule", {}, of(node), EVERY):
                seen.skips("post_schedule", {}, of(node), EVERY)
            if number % 7 == 0 and (counts := seen.take(node)):
                told[node] += counts.pre
            if number % 11 == 0:
                for counts in seen.leftovers(math.inf, 2):
                    seen.give_back(counts)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for counts in seen.leftovers(math.inf):
        told[counts.ids.node_id] += counts.pre
    assert told == dict.fromkeys(map(str, range(6)), 2_999)  # the first is recorded


def test_a_forked_child_starts_empty(in_child, held):
    poll(polls)
    poll(polls)
    held(polls._lock)

    assert in_child(lambda: [len(polls.waiting), *poll(polls)]) == [0, None, None]
    assert len(polls.waiting) == 1
