"""The tables of the timelines: whoever applies the records, and however, makes the same rows."""

from __future__ import annotations

import datetime
import json
import random
import threading
import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from lab.by_hand import WEB, WORKER, Records
from lab.projected import catch_up, refold
from lab.stored import empty_log, store, writer_id
from lab.tables import TABLES, rows

from audit import conf, timeline
from audit.exceptions import AuditError, HeadUnsettled
from audit.log import checkpoints, settled
from audit.models import (
    NodeTimeline,
    PipelineTimeline,
    ProjectionCheckpoint,
    RecordSetAside,
    StateTransition,
)
from audit.projections import folds, timelines
from audit.projections.timelines import Timelines

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

SINCE = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
RUNS = 4


@pytest.fixture(autouse=True)
def caught_up():
    """Nothing that other tests have left is in the log."""
    empty_log()
    catch_up()


def position() -> int:
    return ProjectionCheckpoint.objects.get(name=Timelines.name).position


def rewind(to: int) -> None:
    ProjectionCheckpoint.objects.filter(name=Timelines.name).update(position=to)


def a_run(number: int, mark: str) -> tuple[str, list[Any]]:
    """A run with a failure, a retry or an end, or without; all its ids have the mark."""
    records, chance = Records(), random.Random(number)
    records.start({"number": number})
    records.runs("a")
    if number % 2:
        records.add("node_execute_fail", "a")
        records.state("a", "FAILED")
        records.add("pre_retry_node", "a", by=WEB, context={"actor": "alice", "reason": "again"})
        records.state("a", "READY", "v2", by=WEB)
        records.add("post_retry_node", "a", by=WEB)
        records.runs("a", "v2")
    records.add("post_execute", "a")
    records.state("a", "FINISHED", "v2" if number % 2 else "v1")
    if chance.random() < 0.5:
        records.state("run", "FINISHED", "r1")

    def own(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: own(each, name) for name, each in value.items()}
        return f"{mark}{number}/{value}" if key in ("id", "root_id") else value

    return f"{mark}{number}/run", [
        each._replace(
            data=own(each.data),
            node_id=own(each.node_id, "id") if each.node_id else "",
            writer_id=f"{mark}{number % 2}/{each.writer_id}",
            writer_position=each.writer_position + 100 * number,
        )
        for each in records.all
    ]


def store_runs(chance: Any) -> str:
    """Some runs, their records stored in an order by chance; answers their mark."""
    mark = uuid.uuid4().hex[:8]
    found = [
        (root, each) for n in range(RUNS) for root, records in [a_run(n, mark)] for each in records
    ]
    chance.shuffle(found)
    for root, record in found:
        store([record], root=root, since=SINCE)
    return mark


def clear(mark: str) -> None:
    for model in TABLES:
        model.objects.filter(root_pipeline_id__startswith=mark).delete()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chance=some.randoms(use_true_random=False), batch=some.integers(1, 40))
def test_order_of_arrival_and_batches_make_no_difference(chance, batch):
    before = position()
    mark = store_runs(chance)
    catch_up(batch)
    found = rows(mark)
    assert len(found["PipelineTimeline"]) == RUNS
    assert found["NodeTimeline"]
    clear(mark)
    rewind(before)
    catch_up()
    assert rows(mark) == found
    without = rows(mark, positions=False)
    _expected.setdefault("rows", without)
    assert without == _expected["rows"]


_expected: dict[str, Any] = {}
"""Of the first order by chance, for all others."""


def test_what_is_applied_once_more_changes_nothing():
    before = position()
    mark = store_runs(random.Random(1))
    catch_up()
    found, versions = rows(mark), tuples(mark)
    rewind(before)
    progress = catch_up()
    assert progress.runs == RUNS
    assert rows(mark) == found
    assert tuples(mark) == versions, "rows that do not differ are not written"
    assert catch_up().runs == 0


def tuples(mark: str) -> set[str]:
    """Where the rows are on the disk, and who wrote them."""
    found = set()
    with connections[conf.get("DATABASE")].cursor() as cursor:
        for model in TABLES:
            cursor.execute(
                f"SELECT ctid::text || xmin::text FROM {model._meta.db_table}"
                " WHERE starts_with(root_pipeline_id, %s)",
                [mark],
            )
            found |= {f"{model.__name__} {row}" for (row,) in cursor.fetchall()}
    return found


def test_two_workers_make_the_same_rows():
    before = position()
    mark = store_runs(random.Random(2))
    catch_up()
    expected = rows(mark)
    clear(mark)
    rewind(before)
    progress, errors = [], []

    def work() -> None:
        try:
            progress.append(catch_up(batch=9))
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert rows(mark) == expected
    assert all(each.position == position() for each in progress)


