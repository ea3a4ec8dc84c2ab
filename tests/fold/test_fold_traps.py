"""What the engine's events do not mean, one by one."""

from __future__ import annotations

import pytest
from lab.by_hand import TREE, WEB

from audit.fold import fold
from audit.fold.results import CALLBACK, EXECUTING, PAUSED, POLLING, SCHEDULED
from audit.fold.tree import read


def outcomes(timeline):
    return [(each.operation, each.outcome) for each in timeline.interventions]


def kinds(attempt):
    return [phase.kind for phase in attempt.phases]


def test_without_a_record_there_is_no_run():
    assert fold("run", []) is None


def test_names_types_and_places_come_from_the_tree(records):
    records.start({"ticket": 7})
    records.add("run_tagged", by=WEB, tags={"ticket": 8, "stage": "blue"})
    timeline = records.fold()
    assert list(timeline.nodes) == ["run", "start", "end", "a", "sub", "sub/start", "sub/end", "b"]
    place = timeline.nodes["a"].place
    assert (place.name, place.node_type, place.component_code) == ("A", "ServiceActivity", "deploy")
    assert timeline.nodes["b"].place.parent_id == "sub"
    assert timeline.pipeline.place.name == "Release"
    assert timeline.tags == {"ticket": 8, "stage": "blue"}


def test_a_subprocess_that_is_entered_has_not_finished(records):
    records.start()
    records.state("sub", "RUNNING", loop=1)
    records.add("node_finish", "sub")
    assert records.fold().nodes["sub"].state == "RUNNING"
    records.state("sub/end", "RUNNING", loop=1)
    records.state("sub", "FINISHED")
    records.add("node_finish", "sub/end")
    assert records.fold().nodes["sub"].state == "FINISHED"


def test_events_alone_say_that_too(records):
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=TREE)
    records.add("node_finish", "sub")
    assert records.fold().nodes["sub"].state == "RUNNING"
    records.add("node_finish", "sub/end")
    assert records.fold().nodes["sub"].state == "FINISHED"


def test_the_last_event_of_a_run_is_not_its_end(records):
    records.start()
    records.state("end", "RUNNING", loop=1)
    records.state("run", "FINISHED", "r1")
    records.add("pipeline_finish", pipeline_id="run")
    ended = records.fold().pipeline.finished_at
    records.state("end", "FINISHED")
    last = records.add("node_finish", "end")
    timeline = records.fold()
    assert timeline.pipeline.finished_at == ended
    assert timeline.facts.last_position == last.position


@pytest.mark.parametrize(
    ("operation", "target"), [("pause_pipeline", "run"), ("revoke_pipeline", "run")]
)
def test_a_refused_operation_changes_nothing(records, operation, target):
    records.start()
    records.add(f"pre_{operation}", by=WEB, pipeline_id=target, context={"actor": "alice"})
    assert outcomes(records.fold()) == [(operation, "unknown")]
    records.add("pre_callback", "a", by=WEB)
    timeline = records.fold()
    assert outcomes(timeline)[0] == (operation, "refused")
    assert timeline.pipeline.state == "RUNNING"


def test_an_operation_whose_second_event_is_missing_was_done_if_its_state_came(records):
    records.start()
    pause = records.add(
        "pre_pause_pipeline", by=WEB, pipeline_id="run", context={"actor": "alice", "reason": "x"}
    )
    records.add("pre_execute", "a")  # a worker's event in between
    records.state("run", "SUSPENDED", "r1", by=WEB)
    timeline = records.fold()
    assert outcomes(timeline) == [("pause_pipeline", "done")]
    (last,) = timeline.pipeline.transitions[-1:]
    assert (last.state, last.cause.position) == ("SUSPENDED", pause.position)
    assert (last.cause.actor, last.cause.reason) == ("alice", "x")


def test_code_that_runs_on_after_a_forced_fail_does_not_wake_the_node(records):
    records.start()
    records.state("a", "RUNNING", "v1", 1)
    records.add("pre_execute", "a", context={"task": {"id": "t1"}})
    records.add("pre_forced_fail_activity", "a", by=WEB, ex_data="stop", context={"actor": "bob"})
    records.state("a", "FAILED", "v2", by=WEB)
    records.add("post_forced_fail_activity", "a", by=WEB, ex_data="stop", new_version="v2")
    records.add("pre_retry_node", "a", by=WEB)
    records.state("a", "READY", "v3", by=WEB)
    records.state("a", "RUNNING", "v3", 1)
    records.add("pre_execute", "a", context={"task": {"id": "t2"}})
    late = records.add("post_execute", "a", context={"task": {"id": "t1"}})
    node = records.fold().nodes["a"]
    first, second = node.attempts
    assert (first.state, first.forced, first.error) == ("FAILED", True, "stop")
    assert first.ran_until is not None
    assert first.ran_until.microsecond == late.at
    assert (second.state, kinds(second)) == ("RUNNING", [EXECUTING])
    assert (node.state, node.retry) == ("RUNNING", 1)


