"""A receiver that lets its failure out does harm at each moment: so the matrix can fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError
from lab import points
from lab.points import Point
from lab.spy import Spy, connected
from pipeline.eri.models import Process, State

from audit.events import POST_SET_STATE
from audit.testing.executor import heap

ORDINARY, TO_BE_RETRIED = TypeError, OperationalError
"""The engine sends its task again after the second, at once and without end."""

both = pytest.mark.parametrize("error", [ORDINARY, TO_BE_RETRIED], ids=lambda error: error.__name__)


class Naive:
    """A receiver without a guard that fails once, at one moment."""

    def __init__(self, point: Point, error: type[Exception]) -> None:
        self.point, self.error = point, error
        self.met = 0

    def on_event(self, sender: Any, event: Any, **_: Any) -> None:
        self.meet(event.event_type, event.data)

    def on_state(self, sender: Any, **values: Any) -> None:
        self.meet(POST_SET_STATE, values)

    def meet(self, event_type: str, data: Any) -> None:
        if self.point.matches(event_type, data):
            self.met += 1
            if self.met == self.point.nth:
                raise self.error("naive")


@pytest.fixture
def spy(configure: Any) -> Iterator[Spy]:
    """In front of the naive receiver; we record nothing, so all harm is its own."""
    configure(DELIVERY="off")
    spy = Spy()
    with spy.listening():
        yield spy


@contextmanager
def naive(point: Point, error: type[Exception]) -> Iterator[Naive]:
    receiver = Naive(point, error)
    with connected(receiver.on_event, receiver.on_state):
        yield receiver
        assert receiver.met >= point.nth


def named(points: list[Point]) -> Any:
    return pytest.mark.parametrize("point", points, ids=lambda point: point.name)


def without_answers(outcome: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in outcome.items() if key != "answers"}


def first_answer(outcome: dict[str, Any], operation: str) -> bool:
    return next(done for name, done in outcome["answers"] if name == operation)


@both
@named(points.ASKED)
def test_asked_an_operation_is_refused_and_not_done(point, error, undisturbed, spy):
    expected = undisturbed(point.scenario)
    spy.seen.clear()
    with naive(point, error):
        run = point.scenario()

    assert not first_answer(run.outcome(), point.operation)
    assert run.outcome() != expected.outcome
    done = point.event_type.replace("pre_", "post_", 1)
    expected_times = [name for name, *_ in expected.sent].count(done)
    assert spy.types().count(done) < expected_times


@both
@named(points.DONE)
def test_done_an_operation_is_refused_although_it_was_done(point, error, undisturbed, spy):
    expected = undisturbed(point.scenario).outcome
    with naive(point, error):
        run = point.scenario()

    assert not first_answer(run.outcome(), point.operation)
    assert first_answer(expected, point.operation)
    assert without_answers(run.outcome()) == without_answers(expected)


@both
def test_begun_a_run_is_rolled_back(error, spy):
    with naive(points.BEGINS, error):
        run = points.BEGINS.scenario()

    assert run.answers == [("run_pipeline", False)]
    assert not State.objects.filter(node_id__in=list(run.names)).exists()
    assert not Process.objects.filter(root_pipeline_id=run.root).exists()


LOSES_THE_TASK = [
    points.NODE_ENTER,
    points.NODE_FINISH,
    points.NODE_FINISHED,
    points.EXECUTE_FAIL,
    points.SCHEDULE_FAIL,
    points.EXECUTE_EXCEPTION,
    points.SCHEDULE_EXCEPTION,
]


@named(LOSES_THE_TASK)
def test_in_a_worker_the_task_dies_and_the_run_is_stuck(point, spy):
    with naive(point, ORDINARY):
        run = point.scenario()

    assert [type(error) for error in run.crashes] == [ORDINARY]
    assert run.state("root") == "RUNNING"
    assert run.state("end") is None
    written_before = point in (points.NODE_FINISH, points.NODE_FINISHED)
    assert run.state("A") == ("FINISHED" if written_before else "RUNNING")
    assert all(not done for name, done in run.answers if name != "run_pipeline")


@named(LOSES_THE_TASK)
def test_in_a_worker_the_task_is_sent_again_after_a_database_error(point, undisturbed, spy):
    expected = undisturbed(point.scenario)
    with naive(point, TO_BE_RETRIED) as receiver:
        run = point.scenario()

    assert run.tasks == expected.outcome["tasks"] + 1
    again = receiver.met - sum(point.matches_told(each) for each in expected.sent)
    assert again == (0 if point is points.NODE_FINISHED else 1)  # a state is not told twice
    plugin_called_again = len(run.outcome()["calls"]) - len(expected.outcome["calls"])
    in_except_clause = point in (points.EXECUTE_EXCEPTION, points.SCHEDULE_EXCEPTION)
    assert plugin_called_again == (1 if in_except_clause else 0)


def test_in_a_worker_a_lasting_database_error_is_a_loop_without_a_pause(spy):
    class Lasting(Naive):
        def meet(self, event_type: str, data: Any) -> None:
            if self.point.matches(event_type, data):
                self.met += 1
                if self.met <= 25:  # or it would never end
                    raise self.error("naive")

    receiver, before = Lasting(points.NODE_ENTER, TO_BE_RETRIED), heap.now
    with connected(receiver.on_event, receiver.on_state):
        run = points.NODE_ENTER.scenario()

    assert spy.types().count("node_enter") == 25 + 2
    assert run.tasks == 1 + 25
    assert heap.now == before


@both
@named([points.PRE_EXECUTE, points.PRE_SCHEDULE])
def test_in_front_of_a_plugin_the_node_fails_with_a_foreign_traceback(point, error, spy):
    with naive(point, error):
        run = point.scenario()

    outcome = run.outcome()
    assert run.state("A") == "FAILED"
    assert f"{error.__name__}: naive" in outcome["outputs"]["A"]
    method = point.event_type.removeprefix("pre_")
    assert ("A", method) not in outcome["calls"]
    assert f"node_{method}_exception" in spy.types()


@both
@named([points.POST_EXECUTE, points.POST_SCHEDULE])
def test_behind_a_plugin_it_is_said_to_have_raised(point, error, undisturbed, spy):
    expected = undisturbed(point.scenario).outcome
    spy.seen.clear()
    with naive(point, error):
        run = point.scenario()

    outcome = run.outcome()
    method = point.event_type.removeprefix("post_")
    assert spy.types().count(f"node_{method}_exception") == 1
    polled_again = outcome["calls"].count(("A", "schedule")) - expected["calls"].count(
        ("A", "schedule")
    )
    assert polled_again == (1 if point is points.POST_SCHEDULE else 0)
    if point is points.POST_EXECUTE:  # another poll covers the traceback
        assert f"{error.__name__}: naive" in outcome["outputs"]["A"]


def test_at_the_end_of_a_run_its_process_is_left_alive(undisturbed, spy):
    expected = undisturbed(points.PIPELINE_FINISH.scenario)
    spy.seen.clear()
    with naive(points.PIPELINE_FINISH, ORDINARY):
        run = points.PIPELINE_FINISH.scenario()

    assert spy.types() == [name for name, *_ in expected.sent[:-1]]
    assert expected.sent[-1] == ("node_finish", "", "end")
    assert list(
        Process.objects.filter(root_pipeline_id=run.root).values_list("dead", flat=True)
    ) == [False]


def test_at_the_end_of_a_run_its_end_is_told_twice_after_a_database_error(spy):
    with naive(points.PIPELINE_FINISH, TO_BE_RETRIED):
        points.PIPELINE_FINISH.scenario()

    assert spy.types()[-3:] == ["pipeline_finish", "pipeline_finish", "node_finish"]


def test_at_a_failure_the_node_can_never_be_recovered(spy):
    with naive(points.NODE_FAILED, ORDINARY):
        run = points.NODE_FAILED.scenario()

    assert [type(error) for error in run.crashes] == [ORDINARY]
    assert run.state("A") == "FAILED"
    assert ("retry_node", False) in run.answers
    assert not run.call("skip_node", "A").result
    assert not run.call("forced_fail_activity", "A", ex_data="").result


def test_at_a_failure_it_is_told_twice_after_a_database_error(undisturbed, spy):
    expected = undisturbed(points.NODE_FAILED.scenario).outcome
    spy.seen.clear()
    with naive(points.NODE_FAILED, TO_BE_RETRIED):
        run = points.NODE_FAILED.scenario()

    assert spy.types().count("node_execute_fail") == 2
    assert run.outcome() == {**expected, "tasks": expected["tasks"] + 1}