def test_rows_and_checkpoint_are_of_one_transaction(monkeypatch):
    before = position()
    mark = store_runs(random.Random(3))

    def fail(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "move", fail)
        with pytest.raises(ZeroDivisionError):
            catch_up()
    assert position() == before
    assert rows(mark)["PipelineTimeline"] == []
    catch_up()
    assert len(rows(mark)["PipelineTimeline"]) == RUNS


def test_the_tables_are_what_is_loaded():
    mark = store_runs(random.Random(4))
    catch_up()
    for run in PipelineTimeline.objects.filter(root_pipeline_id__startswith=mark):
        loaded = timeline.load(run.pk)
        assert (run.state, run.version, run.name) == ("RUNNING", "r1", "Release") or run.finished_at
        assert (run.started_at, run.finished_at) == (
            *(loaded.pipeline.started_at, loaded.pipeline.finished_at),
        )
        assert run.tags == loaded.tags
        assert run.verdict_at(loaded.now) == loaded.verdict().kind
        assert (run.first_at, run.last_at) == (loaded.facts.first_at, loaded.facts.last_at)
        number = run.tags["number"]
        assert (run.attempts, run.failures, run.retries, run.interventions) == (
            (2, 1, 1, 1) if number % 2 else (1, 0, 0, 0)
        )
        assert run.actors == (["alice"] if number % 2 else [])
        assert run.nodes == 7
        node = NodeTimeline.objects.get(pk=f"{mark}{number}/a")
        assert (node.name, node.component_code, node.state) == ("A", "deploy", "FINISHED")
        assert node.running == sum(
            (each.ended_at - each.started_at for each in loaded.attempts(node.pk)),
            datetime.timedelta(),
        )
        if number % 2:
            ready = StateTransition.objects.get(node_id=node.pk, state="READY")
            assert (ready.actor, ready.reason, ready.cause_type) == (
                *("alice", "again"),
                "pre_retry_node",
            )


def test_what_comes_late_is_put_where_it_belongs():
    """A record from another process, older than all that is applied."""
    mark = uuid.uuid4().hex[:8]
    root, records = a_run(1, mark)
    late = next(each for each in records if each.event_type == "pre_retry_node")
    store([each for each in records if each is not late], root=root, since=SINCE)
    catch_up()
    assert PipelineTimeline.objects.get(pk=root).actors == []
    # Nobody knew its run when it was stored.
    store([late], root="", since=SINCE)
    catch_up()
    assert PipelineTimeline.objects.get(pk=root).actors == ["alice"]


def test_a_gap_that_is_told_later_marks_the_runs_that_it_may_concern():
    mark = store_runs(random.Random(5))
    catch_up()
    assert not PipelineTimeline.objects.filter(pk__startswith=mark).incomplete().exists()
    told = Records()
    gap = told.add(
        "gap",
        by="shipper",
        writer_id=str(writer_id(f"{mark}0/{WORKER}")),  # of the runs with an even number
        count=None,
        first_position=205,
        last_position=206,
    )
    store([gap._replace(at=60_000_000)], root="", since=SINCE)
    catch_up()
    found = PipelineTimeline.objects.filter(pk__startswith=mark).incomplete()
    # Inside of the records of one, after those of the other, which goes on.
    assert sorted(run.tags["number"] for run in found) == [0, 2]
    assert found[0].reasons[0]["kind"] == "gap"


def test_nobody_reads_past_an_append_that_is_under_way():
    """Its positions were drawn before those that are seen already."""
    mark = uuid.uuid4().hex[:8]
    (first, records), (second, others) = a_run(0, mark), a_run(1, mark)
    alias, drawn, go_on = conf.get("DATABASE"), threading.Event(), threading.Event()

    def append_slowly() -> None:
        try:
            with transaction.atomic(using=alias):
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT bamboo_audit_announce_append()")
                store(records, root=first, since=SINCE)
                drawn.set()
                go_on.wait(20)
        finally:
            connections.close_all()

    slow = threading.Thread(target=append_slowly)
    slow.start()
    assert drawn.wait(20)
    store(others, root=second, since=SINCE)
    with pytest.raises(HeadUnsettled, match="pg_terminate_backend"):
        settled.head(alias, timeout=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settled.head, "__defaults__", (0.1,))
        with pytest.raises(CommandError, match="under way"):
            call_command("audit_replay")
    threading.Timer(0.3, go_on.set).start()
    catch_up()
    slow.join()
    assert PipelineTimeline.objects.filter(pk__in=[first, second]).count() == 2


