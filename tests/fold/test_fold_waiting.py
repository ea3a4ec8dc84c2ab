"""What a run waits for, and whether its record is whole."""

from __future__ import annotations

import datetime

import pytest
from lab.by_hand import TREE, WEB, Records

from audit.fold import completeness, fold, waiting
from audit.fold.clock import as_time
from audit.fold.completeness import COMPLETE, INCOMPLETE, RUNNING, SUSPECT, WAITING, Gap
from audit.fold.results import CONVERGING

HOUR = datetime.timedelta(hours=1)


def waits(records):
    return [(each.node_id, each.why) for each in waiting.waits(records.fold())]


def verdict(records, after=datetime.timedelta()):
    timeline = records.fold()
    return completeness.verdict(timeline, (), timeline.facts.last_at + after).kind


def verdicts(records):
    """A moment later, and long after."""
    return verdict(records), verdict(records, 50 * HOUR)


@pytest.fixture
def scheduled(records):
    """A node whose execute() is done, and which is to be polled or called back."""
    records.start()
    records.runs()
    records.add("post_execute", "a")
    return records


def test_a_run_that_was_never_handed_over(records):
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=TREE)
    records.state("run", "RUNNING", "r1", by=WEB)
    assert waits(records) == [("run", waiting.HAND_OVER)]
    assert verdicts(records) == (RUNNING, SUSPECT)


def test_a_run_between_two_nodes(records):
    records.start()
    assert waits(records) == [("run", waiting.BETWEEN)]
    assert verdicts(records) == (RUNNING, SUSPECT)


def test_a_plugin_at_work(records):
    records.start()
    records.runs()
    assert waits(records) == [("a", waiting.EXECUTING)]
    assert verdicts(records) == (RUNNING, SUSPECT)


def test_a_node_that_waits_for_a_callback_is_never_suspect(scheduled):
    assert waits(scheduled) == [("a", waiting.SCHEDULED)]
    assert verdicts(scheduled) == (WAITING, WAITING)


def test_a_callback_that_no_worker_takes_up_is(scheduled):
    called = scheduled.add("pre_callback", "a", by=WEB)
    scheduled.add("post_callback", "a", by=WEB)
    assert waits(scheduled) == [("a", waiting.CALLED_BACK)]
    (wait,) = waiting.waits(scheduled.fold())
    assert wait.since == as_time(called.at)
    assert verdicts(scheduled) == (RUNNING, SUSPECT)


def test_a_plugin_that_was_called_back_and_is_to_be_again(scheduled):
    scheduled.add("pre_callback", "a", by=WEB)
    scheduled.add("pre_schedule", "a")
    scheduled.add("post_schedule", "a")
    assert waits(scheduled) == [("a", waiting.SCHEDULED)]
    assert verdicts(scheduled) == (WAITING, WAITING)


def test_polls_are_expected_at_their_own_pace(scheduled):
    for _ in range(3):
        scheduled.add("pre_schedule", "a")
        scheduled.add("post_schedule", "a")
    (wait,) = waiting.waits(scheduled.fold())
    assert (wait.why, wait.polls) == (waiting.POLLING, 3)
    pace = datetime.timedelta(milliseconds=2)
    assert wait.next_poll_at == wait.last_poll_at + pace
    assert verdicts(scheduled) == (RUNNING, SUSPECT)
    slow = wait._replace(next_poll_at=wait.last_poll_at + 3 * HOUR)
    assert slow.expected_by == wait.last_poll_at + 30 * HOUR


def test_a_poll_after_some_that_were_not_recorded_tells_nothing_of_the_pace(scheduled):
    scheduled.add("pre_schedule", "a")
    counts = {"pre_schedule": 59, "post_schedule": 59}
    scheduled.add("pre_schedule", "a", context={"suppressed": counts})
    (wait,) = waiting.waits(scheduled.fold())
    assert (wait.polls, wait.next_poll_at) == (61, None)


def test_a_pause_names_who_paused(records):
    records.start()
    records.add("pre_pause_pipeline", by=WEB, pipeline_id="run", context={"actor": "alice"})
    records.state("run", "SUSPENDED", "r1", by=WEB)
    (wait,) = waiting.waits(records.fold())
    assert (wait.node_id, wait.why, wait.cause.actor) == ("run", waiting.PAUSED, "alice")
    assert verdicts(records) == (WAITING, WAITING)


