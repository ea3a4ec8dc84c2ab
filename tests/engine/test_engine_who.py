"""Who and why on the real engine: what its tasks inherit, reasons that are required, tags."""

from __future__ import annotations

from typing import Any

import pytest
from lab import engine
from lab.engine import activity, operate, run, tree_of

import audit
from audit.models import PipelineEventRecord

records = PipelineEventRecord.objects


@pytest.fixture
def failed() -> tuple[str, str]:
    """A run that has failed: its id, and that of the failed node."""
    tree = tree_of(activity("lab_fail_first"))
    with audit.context(actor="alice", reason="release", ticket=7):
        run_id = run(tree)
    (node_id,) = tree["activities"]
    return run_id, node_id


def test_what_the_workers_do_inherits_who_started_the_run(failed):
    run_id, node_id = failed
    started = records.for_run(run_id).of_type("pre_prepare_run_pipeline").get().context
    entered = records.for_node(node_id).of_type("node_enter").get().context

    assert (started["actor"], started["reason"], started["kind"]) == ("alice", "release", "process")
    assert entered["inherited"] == {"actor": "alice", "reason": "release", "ticket": 7}
    assert entered["kind"] == "task"
    assert entered["task"]["name"] == "pipeline.eri.celery.tasks.execute"
    assert "actor" not in entered
    own = records.for_run(run_id).by_actor("alice")
    assert {record.event_type for record in own} == {
        *("pre_prepare_run_pipeline", "post_prepare_run_pipeline", "post_set_state"),
    }
    assert [record.data["to_state"] for record in own.of_type("post_set_state")] == ["RUNNING"]


def test_who_retries_is_who_the_rest_is_inherited_from(failed):
    run_id, node_id = failed
    with audit.context(actor="bob", reason="the host is back"):
        operate("retry_node", node_id)

    (retry,) = records.for_node(node_id).of_type("pre_retry_node")
    finish = records.for_run(run_id).of_type("pipeline_finish").get().context
    assert retry.context["actor"] == "bob"
    assert finish["inherited"] == {"actor": "bob", "reason": "the host is back"}


def test_every_task_of_a_run_carries_on():
    tree = tree_of(*(activity("lab_poll", times=3) for _ in range(3)))
    with audit.context(actor="alice"):
        run_id = run(tree)
    found = [record.context for record in records.for_run(run_id)]
    tasks = [each for each in found if each["kind"] == "task"]
    assert len({each["task"]["id"] for each in tasks}) >= 9
    assert all(each["inherited"] == {"actor": "alice"} for each in tasks)
    assert all(each["actor"] == "alice" for each in found if each["kind"] != "task")


def test_nobody_is_inherited_from_where_nobody_started_it():
    run_id = run(tree_of(activity("lab_ok")))
    (entered,) = records.for_run(run_id).of_type("node_enter")
    assert entered.context["kind"] == "task"
    assert "inherited" not in entered.context


# Reasons.


def test_an_operation_without_a_reason_is_marked(failed, configure):
    _, node_id = failed
    configure(REQUIRE_REASON=["pre_retry_node", "pre_skip_node"])
    with audit.context(actor="bob"):
        operate("retry_node", node_id)
    missing = [record.event_type for record in records.for_node(node_id) if _marked(record)]
    assert missing == ["pre_retry_node"]


@pytest.mark.parametrize(("reason", "marked"), [("why", False), ("", True), (None, True)])
def test_an_empty_reason_is_none(failed, configure, reason, marked):
    _, node_id = failed
    configure(REQUIRE_REASON=["pre_retry_node"])
    with audit.context(actor="bob", reason=reason):
        operate("retry_node", node_id)
    (retry,) = records.for_node(node_id).of_type("pre_retry_node")
    assert _marked(retry) is marked


def test_an_inherited_reason_will_do(configure):
    configure(REQUIRE_REASON=["node_enter"])
    with audit.context(reason="release"):
        with_reason = run(tree_of(activity("lab_ok")))
    without = run(tree_of(activity("lab_ok")))
    assert not _marked(records.for_run(with_reason).of_type("node_enter").get())
    assert _marked(records.for_run(without).of_type("node_enter").get())


def _marked(record: PipelineEventRecord) -> bool:
    return record.context.get("reason_missing") is True