def test_an_append_that_begins_later_is_not_waited_for():
    store_runs(random.Random(12))
    alias = conf.get("DATABASE")
    announced, released = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
                cursor.execute("SELECT bamboo_audit_announce_append()")
                announced.set()
                released.wait(20)
        finally:
            connections.close_all()

    looks = []
    original = settled.appending

    def look(using: str):
        if len(looks) == 1:
            threading.Thread(target=hold).start()
        looks.append(1)
        before = {"somebody": settled.Appender(1, None)}
        return original(using) if announced.is_set() else before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settled, "appending", look)
        settled.head(alias, timeout=20.0)
        assert announced.is_set()
    assert original(alias), "it still holds its announcement"
    released.set()


def test_the_command_says_how_far_it_came():
    mark = store_runs(random.Random(6))
    out = StringIO()
    call_command("audit_replay", stdout=out)
    assert f"applied, of {RUNS} runs." in out.getvalue()
    out = StringIO()
    call_command("audit_replay", stdout=out)
    assert (
        f"timelines: nothing new, all is applied up to position {position():,}." in out.getvalue()
    )
    out = StringIO()
    call_command("audit_replay", json=True, stdout=out)
    assert json.loads(out.getvalue()) == [
        {
            "name": "timelines",
            "start": position(),
            "position": position(),
            "outdated": False,
            "runs": 0,
            "set_aside": [],
        }
    ]
    assert rows(mark)["PipelineTimeline"]


def test_a_run_that_the_engine_refused_takes_no_nodes_from_another():
    """Somebody started a copy of a tree under another id; the engine's nodes are unique."""
    mark = uuid.uuid4().hex[:8]
    root, records = a_run(0, mark)
    copy = f"{mark}0/~copy"
    started = next(each for each in records if each.event_type == "pre_prepare_run_pipeline")
    tree = {**started.data["pipeline"], "id": copy}
    refused = started._replace(data={**started.data, "pipeline": tree}, writer_id="another")
    store([refused._replace(at=90_000_000)], root=copy, since=SINCE)
    catch_up()
    store(records, root=root, since=SINCE)
    catch_up()
    expected = rows(root)
    assert len(expected["NodeTimeline"]) == 7
    for order in ([root, copy], [copy, root], [copy], [root]):
        refold(order)
        assert rows(root) == expected, order


def test_nodes_that_are_no_more_go():
    mark = uuid.uuid4().hex[:8]
    root, records = a_run(0, mark)
    store(records, root=root, since=SINCE)
    catch_up()
    again = next(each for each in records if each.event_type == "pre_prepare_run_pipeline")
    tree = {"id": root, "activities": {"n": {"id": f"{mark}/new"}}}
    store(
        [again._replace(data={"pipeline": tree}, writer_position=900, at=90_000_000)],
        root=root,
        since=SINCE,
    )
    catch_up()
    found = set(NodeTimeline.objects.for_run(root).values_list("pk", flat=True))
    assert f"{mark}/new" in found
    assert f"{mark}0/b" not in found
    assert f"{mark}0/a" in found, "it has records of its own"


def test_a_run_that_cannot_be_folded_keeps_no_other_from_it(monkeypatch):
    mark = store_runs(random.Random(7))
    bad = f"{mark}2/run"
    fold = folds.fold

    def fails(root, records):
        if root == bad:
            raise OverflowError("date value out of range")
        return fold(root, records)

    monkeypatch.setattr(folds, "fold", fails)
    err = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_replay", stdout=StringIO(), stderr=err)
    assert f"run {bad} was set aside (OverflowError: date value out of range)" in err.getvalue()
    assert PipelineTimeline.objects.filter(pk__startswith=mark).count() == RUNS - 1
    aside = RecordSetAside.objects.get(root_pipeline_id=bad)
    assert aside.whole_run
    assert aside.projection == "timelines"
    assert "1 records set aside" in status_text()
    monkeypatch.undo()
    store([a_run(2, mark)[1][-1]._replace(writer_position=5_000)], root=bad, since=SINCE)
    catch_up()
    assert PipelineTimeline.objects.filter(pk=bad).exists()
    assert not RecordSetAside.objects.exists(), "it could be folded now"


