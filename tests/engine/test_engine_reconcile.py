"""The log against the engine's rows, where they agree and where somebody made them differ."""

from __future__ import annotations

import datetime
import json
import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from lab import scenarios
from lab.chance import run_by_chance
from lab.engine import activity, tree_of
from lab.scenarios import Run
from pipeline.eri.models import State

from audit import conf, reconcile, timeline
from audit.reconcile import HOLE, LOST, OURS, PHANTOM, PURGED, UNDER_WAY

STATE = "post_set_state"
NEVER = datetime.timedelta(days=-3650)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed a moment ago is not excused, and nobody waits to compare again."""
    monkeypatch.setattr(reconcile, "MOMENT", NEVER)
    monkeypatch.setattr(reconcile, "AGAIN_AFTER", 0.0)


def differences(*runs: Run) -> list[reconcile.Difference]:
    *_, (done, count, report) = reconcile.reconcile([run.root for run in runs])
    assert done == count == report.runs == len(runs)
    return report.differences


def kinds(*runs: Run) -> list[str]:
    return [each.kind for each in differences(*runs)]


def test_runs_that_agree_have_no_difference() -> None:
    runs = [run_by_chance(1_000 + seed) for seed in range(20)]
    for found in differences(*runs):
        assert (found.kind, found.explained) == (HOLE, True)
        assert all(each.engine == "" for each in found.fields), "not reached yet"


@pytest.mark.parametrize(
    "field", [{"name": "FAILED"}, {"loop": 7}, {"retry": 7}, {"skip": True}, {"version": "other"}]
)
def test_a_row_that_somebody_changed_is_not_explained(field: dict[str, Any]) -> None:
    run = scenarios.linear()
    State.objects.filter(node_id=run.ids["A"]).update(**field)
    (found,) = differences(run)
    assert (found.kind, found.node_id, found.explained) == (OURS, run.ids["A"], False)
    assert [each.name for each in found.fields] == list(field)
    assert found.fields[0].engine == next(iter(field.values()))
    told = timeline.load(run.root).nodes[run.ids["A"]].transitions
    assert found.records == tuple(each.cause.position for each in told)


def test_what_changed_a_moment_ago_may_be_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MOMENT", datetime.timedelta(minutes=5))
    run = scenarios.linear()
    State.objects.filter(node_id=run.ids["A"]).update(loop=7)
    (found,) = differences(run)
    assert (found.kind, found.explained) == (UNDER_WAY, True)


def test_a_run_that_the_engine_rolled_back_is_a_phantom() -> None:
    run = Run(tree_of(activity("lab_ok", "A")))
    with transaction.atomic():
        run.start(work=False)
        transaction.set_rollback(True)
    assert State.objects.filter(node_id=run.root).count() == 0
    if timeline_is_gone(run):
        return  # the log shared its fate: there is nothing to compare
    (found,) = differences(run)
    assert (found.kind, found.explained) == (PHANTOM, True)


def timeline_is_gone(run: Run) -> bool:
    try:
        timeline.load(run.root)
    except reconcile.NotRecorded:
        return True
    return False


def test_a_run_that_was_begun_and_has_no_rows_is_a_phantom(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tree_of(activity("lab_ok", "A")))
    monkeypatch.setattr(
        "pipeline.eri.runtime.BambooDjangoRuntime.execute", broker_is_away, raising=True
    )
    run.start(work=False)
    assert run.answers == [("run_pipeline", False)]
    State.objects.filter(node_id__in=list(run.names)).delete()
    (found,) = differences(run)
    assert (found.kind, found.explained) == (PHANTOM, True)


def broker_is_away(*_: Any, **__: Any) -> None:
    raise ConnectionError("no broker")


def test_a_run_that_the_engine_purged_keeps_its_timeline() -> None:
    run = scenarios.nested()
    before = timeline.load(run.root).as_states()
    State.objects.filter(root_id=run.root).delete()
    (found,) = differences(run)
    assert (found.kind, found.explained) == (PURGED, True)
    assert timeline.load(run.root).as_states() == before
    assert before[run.root]["state"] == "FINISHED"


def test_a_rollback_of_the_engine_explains_what_is_gone() -> None:
    """It removes rows without a word, and enters nodes again as if for the first time."""
    run = scenarios.linear()
    ids = [run.ids["B"], run.ids["end"]]
    State.objects.filter(node_id__in=ids).delete()
    State.objects.filter(node_id=run.root).update(name="RUNNING")
    assert set(kinds(run)) == {OURS}, "without a sign of it in the log"
    from bamboo_engine import states
    from pipeline.eri.signals import post_set_state

    post_set_state.send(
        sender=State,
        node_id=run.root,
        to_state=states.ROLLING_BACK,
        version=run.version("root"),
        root_id=run.root,
        parent_id=run.root,
        loop=-1,
    )
    assert set(kinds(run)) == {HOLE}


def test_a_node_that_was_not_reached_yet_has_no_run_in_the_engine() -> None:
    run = Run(tree_of(activity("lab_callback", "A"), activity("lab_ok", "B"))).start()
    run.call("pause_node_appoint", "B")
    (found,) = differences(run)
    assert (found.kind, found.explained) == (HOLE, True)
    assert {each.name for each in found.fields} == {"root_id", "parent_id"}


def test_a_run_without_a_record_is_lost(configure: Any) -> None:
    scenarios.linear()  # recording has begun
    configure(DELIVERY="off")
    run = scenarios.linear()
    configure(DELIVERY="inline")
    (found,) = differences(run)
    assert (found.kind, found.explained) == (LOST, False)
    assert "5 rows" in found.text


def test_a_run_from_before_recording_is_excused(configure: Any) -> None:
    scenarios.linear()
    configure(DELIVERY="off")
    run = scenarios.linear()
    configure(DELIVERY="inline")
    long_ago = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    State.objects.filter(root_id=run.root).update(created_time=long_ago)
    (found,) = differences(run)
    assert (found.kind, found.explained) == (LOST, True)


def test_an_empty_log_explains_nothing(monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    configure(DELIVERY="off")
    run = scenarios.linear()
    configure(DELIVERY="inline")
    monkeypatch.setattr(reconcile.runs, "recording_began", lambda using: None)
    (found,) = differences(run)
    assert (found.kind, found.explained) == (LOST, False)


def test_a_run_that_is_polled_excuses_only_what_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    run = scenarios.callback_waits()
    monkeypatch.setattr(reconcile, "MOMENT", datetime.timedelta(minutes=5))
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    started = run.ids["start"]
    State.objects.filter(node_id=started).update(
        retry=7, created_time=long_ago, started_time=long_ago, archived_time=long_ago
    )
    monkeypatch.setattr(reconcile.timeline, "load", an_hour_later(started))
    monkeypatch.setattr(reconcile.runs, "recording_began", lambda using: None)
    (found,) = differences(run)
    assert (found.kind, found.explained) == (OURS, False)


def an_hour_later(node_id: str) -> Any:
    """What the log has of that node is an hour old; the rest of the run is fresh."""
    load, hour = timeline.load, 3_600_000_000

    def found(root: str) -> Any:
        loaded = load(root)
        node = loaded.nodes[node_id]
        aged = node._replace(
            transitions=tuple(
                each._replace(entered_us=each.entered_us - hour) for each in node.transitions
            )
        )
        loaded._run = loaded._run._replace(nodes={**loaded.nodes, node_id: aged})
        return loaded

    return found


def test_one_lost_change_does_not_excuse_the_rest_of_the_run() -> None:
    """A node that ends without having begun is irregular, and no rollback."""
    run = scenarios.linear()
    State.objects.filter(node_id=run.ids["B"]).update(retry=9)
    loaded = timeline.load(run.root)
    records = reconcile.runs.records(conf.get("DATABASE"), run.root)
    assert loaded.nodes[run.ids["B"]].retry == 0
    began = next(
        each for each in records if each.node_id == run.ids["A"] and each.event_type == STATE
    )
    without = [each for each in records if each is not began]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline.loading.runs, "records", lambda *_: without)
        found = {each.node_id: each for each in differences(run)}
    assert found[run.ids["B"]].kind == OURS
    assert not found[run.ids["B"]].explained


def test_what_began_unrecorded_is_not_excused(configure: Any) -> None:
    configure(DELIVERY="off")
    run = Run(tree_of(activity("lab_callback", "A"), activity("lab_ok", "B"))).start()
    configure(DELIVERY="inline")
    run.call("callback", "A", run.version("A"), {})
    found = differences(run)
    assert found
    assert not any(each.explained for each in found), "recording had begun by then"
    long_ago = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    State.objects.filter(node_id=run.root).update(created_time=long_ago)
    found = differences(run)
    assert {(each.kind, each.explained) for each in found} == {(LOST, True)}


def test_the_command_exits_with_an_error_for_what_is_not_explained() -> None:
    run = scenarios.linear()
    out = StringIO()
    call_command("audit_reconcile", run.root, run.ids["A"], stdout=out)
    assert "1 runs, 5 rows of the engine compared: 0 differences" in out.getvalue()
    State.objects.filter(node_id=run.ids["A"]).update(retry=3)
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_reconcile", run.ids["B"], json=True, stdout=out)
    assert ended.value.code == 1
    found = json.loads(out.getvalue())
    assert (found["runs"], found["unexplained"]) == (1, 1)
    assert found["differences"][0]["fields"] == [["retry", 3, 0]]
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_reconcile", run.root, stdout=out)
    assert "retry: 3 in the engine, 0 by the log" in out.getvalue()
    assert f"NOT EXPLAINED: see audit_timeline {run.ids['A']}" in out.getvalue()


def test_since_finds_runs_of_the_engine_and_of_the_log(configure: Any) -> None:
    purged, kept = scenarios.linear(), scenarios.linear()
    State.objects.filter(root_id=purged.root).delete()
    configure(DELIVERY="off")
    unrecorded = scenarios.linear()
    configure(DELIVERY="inline")
    minute = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    *_, (_, _, report) = reconcile.reconcile(since=minute)
    found = {each.root_pipeline_id: each.kind for each in report.differences}
    assert found[purged.root] == PURGED
    assert found[unrecorded.root] == LOST
    assert kept.root not in found


@pytest.mark.parametrize("since", ["7", "d", "-1d", "7 days", "", "99999999d"])
def test_a_senseless_since_is_told(since: str) -> None:
    with pytest.raises(CommandError, match="write it as"):
        call_command("audit_reconcile", since=since)


def test_an_id_that_nobody_knows_is_told() -> None:
    with pytest.raises(CommandError, match="Neither the log nor the engine"):
        call_command("audit_reconcile", uuid.uuid4().hex)