# Tags.


def prepared(run_id: str) -> Any:
    return records.for_run(run_id).of_type("pre_prepare_run_pipeline").get().context


def start(tree: Any) -> str:
    data = {"task_id": 42, "steps": ["a", {"b": 1}], "hidden": {"password": "s3cret"}, "no": None}
    return run(tree, root_pipeline_data=data)


def test_a_run_is_tagged_from_what_it_is_started_with(configure):
    configure(
        RUN_TAGS={
            "task": "root_pipeline_data.task_id",
            "step": "root_pipeline_data.steps.1.b",
            "absent": "root_pipeline_data.steps.2",
            "deeper": "root_pipeline_data.task_id.x",
            "none": "root_pipeline_data.no",
            "text": "root_pipeline_data.steps.0.0",
            "nodes": lambda data: len(data["pipeline"]["activities"]),
            "nothing": lambda data: None,
        }
    )
    run_id = start(tree_of(activity("lab_ok"), activity("lab_ok")))
    assert prepared(run_id)["tags"] == {"task": 42, "step": 1, "nodes": 2}
    assert "changed" not in prepared(run_id)
    tagged = [record for record in records.for_run(run_id) if "tags" in record.context]
    assert [record.event_type for record in tagged] == ["pre_prepare_run_pipeline"]


def test_a_tag_that_cannot_be_found_out_is_noted(configure):
    def broken(data: Any) -> None:
        raise LookupError("boom")

    configure(RUN_TAGS={"broken": broken, "task": "root_pipeline_data.task_id"})
    context = prepared(start(tree_of(activity("lab_ok"))))
    assert context["tags"] == {"task": 42}
    assert context["changed"] == [
        {"path": "context.tags.broken", "was": "unreadable", "lost": "LookupError: boom"}
    ]


def test_tags_are_encoded_and_redacted_like_everything(configure):
    configure(
        RUN_TAGS={
            "inside": "root_pipeline_data.hidden",
            "password": "root_pipeline_data.task_id",
            "odd": lambda data: {1, 2},
        }
    )
    context = prepared(start(tree_of(activity("lab_ok"))))
    assert context["tags"] == {
        "inside": {"password": "[redacted]"},
        "password": "[redacted]",
        "odd": [1, 2],
    }
    assert {"path": "context.tags.odd", "was": "set"} in context["changed"]
    assert sorted(context["redacted"]) == [
        "$.root_pipeline_data.hidden.password",
        "context.tags.inside.password",
        "context.tags.password",
    ]


def test_a_tags_query_that_fails_leaves_the_run_alone(configure):
    from django.db import connections, transaction

    def broken(data: Any) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT no_such_thing")

    configure(RUN_TAGS={"broken": broken})
    tree = tree_of(activity("lab_ok"))
    with transaction.atomic():
        run_id = start(tree)
    assert engine.state(run_id).name == "FINISHED"


def test_a_run_is_given_tags_later():
    run_id = run(tree_of(activity("lab_ok")))
    with audit.context(actor="alice"):
        audit.tag(run_id, ticket=7, token="s3cret")
    (tagged,) = records.for_run(run_id).of_type("run_tagged")
    assert tagged.data == {"tags": {"ticket": 7, "token": "[redacted]"}}
    assert tagged.pipeline_id == run_id
    assert tagged.context["actor"] == "alice"


def test_a_request_is_what_the_workers_inherit_from(settings, rf):
    from audit.middleware import AuditContextMiddleware

    settings.BAMBOO_AUDIT = {
        **getattr(settings, "BAMBOO_AUDIT", {}),
        "ACTOR": lambda request: ("bob", "admin", "api"),
    }
    tree, found = tree_of(activity("lab_ok")), []
    started = AuditContextMiddleware(lambda request: found.append(operate("run_pipeline", tree)))
    started(rf.post("/start/", HTTP_X_REQUEST_ID="abc"))

    (entered,) = records.for_run(tree["id"]).of_type("node_enter")
    assert entered.context["kind"] == "task"
    assert entered.context["inherited"] == {
        "actor": "bob",
        "executor": "admin",
        "source": "api",
        "request": {"id": "abc"},
    }
    assert not {"actor", "request", "source"} & set(entered.context)