def test_a_forced_fail_without_a_change_of_state_is_one(records):
    records.start()
    records.runs()
    records.add("pre_forced_fail_activity", "a", by=WEB, ex_data="")
    records.add("post_forced_fail_activity", "a", by=WEB, ex_data="", new_version="v2")
    node = records.fold().nodes["a"]
    assert (node.state, node.version) == ("FAILED", "v2")


@pytest.mark.parametrize(
    ("last", "ignored"),
    [
        ("pre_execute", True),
        ("node_execute_exception", True),
        ("post_execute", False),
    ],
)
def test_an_ignored_error_is_an_end_without_an_answer(records, last, ignored):
    records.start()
    records.runs()
    if last != "pre_execute":
        records.add(last, "a", ex_data="boom" if ignored else None)
    records.state("a", "FINISHED")
    records.add("node_finish", "a")
    node = records.fold().nodes["a"]
    assert node.error_ignored is ignored
    assert node.attempts[0].error_ignored is ignored
    assert node.error == ("boom" if last == "node_execute_exception" else "")


@pytest.mark.parametrize(("pre", "post", "ignored"), [(3, 3, False), (3, 2, True)])
def test_polls_that_were_only_counted_tell_it_as_well(records, pre, post, ignored):
    records.start()
    records.runs()
    for event_type in ("post_execute", "pre_schedule", "post_schedule"):
        records.add(event_type, "a")
    ended = records.state("a", "FINISHED")
    ended.context["suppressed"] = {"pre_schedule": pre, "post_schedule": post}
    timeline = records.fold()
    node = timeline.nodes["a"]
    assert node.error_ignored is ignored
    assert [(phase.kind, phase.polls) for phase in node.attempts[0].phases] == [
        (EXECUTING, 0),
        (POLLING, 1 + pre),
    ]
    assert timeline.facts.polls_suppressed == pre


def test_the_rerun_limit_fails_a_node_that_had_finished(records):
    records.start()
    records.runs(loop=10)
    records.add("post_execute", "a")
    records.state("a", "FINISHED")
    records.state("a", "FAILED")
    records.add("node_failure_detail", "a", version="v1", ex_data="exceed rerun limit 10")
    node = records.fold().nodes["a"]
    assert (node.state, node.loop, len(node.attempts)) == ("FAILED", 10, 1)
    assert node.error == "exceed rerun limit 10"


def test_a_node_that_is_entered_again_begins_another_attempt(records):
    """A loop of the pipeline, or one message delivered twice."""
    records.start()
    for loop in (1, 2):
        records.runs(version=f"v{loop}", loop=loop)
        records.add("post_execute", "a")
        records.state("a", "FINISHED", f"v{loop}")
    node = records.fold().nodes["a"]
    assert [(each.no, each.loop, each.version) for each in node.attempts] == [
        (1, 1, "v1"),
        (2, 2, "v2"),
    ]


def test_what_the_engine_tells_again_after_a_hiccup_is_harmless(records):
    records.start()
    records.runs()
    records.add("post_execute", "a")
    records.state("a", "FINISHED")
    records.add("node_finish", "a")
    before = records.fold().nodes["a"]
    records.state("a", "FINISHED")
    records.add("node_finish", "a")
    after = records.fold().nodes["a"]
    assert after.transitions == before.transitions
    assert after.attempts == before.attempts


def test_a_retry_counts_and_a_resume_does_not(records):
    records.start()
    records.runs()
    records.add("node_execute_fail", "a")
    records.state("a", "FAILED")
    records.add("pre_retry_node", "a", by=WEB, context={"actor": "alice"})
    records.state("a", "READY", "v2", by=WEB)
    records.runs(version="v2")
    node = records.fold().nodes["a"]
    assert (node.retry, node.attempts[1].cause.actor) == (1, "alice")
    assert node.transitions[1].cause.event_type == "node_execute_fail"
    records.state("a", "SUSPENDED", "v2", by=WEB)
    records.state("a", "READY", "v2", by=WEB)
    node = records.fold().nodes["a"]
    assert node.retry == 1
    assert kinds(node.attempts[1]) == [EXECUTING, PAUSED]


