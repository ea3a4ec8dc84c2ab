"""The engine's tasks on a heap: in order, in this thread, in virtual time."""

from __future__ import annotations

import pytest

pytest.importorskip("celery")

from celery import Celery

from audit.testing.executor import Heap, InlineTask, heap


@pytest.fixture(autouse=True)
def empty_heap(monkeypatch):
    heap.clear()
    monkeypatch.setattr(heap, "now", 0.0)
    yield
    heap.clear()


@pytest.fixture
def app():
    """A Celery app whose tasks go onto the heap; the current one stays what it is."""
    app = Celery("executor-tests", task_cls=InlineTask, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def done():
    """What the tasks have done, with the virtual time."""
    return []


@pytest.fixture
def note(app, done):
    @app.task(shared=False)  # not for the suite's own app
    def note(what, after=(), countdown=None):
        done.append((what, heap.now))
        for further in after:
            note.apply_async(kwargs={"what": further}, countdown=countdown)

    return note


def test_tasks_run_in_the_order_in_which_they_were_sent(note, done):
    for what in "abcdefghij":
        note.apply_async(kwargs={"what": what})
    assert done == [], "nothing runs before it is asked for"

    assert heap.pump() == 10
    assert done == [(what, 0.0) for what in "abcdefghij"]
    assert heap.pump() == 0


def test_a_countdown_is_virtual_time(note, done):
    note.apply_async(kwargs={"what": "late"}, countdown=3600)
    note.apply_async(kwargs={"what": "soon"}, countdown=5)
    note.apply_async(kwargs={"what": "now"})

    assert heap.pump() == 3
    assert done == [("now", 0.0), ("soon", 5.0), ("late", 3600.0)]

    note.apply_async(kwargs={"what": "later still"}, countdown=1)
    heap.pump()
    assert done[-1] == ("later still", 3601.0), "time goes on from where it was"


def test_what_tasks_send_is_run_too(note, done):
    note.apply_async(kwargs={"what": "first", "after": ["x", "y"], "countdown": 2})
    note.apply_async(kwargs={"what": "second"})

    assert heap.pump() == 4
    assert done == [("first", 0.0), ("second", 0.0), ("x", 2.0), ("y", 2.0)]


def test_the_limit_is_kept_and_the_rest_can_be_run_later(note, done):
    for what in "abc":
        note.apply_async(kwargs={"what": what})

    assert heap.pump(limit=2) == 2
    assert [what for what, _ in done] == ["a", "b"]
    assert heap.pump(limit=0) == 0
    assert heap.pump() == 1


def test_a_task_that_sends_itself_for_ever_is_stopped_by_the_limit(app):
    @app.task(shared=False)
    def again():
        again.apply_async(countdown=1)

    again.apply_async()
    assert heap.pump(limit=50) == 50
    assert heap.now == 49.0


def test_what_a_task_raises_comes_out_and_the_others_stay(app, note, done):
    @app.task(shared=False)
    def fails():
        raise ZeroDivisionError("of the task")

    fails.apply_async()
    note.apply_async(kwargs={"what": "after"})

    with pytest.raises(ZeroDivisionError, match="of the task"):
        heap.pump()
    assert heap.pump() == 1
    assert done == [("after", 0.0)]


def test_positional_arguments_are_refused(note):
    with pytest.raises(TypeError, match="keyword arguments only"):
        note.apply_async(args=("a",))
    with pytest.raises(TypeError, match="keyword arguments only"):
        note.delay("a")
    assert heap.pump() == 0


def test_options_for_a_broker_are_ignored_and_each_task_has_an_id(note, done):
    sent = [
        note.apply_async(kwargs={"what": "a"}, queue="er_execute", priority=9, headers={"x": 1})
        for _ in range(2)
    ]
    assert len({one.id for one in sent}) == 2
    assert heap.pump() == 2


def test_the_arguments_are_those_at_the_time_of_sending(note, done):
    kwargs = {"what": "sent"}
    note.apply_async(kwargs=kwargs)
    kwargs["what"] = "changed"
    heap.pump()
    assert done == [("sent", 0.0)]


def test_clear_forgets_what_was_not_run(note, done):
    note.apply_async(kwargs={"what": "a"})
    heap.clear()
    assert heap.pump() == 0
    assert done == []


def test_a_heap_of_ones_own_is_apart(note):
    other = Heap()
    note.apply_async(kwargs={"what": "a"})
    assert other.pump() == 0
    assert heap.pump() == 1
