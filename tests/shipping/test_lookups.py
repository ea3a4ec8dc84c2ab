"""What a record does not say: its run, and why a node failed."""

from __future__ import annotations

import time
from importlib.util import find_spec

import pytest

from audit.capture.ids import Place, known_nodes
from audit.models import PipelineEventRecord

with_engine = pytest.mark.skipif(find_spec("pipeline") is None, reason="the engine")


def runs(fresh):
    found = PipelineEventRecord.objects.filter(writer_id=fresh.id).order_by("writer_position")
    return list(found.values_list("root_pipeline_id", flat=True))


def unique(name):
    return f"{name}-{time.monotonic_ns()}"


def test_from_records_of_the_same_node(emit, drain, fresh):
    run, node = unique("run"), unique("node")
    emit(run=run, node=node)
    drain()
    emit(run="", node=node, event_type="pre_retry_node")
    emit(run="", node=unique("stranger"))
    emit(run=run, node=node)
    drain()
    assert runs(fresh) == [run, run, "", run]


def test_from_the_memory_of_this_process(emit, drain, fresh, django_assert_num_queries):
    node = unique("node")
    known_nodes.learn({node: Place("learnt", "learnt")})
    emit(run="", node=node)
    drain()
    assert runs(fresh) == ["learnt"]


def test_a_record_of_no_node_at_all_is_left_alone(emit, drain, fresh):
    emit(run="", node="")
    drain()
    assert runs(fresh) == [""]


def test_many_at_once_are_one_look_up(emit, drain, fresh, shipper, monkeypatch):
    from audit.log import ship

    asked = []
    roots = ship.roots
    monkeypatch.setattr(ship, "roots", lambda link, ids: asked.append(ids) or roots(link, ids))
    for number in range(50):
        emit(run="", node=unique(f"node{number}"))
    drain()
    assert [len(ids) for ids in asked] == [50]


@with_engine
def test_from_the_engines_own_nodes(emit, drain, fresh):
    from lab import scenarios

    run = scenarios.linear()
    PipelineEventRecord.objects.filter(root_pipeline_id=run.root)
    known_nodes._reset()
    from audit import engine

    node = run.ids["A"]
    assert engine.roots([node, "nobody"]) == {node: run.root}


@pytest.fixture
def at_once(monkeypatch):
    from audit.shipping import lookups

    monkeypatch.setattr(lookups, "ASK_AFTER", (0.0, 0.0, 0.0))


@pytest.fixture
def details(drain):
    def of(run):
        drain()
        found = PipelineEventRecord.objects.for_run(run.root).of_type("node_failure_detail")
        return list(found.order_by("id"))

    return of


@with_engine
def test_a_plugin_that_says_why_and_returns_false(at_once, details):
    from lab import scenarios

    run = scenarios.execute_false()
    (detail,) = details(run)
    assert detail.node_id == run.ids["A"]
    assert detail.node_version == run.version("A")
    assert "the host said no" in detail.data["ex_data"]
    assert detail.data["source"] == "ExecutionData"
    assert detail.pipeline_id == run.root


@with_engine
def test_after_a_retry_the_text_is_the_failed_executions(at_once, details):
    from lab import scenarios

    run = scenarios.execute_false_then_retry()
    (detail,) = details(run)
    assert detail.data["source"] == "ExecutionHistory"
    assert detail.node_version != run.version("A")


@with_engine
def test_an_ignored_error_is_told_too(at_once, details):
    from lab import scenarios

    run = scenarios.error_ignored()
    found = details(run)
    assert [each.node_id for each in found] == [run.ids["A"]]
    assert found[0].data["ex_data"]


@with_engine
def test_secrets_in_it_are_redacted_and_it_is_cut(at_once, details, monkeypatch):
    from lab import scenarios

    from audit import engine
    from audit.shipping import lookups

    said = '{"password": "s3cret", "text": "' + "x" * 100 + '"}'
    monkeypatch.setattr(
        engine,
        "failures",
        lambda wanted: {each: engine.Failure(said, "ExecutionData") for each in wanted},
    )
    run = scenarios.execute_false()
    (detail,) = details(run)
    assert "s3cret" not in detail.data["ex_data"]
    assert "[redacted]" in detail.data["ex_data"]

    monkeypatch.setattr(lookups, "MAX_TEXT", 10)
    run = scenarios.execute_false()
    (detail,) = details(run)
    assert detail.data["ex_data"] == said[:10]
    assert detail.data["characters"] == len(said)


@with_engine
def test_text_of_another_version_is_not_told():
    from lab import scenarios

    from audit import engine

    run = scenarios.execute_false()
    node = run.ids["A"]
    assert engine.failures([(node, run.version("A")), (node, "another")]).keys() == {
        (node, run.version("A"))
    }


@with_engine
def test_an_engine_that_does_not_answer_holds_up_nothing(
    at_once, emit, drain, shipped, monkeypatch, caplog
):
    from django.db import DatabaseError

    from audit import engine

    def away(_):
        raise DatabaseError("gone away")

    monkeypatch.setattr(engine, "roots", away)
    emit(run="", node=unique("node"))
    drain()
    assert shipped() == [1]
    assert "gone away" in caplog.text