def test_a_skip_is_no_success(records):
    records.start()
    records.runs()
    records.state("a", "FAILED")
    records.add("pre_skip_node", "a", by=WEB, context={"actor": "alice", "reason": "by hand"})
    records.state("a", "FINISHED", "v2", by=WEB)
    node = records.fold().nodes["a"]
    assert (node.state, node.skip, node.attempts[0].state) == ("FINISHED", True, "FAILED")
    assert node.transitions[-1].cause.reason == "by hand"


def test_a_rollback_deletes_rows_and_says_nothing(records):
    records.start()
    records.runs(loop=3)
    records.state("a", "FINISHED")
    records.state("a", "READY", "v2")
    records.state("a", "RUNNING", "v2", 1)
    node = records.fold().nodes["a"]
    assert (node.loop, node.retry, node.archived_at) == (1, 0, None)
    assert [each.irregular for each in node.transitions] == [False, False, True, False]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_worker_that_ends_while_somebody_forces_its_node_to_fail_skips_nothing(records, version):
    """Which of the two wrote last nobody can tell; the engine keeps the newer version."""
    records.start()
    records.runs()
    records.add("pre_forced_fail_activity", "a", by=WEB, ex_data="stop")
    records.state("a", "FAILED", "v2", by=WEB)
    records.state("a", "FINISHED", version)
    records.add("post_forced_fail_activity", "a", by=WEB, ex_data="stop", new_version="v2")
    node = records.fold().nodes["a"]
    assert (node.state, node.version, node.skip) == ("FINISHED", "v2", False)
    assert [each.irregular for each in node.transitions] == [False, False, True]


def test_events_alone_tell_of_a_skip_of_a_node_whose_version_is_known(records):
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=TREE)
    records.add("post_prepare_run_pipeline", by=WEB)
    records.add("node_enter", "a")
    records.add("pre_callback", "a", by=WEB, version="v1")
    records.add("post_callback", "a", by=WEB, version="v1")
    records.add("node_schedule_fail", "a")
    records.add("pre_skip_node", "a", by=WEB)
    records.add("post_skip_node", "a", by=WEB)
    node = records.fold().nodes["a"]
    assert (node.state, node.version, node.skip) == ("FINISHED", "", True)


def test_irregular_changes_are_kept_and_flagged(records):
    records.start()
    records.runs()
    records.state("a", "SUSPENDED")
    records.state("a", "FINISHED")
    timeline = records.fold()
    assert timeline.nodes["a"].state == "FINISHED"
    assert [each.irregular for each in timeline.nodes["a"].transitions] == [False, False, True]
    assert timeline.facts.irregular == 1


@pytest.mark.parametrize("sender", [None, "dbm.tasks.Flow"])
def test_changes_that_somebody_else_sends_are_not_folded(records, sender):
    records.start()
    records.state("run", "FAILED", sender=sender)
    timeline = records.fold()
    assert timeline.pipeline.state == "RUNNING"
    assert timeline.facts.foreign == 1


def test_a_callback_ends_the_waiting(records):
    records.start()
    records.runs()
    records.add("post_execute", "a")
    assert kinds(records.fold().nodes["a"].attempts[0]) == [EXECUTING, SCHEDULED]
    records.add("pre_callback", "a", by=WEB, version="v1", data={"ok": True})
    (_, waiting) = records.fold().nodes["a"].attempts[0].phases
    assert (waiting.kind, waiting.arrived_at) == (CALLBACK, None), "a pre_ event is an attempt"
    records.add("post_callback", "a", by=WEB, version="v1", data={"ok": True})
    (_, waiting) = records.fold().nodes["a"].attempts[0].phases
    assert waiting.arrived_at is not None
    records.add("pre_schedule", "a")
    records.add("post_schedule", "a")
    records.state("a", "FINISHED")
    attempt = records.fold().nodes["a"].attempts[0]
    assert kinds(attempt) == [EXECUTING, CALLBACK, EXECUTING]
    assert all(phase.ended_at for phase in attempt.phases)