def test_a_run_without_possible_rows_keeps_no_other_from_it(monkeypatch):
    mark = store_runs(random.Random(11))
    of_run = timelines.rows.of_run

    def fails(run, *more):
        if run.root_pipeline_id == f"{mark}1/run":
            return (object(), *of_run(run, *more)[1:])
        return of_run(run, *more)

    monkeypatch.setattr(timelines.rows, "of_run", fails)
    progress = catch_up()
    (aside,) = progress.set_aside
    assert aside.error.startswith("TypeError: Type is not JSON serializable")
    assert PipelineTimeline.objects.filter(pk__startswith=mark).count() == RUNS - 1
    RecordSetAside.objects.all().delete()


def status_text() -> str:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_status", stdout=out, stderr=out)
    return out.getvalue()


def replay() -> str:
    out = StringIO()
    call_command("audit_replay", stdout=out)
    return out.getvalue()


def test_many_rows_are_written_in_parts(monkeypatch):
    before = position()
    mark = store_runs(random.Random(8))
    catch_up()
    expected = rows(mark)
    clear(mark)
    rewind(before)
    monkeypatch.setattr(timelines.timelines, "MOST_BYTES", 1)
    catch_up()
    assert rows(mark) == expected


def test_of_a_run_some_nodes_can_be_written():
    mark = store_runs(random.Random(9))
    catch_up()
    root, node = f"{mark}1/run", f"{mark}1/a"
    before = rows(mark)
    run = timeline.load(root)._run
    written = timelines.timelines.Rows(conf.get("DATABASE"))
    changed = timelines.rows.of_transitions(run, [node])
    written.add(
        *(root, timelines.rows.of_run(run, []), timelines.rows.of_nodes(run, [node])),
        *(changed[:-1], timelines.timelines.Part([node], SINCE)),
    )
    written.write()
    after = rows(mark)
    gone = [each for each in before["StateTransition"] if each not in after["StateTransition"]]
    assert len(gone) == 1
    assert f'"node_id": "1/a", "ordinal": {len(changed)}' in gone[0]
    assert after["NodeTimeline"] == before["NodeTimeline"]


def test_a_newer_version_is_made_anew_and_an_older_one_keeps_off(monkeypatch):
    mark = store_runs(random.Random(9))
    catch_up()
    expected = rows(mark)
    PipelineTimeline.objects.filter(pk__startswith=mark).update(name="of the version before")
    using = conf.get("DATABASE")
    about = {"position": 1, "root_pipeline_id": "", "whole_run": False, "error": "old"}
    checkpoints.set_aside(using, "timelines", **about)
    with monkeypatch.context() as patch:
        patch.setattr(Timelines, "version", Timelines.version + 1)
        serving, late = rows(mark), store_runs(random.Random(10))
        progress = catch_up()
        assert progress.outdated
        assert progress.position == progress.start
        assert rows(mark) == serving, "until it is made anew"
        assert replay() == (
            "Of an older version, and made anew: timelines.\n"
            f"timelines: nothing new, all is applied up to position {position():,}.\n"
        )
        assert rows(mark) == expected
        assert len(rows(late)["PipelineTimeline"]) == RUNS
        assert not RecordSetAside.objects.exists()
    with pytest.raises(AuditError, match="Upgrade it here"):
        catch_up()
    ProjectionCheckpoint.objects.update(version=Timelines.version)


LONG = "x" * 4_000


def test_hostile_names_and_states_do_not_stop_it():
    """Indexes take no long texts, and numbers have to fit their columns."""
    mark, records = uuid.uuid4().hex[:8], Records()
    tree = {
        "id": f"{mark}/run",
        "name": LONG,
        "activities": {
            "a": {"id": f"{mark}/a", "name": LONG, "type": LONG, "component": {"code": LONG}},
            "b": {"id": LONG, "name": "of no node"},
            "c": None,
        },
        "gateways": [],
        "flows": {"f": {"source": {}, "target": 7}},
    }
    context = {"tags": {LONG: [LONG]}, "actor": LONG}
    records.add("pre_prepare_run_pipeline", by=WEB, pipeline=tree, context=context)
    records.state(f"{mark}/run", "RUNNING")
    for number, state in enumerate((LONG, "RUNNING", {"a": 1}, None, 7, "FINISHED")):
        records.state(f"{mark}/a", state, f"v{number}", loop=2**60 if number % 2 else -7)
    records.add("node_execute_exception", f"{mark}/a", ex_data={"not": "a text"})
    records.add("polls_suppressed", f"{mark}/a", pre_schedule=2**62, post_schedule="x")
    store(records.all, root=f"{mark}/run", since=SINCE)
    catch_up()
    node = NodeTimeline.objects.get(pk=f"{mark}/a")
    assert len(node.name) == len(node.component_code) == 255
    assert node.state == "FINISHED"
    assert PipelineTimeline.objects.tagged(**{LONG: [LONG]}).count() == 1