def test_what_is_ready_in_a_paused_run_waits_with_it(records):
    records.start()
    records.runs()
    records.state("a", "FAILED")
    records.state("a", "READY", "v2", by=WEB)
    assert waits(records) == [("a", waiting.READY_TO_RUN)]
    assert verdicts(records) == (RUNNING, SUSPECT)
    records.state("run", "SUSPENDED", "r1", by=WEB)
    assert verdicts(records) == (WAITING, WAITING)


def test_a_failure_waits_for_somebody(records):
    records.start()
    records.runs()
    records.add("node_execute_fail", "a")
    records.state("a", "FAILED")
    (wait,) = waiting.waits(records.fold())
    assert (wait.why, wait.cause.event_type) == (waiting.FAILURE, "node_execute_fail")
    assert verdicts(records) == (WAITING, WAITING)


FORKED = {
    "id": "run",
    "start_event": {"id": "start", "type": "EmptyStartEvent"},
    "gateways": {
        "fork": {"id": "fork", "type": "ParallelGateway"},
        "join": {"id": "join", "type": "ConvergeGateway"},
    },
    "activities": {
        each: {"id": each, "type": "ServiceActivity", "name": each} for each in ("b1", "b2", "b3")
    },
    "flows": {
        str(number): {"source": source, "target": target}
        for number, (source, target) in enumerate(
            [
                *(("start", "fork"), ("fork", "b1"), ("fork", "b2"), ("b2", "b3")),
                *(("b1", "join"), ("b3", "join")),
            ]
        )
    },
}


@pytest.fixture
def forked():
    """One branch is done, the other has not begun its second node."""
    records = Records()
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=FORKED)
    records.state("run", "RUNNING", "r1", by=WEB)
    records.add("post_prepare_run_pipeline", by=WEB)
    for node in ("start", "fork"):
        records.state(node, "RUNNING", loop=1)
        records.state(node, "FINISHED")
    for node in ("b1", "b2"):
        records.runs(node)
    records.add("post_execute", "b1")
    records.state("b1", "FINISHED")
    return records


def test_a_converge_gateway_waits_for_the_branch_that_is_under_way(forked):
    found = {wait.node_id: wait for wait in waiting.waits(forked.fold())}
    assert found["join"].why == waiting.CONVERGING
    assert found["join"].on == ("b2",)
    assert found["join"].since == as_time(forked.all[-1].at)
    assert found["b2"].why == waiting.EXECUTING


def test_a_branch_that_fails_is_waited_for_without_alarm(forked):
    forked.state("b2", "FAILED")
    assert waits(forked) == [("b2", waiting.FAILURE), ("join", waiting.CONVERGING)]
    assert verdicts(forked) == (WAITING, WAITING)


def test_it_has_converged_since_the_first_branch_came(forked):
    first = forked.all[-1].at
    forked.state("b2", "FINISHED")
    forked.runs("b3")
    forked.state("b3", "FINISHED")
    joins = forked.state("join", "RUNNING", loop=1)
    forked.state("join", "FINISHED")
    (attempt,) = forked.fold().nodes["join"].attempts
    (phase,) = attempt.phases
    assert (phase.kind, phase.started_us, phase.ended_us) == (CONVERGING, first, joins.at)
    assert "join" not in dict(waits(forked))


def test_a_branch_that_nobody_goes_on_with_is_seen_beside_one_that_waits(forked):
    """Its worker was killed between two nodes."""
    forked.state("b2", "FAILED")
    forked.state("b2", "FINISHED", "v2", by=WEB)
    forked.state("b1", "RUNNING", "v2", loop=2)
    forked.add("pre_execute", "b1")
    forked.add("post_execute", "b1")
    assert ("b1", waiting.SCHEDULED) in waits(forked)
    assert ("b2", waiting.BETWEEN) in waits(forked)
    assert verdicts(forked) == (RUNNING, SUSPECT)
    forked.state("run", "SUSPENDED", "r1", by=WEB)
    assert verdicts(forked) == (WAITING, WAITING)


def test_a_callback_that_the_engine_did_not_take_is_none(scheduled):
    scheduled.add("pre_callback", "a", by=WEB)
    assert waits(scheduled) == [("a", waiting.CALLBACK)]
    assert verdicts(scheduled) == (WAITING, WAITING)