def test_a_run_that_was_rolled_back_was_never_handed_over(records):
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=TREE)
    records.state("run", "RUNNING", "r1", by=WEB)
    facts = records.fold().facts
    assert (facts.started, facts.handed_over) == (True, False)


def test_facts_of_a_run_whose_beginning_was_not_recorded(records):
    records.state("a", "FINISHED")
    records.runs("b")
    records.state("run", "FINISHED", "r1")
    facts = records.fold().facts
    assert not facts.started
    assert facts.unentered == ("a", "run")
    assert facts.unfinished == ("b",)


@pytest.mark.parametrize("tree", [None, 7, {}, {"id": 7}, {"id": "run", "activities": 7}])
def test_what_is_no_tree_is_none(tree):
    assert set(read(tree)) <= {"run"}


def test_a_node_that_is_entered_again_begins_anew_unless_it_loops_by_itself(records):
    looping = {**TREE["activities"]["a"], "id": "l", "loop_config": {"enable": True}}
    tree = {**TREE, "activities": {**TREE["activities"], "l": looping}}
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=tree)
    for node in ("a", "l"):
        records.runs(node)
        records.state(node, "FAILED")
        records.state(node, "READY", "v2", by=WEB)
        records.runs(node, "v2")
        records.state(node, "FINISHED", "v2")  # with an error that is ignored
        records.runs(node, "v3", 2)
    nodes = records.fold().nodes
    assert [(nodes[each].retry, nodes[each].error_ignored) for each in "al"] == [
        (0, False),
        (1, False),
    ]


def test_a_change_that_another_process_makes_is_not_what_was_asked_for(records):
    records.start()
    records.runs()
    records.state("a", "FAILED")
    records.add("pre_skip_node", "a", by="another web", context={"actor": "bob"})
    records.state("a", "FINISHED", "v2", by=WEB)
    assert records.fold().nodes["a"].transitions[-1].cause.actor == ""


def test_a_forced_fail_that_was_refused_is_no_forced_fail(records):
    """The node failed by itself, in the process that asked, and kept its version."""
    records.start()
    records.runs()
    records.add("pre_forced_fail_activity", "a", by=WEB, ex_data="stop", context={"actor": "bob"})
    records.add("node_execute_fail", "a")
    records.state("a", "FAILED", by=WEB)
    timeline = records.fold()
    attempt = timeline.nodes["a"].attempts[0]
    assert (attempt.state, attempt.forced, attempt.error) == ("FAILED", False, "")
    assert timeline.nodes["a"].transitions[-1].cause.event_type == "node_execute_fail"
    assert outcomes(timeline) == [("forced_fail_activity", "refused")]


@pytest.mark.parametrize("again", [False, True])
def test_events_alone_tell_of_gateways_by_what_they_lead_to(records, again):
    flows = {"f1": ("start", "fork"), "f2": ("fork", "a"), "f3": ("fork", "b")}
    tree = {
        "id": "run",
        "start_event": TREE["start_event"],
        "end_event": TREE["end_event"],
        "activities": {each: {"id": each, "type": "ServiceActivity"} for each in "ab"},
        "gateways": {"fork": {"id": "fork", "type": "ParallelGateway"}},
        "flows": {key: {"source": one, "target": two} for key, (one, two) in flows.items()},
    }
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=tree)
    assert records.fold().nodes["fork"].state == ""
    for _ in range(1 + again):
        for node in "ab":
            records.add("node_enter", node)
            records.add("node_finish", node)
    fork = records.fold().nodes["fork"]
    assert (fork.state, fork.loop, len(fork.attempts)) == ("FINISHED", 1 + again, 1 + again)


@pytest.mark.parametrize("loops", [False, True])
def test_events_alone_tell_a_loop_from_a_repetition(records, loops):
    looping = {**TREE["activities"]["a"], "loop_config": {"enable": loops}}
    tree = {**TREE, "activities": {"a": looping}}
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=tree)
    for _ in range(3):
        records.add("node_enter", "a")
        records.add("pre_execute", "a")
        records.add("post_execute", "a")
    node = records.fold().nodes["a"]
    assert (node.loop, len(node.attempts)) == ((3, 3) if loops else (1, 1))


def test_a_record_that_comes_twice_is_one(records):
    records.start()
    for _ in range(2):
        records.add("pre_pause_pipeline", by=WEB, pipeline_id="run")
    once = records.fold()
    records.all += records.all
    assert records.fold() == once
    assert len(once.interventions) == 2
