"""Questions over all runs and nodes: each is one query, and each has an index."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import conf
from audit.models import NodeTimeline, PipelineTimeline, StateTransition

pytestmark = pytest.mark.django_db(databases="__all__")

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)
RUN: dict[str, Any] = {
    "name": "Release",
    "tags": {},
    "state": "RUNNING",
    "version": "v1",
    "actor": "",
    "started_at": NOW,
    "first_at": NOW,
    "last_at": NOW,
    "nodes": 3,
    "failed_nodes": 0,
    "attempts": 0,
    "failures": 0,
    "retries": 0,
    "skips": 0,
    "interventions": 0,
    "paused": datetime.timedelta(),
    "reasons": [],
    "actors": [],
    "writers": [],
    "first_position": 1,
    "last_position": 9,
}
NODE: dict[str, Any] = {
    "root_pipeline_id": "q-run",
    "parent_id": "q-run",
    "name": "Deploy",
    "node_type": "ServiceActivity",
    "component_code": "deploy",
    "template_node_id": "",
    "state": "FINISHED",
    "version": "v1",
    "loop": 1,
    "retry": 0,
    "skip": False,
    "error_ignored": False,
    "attempts": 1,
    "failures": 0,
    "interventions": 0,
    "actors": [],
    "started_at": NOW,
    "running": MINUTE,
    "last_error": "",
    "last_position": 9,
}


def run(name: str, **about: Any) -> None:
    PipelineTimeline.objects.create(root_pipeline_id=f"q-{name}", **{**RUN, **about})


def node(name: str, **about: Any) -> None:
    NodeTimeline.objects.create(node_id=f"q-{name}", **{**NODE, **about})


def names(found: Any) -> list[str]:
    return sorted(row.pk.removeprefix("q-") for row in found.filter(pk__startswith="q-"))


REASON = {"kind": "gap", "text": "", "nodes": [], "positions": [1]}


@pytest.fixture
def runs() -> Any:
    run("going", expected_by=NOW + 60 * MINUTE, tags={"task_id": 42, "stage": "blue"})
    run("done", state="FINISHED", finished_at=NOW + MINUTE, tags={"task_id": "42"}, skips=1)
    run("slow", state="FINISHED", finished_at=NOW + 9 * MINUTE, started_at=NOW - MINUTE, failures=1)
    run("gone", state="REVOKED", finished_at=NOW, actors=["alice", "bob"], interventions=2)
    run("stuck", failed_nodes=1, failures=2, retries=1, actors=["bob"])
    run("hole", reasons=[REASON], state="FINISHED")
    run("new", state="", started_at=None, expected_by=NOW - MINUTE)
    return PipelineTimeline.objects


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"failed": ()}, ["stuck"]),
        ({"running": ()}, ["going", "stuck"]),
        ({"finished": ()}, ["done", "hole", "slow"]),
        ({"in_state": ("REVOKED", "")}, ["gone", "new"]),
        ({"with_failures": ()}, ["slow", "stuck"]),
        ({"retried": ()}, ["stuck"]),
        ({"skipped": ()}, ["done"]),
        ({"with_interventions": ()}, ["gone"]),
        ({"incomplete": ()}, ["hole"]),
        ({"by_actor": ("bob",)}, ["gone", "stuck"]),
        ({"by_actor": ("",)}, []),
        ({"started_between": (None, NOW)}, ["slow"]),
        ({"started_between": (NOW, None)}, ["done", "going", "gone", "hole", "stuck"]),
        ({"tagged_as_text": ("task_id", "42")}, ["done", "going"]),
        ({"tagged_as_text": ("task_id", "4²")}, []),
        ({"tagged_as_text": ("task_id", "-")}, []),
        ({"tagged_as_text": ("task_id", "9" * 5_000)}, []),
        ({"tagged_as_text": ("task_id", "true")}, []),
        ({"tagged_as_text": ("stage", "blue")}, ["going"]),
        ({"with_verdict": ("complete", NOW)}, ["done", "gone", "slow"]),
        ({"with_verdict": ("running", NOW)}, ["going"]),
        ({"with_verdict": ("waiting", NOW)}, ["stuck"]),
        ({"with_verdict": ("suspect", NOW)}, ["new"]),
        ({"with_verdict": ("incomplete", NOW)}, ["hole"]),
    ],
    ids=str,
)
def test_runs(runs, question, expected):
    ((method, arguments),) = question.items()
    assert names(getattr(runs, method)(*arguments)) == expected


def test_tags_are_told_apart_by_their_type(runs):
    assert names(runs.tagged(task_id=42)) == ["going"]
    assert names(runs.tagged(task_id="42")) == ["done"]
    assert names(runs.tagged(task_id=42, stage="green")) == []


def test_the_slowest_come_first(runs):
    found = runs.filter(pk__startswith="q-").slowest(2)
    assert [(row.pk, row.took) for row in found] == [("q-slow", 10 * MINUTE), ("q-done", MINUTE)]


def test_every_run_has_one_verdict(runs):
    for row in runs.filter(pk__startswith="q-"):
        verdict = row.verdict_at(NOW)
        assert row in runs.with_verdict(verdict, NOW)
        others = {"complete", "running", "waiting", "suspect", "incomplete"} - {verdict}
        assert not any(row in runs.with_verdict(other, NOW) for other in others)
    with pytest.raises(ValueError, match="No verdict 'well'"):
        runs.with_verdict("well")


@pytest.fixture
def nodes() -> Any:
    run("run", tags={"task_id": 42}, actors=["alice"])
    node("ok")
    node("other", component_code="build", running=9 * MINUTE)
    node("bad", state="FAILED", failures=2, retry=1, interventions=1, actors=["alice"])
    node("skipped", skip=True, failures=1, started_at=NOW + MINUTE)
    node("ignored", error_ignored=True)
    node("unreached", state="", started_at=None, root_pipeline_id="q-another", running=MINUTE / 2)
    transition("q-bad", 1)
    return NodeTimeline.objects


def transition(node_id: str, ordinal: int, **about: Any) -> None:
    columns = {
        "node_id": node_id,
        "ordinal": ordinal,
        "root_pipeline_id": "q-run",
        "from_state": "",
        "state": "RUNNING",
        "entered_at": NOW,
        "left_at": None,
        "version": "v1",
        "loop": 1,
        "attempt": 1,
        "cause": 7,
        "cause_type": "post_set_state",
        "actor": "",
        "reason": "",
        "irregular": False,
        **about,
    }
    with connections[conf.get("DATABASE")].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO bamboo_audit_statetransition ({', '.join(columns)})"
            f" VALUES ({', '.join(['%s'] * len(columns))})",
            list(columns.values()),
        )


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"failed": ()}, ["bad"]),
        ({"finished": ()}, ["ignored", "ok", "other", "skipped"]),
        ({"for_component": ("build",)}, ["other"]),
        ({"for_component": ("",)}, []),
        ({"for_run": ("q-another",)}, ["unreached"]),
        ({"retried": ()}, ["bad"]),
        ({"skipped": ()}, ["skipped"]),
        ({"error_ignored": ()}, ["ignored"]),
        ({"with_failures": ()}, ["bad", "skipped"]),
        ({"with_interventions": ()}, ["bad"]),
        ({"by_actor": ("alice",)}, ["bad"]),
        ({"by_actor": ("",)}, []),
        ({"newest_first": ()}, ["bad", "ignored", "ok", "other", "skipped"]),
    ],
    ids=str,
)
def test_nodes(nodes, question, expected):
    ((method, arguments),) = question.items()
    assert names(getattr(nodes, method)(*arguments)) == expected


def test_nodes_by_their_runs_and_runs_by_their_nodes(nodes):
    tagged = PipelineTimeline.objects.tagged(task_id=42).by_actor("alice").newest_first()
    assert names(nodes.of_runs(tagged).failed()) == ["bad"]
    assert names(PipelineTimeline.objects.for_component("build")) == ["run"]
    assert [row.pk for row in nodes.filter(pk__startswith="q-").slowest(1)] == ["q-other"]


def test_transitions(nodes):
    transition("q-ok", 1, left_at=NOW + MINUTE)
    transition("q-ok", 2, from_state="RUNNING", state="FINISHED", entered_at=NOW + MINUTE)
    found = StateTransition.objects.for_run("q-run")
    assert [row.pk for row in found.for_node("q-ok").in_order()] == ["q-ok/1", "q-ok/2"]
    assert [row.state for row in found.for_node("q-ok").at(NOW + MINUTE)] == ["FINISHED"]
    assert [row.state for row in found.for_node("q-ok").at(NOW)] == ["RUNNING"]
    assert found.between(NOW + MINUTE, None).count() == 1
    assert StateTransition.objects.get(pk="q-ok/2").ordinal == 2


QUESTIONS = {
    "runs failed": lambda: PipelineTimeline.objects.failed(),
    "runs running": lambda: PipelineTimeline.objects.running(),
    "runs with failures": lambda: PipelineTimeline.objects.with_failures(),
    "runs retried": lambda: PipelineTimeline.objects.retried(),
    "runs skipped": lambda: PipelineTimeline.objects.skipped(),
    "runs with interventions": lambda: PipelineTimeline.objects.with_interventions(),
    "runs incomplete": lambda: PipelineTimeline.objects.incomplete(),
    "runs waiting": lambda: PipelineTimeline.objects.with_verdict("waiting"),
    "runs suspect": lambda: PipelineTimeline.objects.with_verdict("suspect"),
    "runs by actor": lambda: PipelineTimeline.objects.by_actor("alice"),
    "runs tagged": lambda: PipelineTimeline.objects.tagged(task_id=42),
    "runs tagged as text": lambda: PipelineTimeline.objects.tagged_as_text("task_id", "42"),
    "runs started": lambda: PipelineTimeline.objects.started_between(NOW, NOW + MINUTE),
    "runs slowest": lambda: PipelineTimeline.objects.slowest(5),
    "runs newest": lambda: PipelineTimeline.objects.newest_first()[:5],
    "runs for component": lambda: PipelineTimeline.objects.for_component("deploy"),
    "nodes failed": lambda: NodeTimeline.objects.failed(),
    "nodes of run": lambda: NodeTimeline.objects.for_run("x"),
    "nodes for component": lambda: NodeTimeline.objects.for_component("deploy"),
    "nodes retried": lambda: NodeTimeline.objects.retried(),
    "nodes skipped": lambda: NodeTimeline.objects.skipped(),
    "nodes error ignored": lambda: NodeTimeline.objects.error_ignored(),
    "nodes with failures": lambda: NodeTimeline.objects.with_failures(),
    "nodes with interventions": lambda: NodeTimeline.objects.with_interventions(),
    "nodes by actor": lambda: NodeTimeline.objects.by_actor("alice"),
    "nodes slowest": lambda: NodeTimeline.objects.slowest(5),
    "nodes newest": lambda: NodeTimeline.objects.newest_first()[:5],
    "nodes of runs": lambda: NodeTimeline.objects.of_runs(
        PipelineTimeline.objects.tagged(task_id=42)
    ),
    "transitions of run": lambda: StateTransition.objects.for_run("x").in_order(),
    "transitions of node": lambda: StateTransition.objects.for_node("x"),
    "transitions between": lambda: StateTransition.objects.between(NOW, NOW + MINUTE),
}


@pytest.fixture
def many(django_db_blocker: Any) -> None:
    """So many rows that reading them all is the dearest way."""
    with connections[conf.get("DATABASE")].cursor() as cursor:
        cursor.execute(
            "INSERT INTO bamboo_audit_pipelinetimeline SELECT r.* FROM jsonb_populate_recordset("
            " NULL::bamboo_audit_pipelinetimeline, (SELECT jsonb_agg(%s::jsonb"
            " || jsonb_build_object("
            " 'root_pipeline_id', 'm' || n, 'started_at', now() - n * interval '1 minute',"
            " 'first_at', now() - n * interval '1 minute', 'state', 'FINISHED',"
            " 'finished_at', now() - n * interval '50 seconds',"
            " 'actors', jsonb_build_array('a' || n), 'tags', jsonb_build_object('task_id', n)))"
            " FROM generate_series(1, 4000) n)) r",
            [json.dumps({**RUN, "paused": "0"}, default=str)],
        )
        cursor.execute(
            "INSERT INTO bamboo_audit_nodetimeline SELECT r.* FROM jsonb_populate_recordset("
            " NULL::bamboo_audit_nodetimeline, (SELECT jsonb_agg(%s::jsonb || jsonb_build_object("
            " 'node_id', 'm' || n, 'root_pipeline_id', 'm' || n / 4, 'running', n || ' seconds',"
            " 'component_code', 'c' || n %% 500, 'started_at', now() - n * interval '1 minute'))"
            " FROM generate_series(1, 8000) n)) r",
            [json.dumps({**NODE, "running": "0"}, default=str)],
        )
        cursor.execute(
            "INSERT INTO bamboo_audit_statetransition (node_id, ordinal, root_pipeline_id,"
            " from_state, state, entered_at, version, loop, attempt, cause, cause_type, actor,"
            " reason, irregular) SELECT 'm' || n, 1, 'm' || n / 4, '', 'RUNNING',"
            " now() - n * interval '1 minute', 'v', 1, 1, n, 'x', '', '', false"
            " FROM generate_series(1, 8000) n"
        )
        for table in ("pipelinetimeline", "nodetimeline", "statetransition"):
            cursor.execute(f"ANALYZE bamboo_audit_{table}")


def test_every_question_is_one_query_with_an_index(many):
    alias = conf.get("DATABASE")
    slow = {}
    for name, question in QUESTIONS.items():
        with CaptureQueriesContext(connections[alias]) as queries:
            list(question().using(alias))
        assert len(queries) == 1, name
        plan = question().using(alias).explain()
        if "Seq Scan" in plan:
            slow[name] = plan
    assert not slow, "\n\n".join(f"{name}\n{plan}" for name, plan in slow.items())


def test_the_present_is_the_default(runs):
    assert "q-new" in {row.pk for row in runs.with_verdict("suspect")}
    assert timezone.now() > NOW