def test_nodes_before_one_that_began_are_missing(forked):
    forked.all = [each for each in forked.all if each.node_id not in ("b2", "fork")]
    forked.runs("b3")
    (reason,) = completeness.reasons(forked.fold())
    assert (reason.kind, reason.nodes) == ("unreached", ("b1", "b3"))


def test_a_node_that_executes_and_was_not_seen_to_begin(records):
    records.start()
    records.add("pre_execute", "a")
    records.add("post_execute", "a")
    assert kinds(records.fold()) == ["unentered"]


def test_an_end_that_only_an_event_tells_of(records):
    records.start()
    records.add("pipeline_finish", pipeline_id="run")
    assert kinds(records.fold()) == ["unfinished"]


def test_a_run_that_is_over_waits_for_nothing(records):
    records.start()
    records.runs()
    records.state("run", "REVOKED", "r1", by=WEB)
    assert waits(records) == []
    assert verdicts(records) == (COMPLETE, COMPLETE), "a node of a revoked run may stay RUNNING"


def finished(records):
    records.state("a", "FINISHED")
    records.state("run", "FINISHED", "r1")
    return records.fold()


def kinds(timeline, *gaps):
    return [each.kind for each in completeness.reasons(timeline, gaps)]


def test_a_whole_run_is_complete(records):
    records.start()
    records.runs()
    records.add("post_execute", "a")
    assert kinds(finished(records)) == []
    assert verdicts(records) == (COMPLETE, COMPLETE)


def test_a_run_whose_start_was_not_recorded(records):
    records.runs()
    assert kinds(finished(records)) == ["no_start"]


def test_a_node_that_ends_without_having_begun(records):
    records.start()
    assert kinds(finished(records)) == ["unentered"]
    (reason,) = completeness.reasons(records.fold())
    assert reason.nodes == ("a",)


def test_a_node_that_has_not_ended_where_the_run_has(records):
    records.start()
    records.runs()
    records.state("run", "FINISHED", "r1")
    assert kinds(records.fold()) == ["unfinished"]
    assert verdict(records) == INCOMPLETE


def test_an_operation_that_had_its_effect_and_no_answer(records):
    records.start()
    records.runs()
    asked = records.add("pre_pause_pipeline", by=WEB, pipeline_id="run")
    records.add("pre_schedule", "a")
    records.state("run", "SUSPENDED", "r1", by=WEB)
    records.add("post_schedule", "a")
    assert kinds(records.fold()) == [], "it may be under way"
    records.add("pre_resume_pipeline", by=WEB, pipeline_id="run")
    (reason,) = completeness.reasons(records.fold())
    assert (reason.kind, reason.positions) == ("unanswered", (asked.position,))


def test_an_operation_that_was_refused_is_whole(records):
    records.start()
    records.runs()
    records.add("pre_pause_pipeline", by=WEB, pipeline_id="run")
    assert kinds(finished(records)) == []


def test_states_that_are_inferred_are_not_held_against_it(records):
    records.start()
    records.all = [each for each in records.all if each.event_type != "post_set_state"]
    records.add("node_finish", "a")
    records.add("pipeline_finish", pipeline_id="run")
    timeline = records.fold()
    assert not timeline.facts.states_recorded
    assert kinds(timeline) == []


def test_a_gap_that_nobody_can_date_concerns_only_what_was_heard_of_lately(records):
    records.start()
    records.runs()
    timeline = records.fold()
    told = timeline.facts.last_at + datetime.timedelta(days=6)
    gap = Gap(99, "worker", None, 5, None, None, told, told)
    assert kinds(timeline, gap) == ["gap"]
    assert kinds(timeline, gap._replace(told_at=told + datetime.timedelta(days=2))) == []
    assert kinds(timeline, gap._replace(writer_id="another")) == []


def test_what_only_told_later_is_no_sign_of_life(records):
    records.start()
    last = records.add("pre_execute", "a")
    records.add("run_tagged", by=WEB, tags={"a": 1})
    records.add("node_failure_detail", "a", ex_data="because")
    assert records.fold().facts.last_at == as_time(last.at)


def test_without_a_record_nothing_is_folded():
    assert fold("run", iter(())) is None
