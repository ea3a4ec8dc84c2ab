"""Rebuilds: what is made beside, and then merged, is what catching up makes."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from contextlib import suppress
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, models, transaction
from lab import rebuilt, tally
from lab.projected import catch_up
from lab.rebuilt import EventCount, NodeEnd
from lab.stored import empty_log, store
from projections.test_timelines import RUNS, SINCE, a_run, rows, store_runs

from audit import conf
from audit.exceptions import AuditError, ProjectionBroken, RebuildOver, RebuildRefused
from audit.log import checkpoints
from audit.log.rebuilds import Beside
from audit.models import (
    NodeTimeline,
    PipelineTimeline,
    ProjectionCheckpoint,
    RecordSetAside,
    StateTransition,
)
from audit.projections import merging, projector
from audit.projections import part as parts
from audit.projections import rebuild as rebuilds
from audit.projections.merging import finish
from audit.projections.rebuild import Rebuild
from audit.projections.selection import Selection
from audit.projections.timelines import Timelines
from audit.projections.workers import load

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


ALL = Selection()


@pytest.fixture(autouse=True)
def caught_up():
    """Nothing that other tests have left is in the log, and nothing is beside."""
    empty_log()
    yield
    drop_all()


@pytest.fixture
def small(monkeypatch):
    """A part for each run."""
    monkeypatch.setattr(rebuilds, "PART", 1)


def drop_all():
    beside = Beside(conf.get("DATABASE"))
    with beside.alone():
        beside.drop()


def tables_beside():
    return Beside(conf.get("DATABASE"))._tables()


def begun(*projections, selection=ALL, anew=False, **options):
    found = Rebuild(list(projections) or [Timelines()], selection, **options)
    found.begin(anew=anew)
    return found


def rebuild(*projections, selection=ALL, **options):
    found = begun(*projections, selection=selection, **options)
    found.work()
    return finish(found)


def differing(outcome):
    return [(each.gone, each.fresh) for each in outcome.tables]


def spoil(mark):
    """Change, delete and add rows of marked runs."""
    NodeTimeline.objects.filter(root_pipeline_id=f"{mark}1/run").update(state="WRONG")
    StateTransition.objects.filter(root_pipeline_id=f"{mark}2/run").delete()
    PipelineTimeline.objects.filter(pk=f"{mark}3/run").update(root_pipeline_id=f"{mark}nobody")


def test_a_rebuild_changes_nothing_where_all_is_well():
    mark = store_runs(random.Random(21))
    rebuild()
    expected = rows(mark)
    assert expected["StateTransition"]
    assert differing(rebuild()) == [(0, 0)] * 3
    assert rows(mark) == expected
    assert tables_beside() == []


def test_a_rebuild_mends_what_is_wrong_and_says_how_much(small):
    mark = store_runs(random.Random(22))
    catch_up()
    expected = rows(mark)
    spoil(mark)
    assert all(fresh for _, fresh in differing(rebuild()))
    assert rows(mark) == expected


def test_a_dry_run_says_the_same_and_writes_nothing():
    mark = store_runs(random.Random(23))
    catch_up()
    spoil(mark)
    spoilt = rows(mark)
    told = differing(rebuild(dry_run=True))
    assert rows(mark) == spoilt
    assert tables_beside() == []
    assert differing(rebuild()) == told
    assert all(fresh for _, fresh in told)


def test_what_comes_while_it_is_made_is_in_it(small):
    """Also of runs that were loaded before, and where nobody caught up meanwhile."""
    first = store_runs(random.Random(24))
    going_on = begun()
    going_on.work(most=3)
    second = store_runs(random.Random(25))
    late = a_run(0, first)[1][-1]._replace(writer_position=9_000, node_id="late")
    store([late], root=f"{first}0/run", since=SINCE)
    going_on.work()
    third = store_runs(random.Random(26))
    outcome = finish(going_on)
    position = ProjectionCheckpoint.objects.get(name=Timelines.name).position
    assert outcome.position == position
    found = [rows(mark) for mark in (first, second, third)]
    projector.begin_anew(Timelines())
    catch_up()
    assert [rows(mark) for mark in (first, second, third)] == found
    assert NodeTimeline.objects.filter(node_id="late").exists()


def test_the_tables_serve_and_are_caught_up_meanwhile(small):
    mark = store_runs(random.Random(27))
    catch_up()
    expected = rows(mark)
    going_on = begun()
    going_on.work(most=1)
    other = store_runs(random.Random(28))
    assert catch_up().runs == RUNS
    assert rows(mark) == expected
    assert len(rows(other)["PipelineTimeline"]) == RUNS
    going_on.work()
    assert differing(finish(going_on)) == [(0, 0)] * 3


def test_one_that_was_interrupted_goes_on_where_it_was(small, monkeypatch):
    mark = store_runs(random.Random(29))
    catch_up()
    expected = rows(mark)
    spoil(mark)
    begun().work(most=2)
    done = begun().done()
    assert 0 < done.parts_done < done.parts
    loads = []
    fold = parts.fold
    monkeypatch.setattr(parts, "fold", lambda root, own: loads.append(root) or fold(root, own))
    rebuild()
    assert len(loads) == done.parts - done.parts_done
    assert rows(mark) == expected


def test_another_one_is_not_begun_beside_it_unless_that_is_given_up():
    store_runs(random.Random(30))
    begun()
    other = Selection(since=SINCE)
    with pytest.raises(RebuildRefused, match=r"A rebuild of timelines .* was begun at .* --anew"):
        begun(selection=other)
    begun(selection=other, anew=True)
    begun(selection=other)


def test_one_of_another_version_is_given_up(monkeypatch):
    store_runs(random.Random(31))
    begun().work()
    with monkeypatch.context() as patch:
        patch.setattr(Timelines, "version", Timelines.version + 1)
        assert begun().done().parts_done == 0


def test_only_some_runs_are_rebuilt():
    mark = store_runs(random.Random(32))
    catch_up()
    expected = rows(mark)
    spoil(mark)
    selection = Selection(pipelines=(f"{mark}1/a", f"{mark}2/run"))
    outcome = rebuild(selection=selection)
    assert outcome.runs == 2
    found = rows(mark)
    assert found["StateTransition"] == expected["StateTransition"]
    assert found["NodeTimeline"] == expected["NodeTimeline"]
    assert found["PipelineTimeline"] != expected["PipelineTimeline"], "of run 3 nobody asked"
    rebuild(selection=Selection(since=SINCE))
    assert PipelineTimeline.objects.filter(pk=f"{mark}3/run").exists()
    PipelineTimeline.objects.get(pk=f"{mark}nobody").delete()
    assert rows(mark) == expected


def test_nothing_of_other_runs_changes_where_some_are_rebuilt(small):
    mark = store_runs(random.Random(33))
    catch_up()
    expected = rows(mark)
    going_on = begun(selection=Selection(pipelines=(f"{mark}1/run",)))
    going_on.work()
    late = a_run(1, mark)[1][-1]._replace(writer_position=9_000, node_id=f"{mark}late")
    store([late], root=f"{mark}1/run", since=SINCE)
    finish(going_on)
    assert NodeTimeline.objects.filter(node_id=f"{mark}late").exists()
    assert catch_up().runs == 1, "the checkpoint stayed"
    assert len(rows(mark)["PipelineTimeline"]) == len(expected["PipelineTimeline"])


def test_rows_of_runs_whose_beginning_the_log_has_no_more_stay(monkeypatch):
    mark = store_runs(random.Random(34))
    catch_up()
    PipelineTimeline.objects.filter(pk=f"{mark}1/run").update(first_position=-1, name="archived")
    NodeTimeline.objects.filter(root_pipeline_id=f"{mark}1/run").update(name="archived")
    kept = rows(mark)
    assert differing(rebuild()) == [(0, 0)] * 3
    assert rows(mark) == kept


def test_a_run_that_breaks_it_stops_it_unless_told_otherwise(small, monkeypatch):
    mark = store_runs(random.Random(35))
    catch_up()
    expected = rows(mark)
    fold, bad = parts.fold, f"{mark}2/run"

    def fails(root, own):
        if root == bad:
            raise OverflowError("no such date")
        return fold(root, own)

    monkeypatch.setattr(parts, "fold", fails)
    with pytest.raises(ProjectionBroken, match=f"rows of run '{bad}': OverflowError.*skip-broken"):
        rebuild()
    assert rows(mark) == expected
    begun(anew=True)
    rebuild(skip_broken=True)
    assert rows(mark) == expected, "what was made of it before stays"
    aside = RecordSetAside.objects.get()
    assert (aside.root_pipeline_id, aside.whole_run) == (bad, True)
    monkeypatch.undo()
    rebuild()
    assert not RecordSetAside.objects.exists()
    assert rows(mark) == expected


def test_who_is_late_finds_that_another_one_has_finished(small):
    store_runs(random.Random(45))
    first = begun()
    second = begun()
    first.work()
    finish(first)
    for action in (second.work, second.done, lambda: finish(second)):
        with pytest.raises(RebuildOver, match="brought to its end, or given up"):
            action()


def test_several_processes_do_it_and_one_of_them_may_be_killed(small, monkeypatch):
    mark = store_runs(random.Random(36))
    catch_up()
    expected = rows(mark)
    spoil(mark)
    fold, parent = parts.fold, os.getpid()

    def kills(root, own):
        if root.startswith(mark) and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return fold(root, own)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "fold", kills)
        going_on = begun()
        with pytest.raises(AuditError, match=r"A worker was killed by signal 9\..*goes on there"):
            load(going_on, 2, lambda done: None)
    told = []
    load(going_on, 2, told.append)
    assert told[-1].records_done == told[-1].records
    finish(going_on)
    assert rows(mark) == expected


def test_who_catches_up_waits_for_the_merge(monkeypatch):
    """Otherwise what he applies meanwhile would be taken away, and the checkpoint past it."""
    store_runs(random.Random(37))
    going_on = begun()
    going_on.work()
    late, merge = [], merging.merge

    def beside(*about):
        if not late:
            late.append(store_runs(random.Random(38)))
            late.append(threading.Thread(target=_catch_up_and_close))
            late[1].start()
            late[1].join(0.3)
            assert late[1].is_alive(), "it waits"
        return merge(*about)

    monkeypatch.setattr(merging, "merge", beside)
    with_own = threading.Thread(target=_run_and_close, args=(lambda: finish(going_on),))
    with_own.start()
    with_own.join()
    late[1].join()
    catch_up()
    assert len(rows(late[0])["PipelineTimeline"]) == RUNS


def _catch_up_and_close():
    _run_and_close(catch_up)


def _run_and_close(action):
    try:
        action()
    finally:
        connections.close_all()


# A host's own.


@pytest.fixture
def own():
    using = conf.get("DATABASE")
    rebuilt.make_tables(using)
    yield [rebuilt.EventCounts(), rebuilt.NodeEnds()]
    rebuilt.drop_tables(using)
    ProjectionCheckpoint.objects.filter(name__in=["event_counts", "node_ends"]).delete()


def own_rows():
    ends = NodeEnd.objects.using(conf.get("DATABASE")).values_list("root_pipeline_id", "state")
    counts = EventCount.objects.using(conf.get("DATABASE"))
    return sorted(ends), sorted(counts.values_list("event_type", "number", "last"))


def test_a_hosts_own_projections_are_rebuilt(own, small):
    """Also one that takes records in their order, and one whose rows have no key of their own."""
    mark = store_runs(random.Random(40))
    projector.catch_up([Timelines(), *own])
    expected = own_rows()
    assert all(expected)
    assert differing(rebuild(*own)) == [(0, 0)] * 2
    using = conf.get("DATABASE")
    ends = NodeEnd.objects.using(using).filter(root_pipeline_id__startswith=mark)
    kept = set(ends.order_by("pk").values_list("pk", flat=True)[1:])
    ends.first().delete()
    NodeEnd.objects.using(using).create(root_pipeline_id=f"{mark}1/run", state="ODD")
    NodeEnd.objects.using(using).create(root_pipeline_id="nobody", state="FINISHED")
    EventCount.objects.using(using).update(number=7)
    told = differing(rebuild(*own, dry_run=True))
    assert own_rows() != expected
    assert differing(rebuild(*own)) == told
    assert own_rows() == expected
    assert kept <= set(ends.values_list("pk", flat=True)), "what was right was not written again"


def test_a_hosts_own_projections_apply_what_comes_meanwhile(own, small):
    store_runs(random.Random(41))
    projector.catch_up([Timelines(), *own])
    going_on = begun(*own)
    going_on.work()
    store_runs(random.Random(42))
    catch_up()
    finish(going_on)
    found = own_rows()
    for each in own:
        projector.begin_anew(each)
    projector.catch_up([Timelines(), *own])
    assert own_rows() == found


def test_some_runs_of_a_hosts_own_projection_are_rebuilt(own):
    mark = store_runs(random.Random(43))
    projector.catch_up([Timelines(), *own])
    expected = own_rows()
    NodeEnd.objects.using(conf.get("DATABASE")).all().delete()
    rebuild(own[1], selection=Selection(pipelines=(f"{mark}1/run",)))
    (only, _) = own_rows()
    assert only == [row for row in expected[0] if row[0] == f"{mark}1/run"]
    with pytest.raises(RebuildRefused, match="for some runs only: it is no RunProjection"):
        rebuild(own[0], selection=Selection(pipelines=(f"{mark}1/run",)))
    with pytest.raises(RebuildRefused, match="name those that it writes to as its models"):
        rebuild(tally.Nodes())


def test_a_record_that_breaks_one_of_a_hosts_own_stops_it(own, monkeypatch):
    store_runs(random.Random(44))
    projector.catch_up([Timelines(), *own])
    expected = own_rows()
    apply = rebuilt.EventCounts.apply

    def fails(self, batch):
        if any(record.event_type == "pre_retry_node" for record in batch.records):
            raise ValueError("no retries")
        apply(self, batch)

    monkeypatch.setattr(rebuilt.EventCounts, "apply", fails)
    with pytest.raises(ProjectionBroken, match=r"ValueError: no retries.*--skip-broken"):
        rebuild(own[0])
    assert own_rows() == expected


def test_one_that_was_given_up_goes_no_further(small):
    """Otherwise it would merge what another one has loaded: one run of all."""
    mark = store_runs(random.Random(46))
    catch_up()
    expected = rows(mark)
    first = begun()
    first.work(most=1)
    only = Selection(pipelines=(f"{mark}1/run",))
    second = begun(selection=only, anew=True)
    for action in (first.work, first.done, lambda: finish(first)):
        with pytest.raises(RebuildOver):
            action()
    assert rows(mark) == expected
    assert second.work() == 1
    finish(second)
    assert rows(mark) == expected


def test_nothing_is_merged_before_all_is_loaded(small):
    mark = store_runs(random.Random(47))
    catch_up()
    expected = rows(mark)
    going_on = begun()
    going_on.work(most=2)
    with pytest.raises(RebuildOver):
        finish(going_on)
    assert rows(mark) == expected


def test_a_dry_run_is_no_part_of_a_real_one():
    store_runs(random.Random(48))
    begun(dry_run=True)
    with pytest.raises(RebuildRefused, match="did not come to its end"):
        begun()


def test_what_somebody_applied_meanwhile_is_not_put_back(small, monkeypatch):
    """A record that came after the head was looked at, and was caught up before the lock."""
    mark = store_runs(random.Random(49))
    catch_up()
    going_on = begun(selection=Selection(pipelines=(f"{mark}1/run",)))
    going_on.work()
    head = merging.settled.head

    def late(using):
        monkeypatch.undo()
        found = head(using)
        record = a_run(1, mark)[1][-1]
        store(
            [record._replace(writer_position=9_000, node_id=f"{mark}late")], f"{mark}1/run", SINCE
        )
        catch_up()
        return found

    monkeypatch.setattr(merging.settled, "head", late)
    finish(going_on)
    assert NodeTimeline.objects.filter(node_id=f"{mark}late").exists()


def test_where_each_run_breaks_it_the_rows_stay_and_it_is_told(own, monkeypatch):
    store_runs(random.Random(52))
    projector.catch_up([Timelines(), *own])
    expected = own_rows()

    def fails(self, run):
        raise TypeError("a mistake")

    monkeypatch.setattr(rebuilt.NodeEnds, "apply_run", fails)
    assert rebuild(own[1], skip_broken=True).left_out == RUNS
    assert own_rows() == expected
    RecordSetAside.objects.all().delete()
    monkeypatch.setattr(rebuilds, "MOST_ASIDE", 2)
    with pytest.raises(ProjectionBroken, match="more than 2 runs or records"):
        rebuild(own[1], skip_broken=True)
    assert own_rows() == expected


def test_a_new_version_that_breaks_changes_no_row_and_is_told(own, monkeypatch, settings):
    settings.BAMBOO_AUDIT = {
        **settings.BAMBOO_AUDIT,
        "PROJECTIONS": ["lab.rebuilt.NodeEnds"],
    }
    store_runs(random.Random(55))
    call_command("audit_replay", stdout=StringIO())
    expected = own_rows()

    def fails(self, run):
        raise TypeError("a mistake")

    monkeypatch.setattr(rebuilt.NodeEnds, "apply_run", fails)
    monkeypatch.setattr(rebuilt.NodeEnds, "version", 2)
    err = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("audit_replay", stdout=StringIO(), stderr=err)
    assert f"{RUNS} runs or records were set aside" in err.getvalue()
    assert own_rows() == expected
    assert ProjectionCheckpoint.objects.get(name="node_ends").version == 2


def test_a_table_that_it_does_not_name_is_not_written_to(own, monkeypatch):
    store_runs(random.Random(53))
    projector.catch_up([Timelines(), *own])
    expected = own_rows()

    def also(self, run):
        EventCount.objects.using(self.using).update(number=0)

    monkeypatch.setattr(rebuilt.NodeEnds, "apply_run", also)
    with pytest.raises(RebuildRefused, match="has written to lab_eventcount, which serves"):
        rebuild(own[1])
    assert own_rows() == expected


def test_rows_of_other_partitions_of_a_hosts_table_stay(own):
    """A place is one in each partition."""
    using = conf.get("DATABASE")
    tally.execute("DROP TABLE lab_nodeend")
    tally.execute(
        "CREATE TABLE lab_nodeend (id bigint GENERATED BY DEFAULT AS IDENTITY, "
        "root_pipeline_id text, state text) PARTITION BY HASH (root_pipeline_id)"
    )
    for n in range(3):
        tally.execute(
            f"CREATE TABLE lab_nodeend_{n} PARTITION OF lab_nodeend "
            f"FOR VALUES WITH (MODULUS 3, REMAINDER {n})"
        )
    mark = store_runs(random.Random(54))
    projector.catch_up([Timelines(), *own])
    expected = own_rows()
    NodeEnd.objects.using(using).filter(root_pipeline_id=f"{mark}1/run").update(state="WRONG")
    outcome = rebuild(own[1], selection=Selection(pipelines=(f"{mark}1/run",)))
    ((gone, fresh),) = differing(outcome)
    assert gone == fresh > 0
    assert own_rows() == expected


class Parent(models.Model):
    root_pipeline_id = models.TextField()

    class Meta:
        app_label = "lab"

    def __str__(self) -> str:
        return self.root_pipeline_id


class Child(models.Model):
    parent = models.ForeignKey(Parent, on_delete=models.CASCADE)

    class Meta:
        app_label = "lab"

    def __str__(self) -> str:
        return str(self.pk)


class Families(rebuilt.NodeEnds):
    models = (Parent, Child)


def test_ids_that_the_database_draws_are_not_drawn_again_for_who_names_them():
    with pytest.raises(RebuildRefused, match=r"other rows name those of lab\.Parent by an id"):
        rebuild(Families())


# The command.


def replay(**options):
    out, err = StringIO(), StringIO()
    call_command("audit_replay", stdout=out, stderr=err, rebuild=True, **options)
    return out.getvalue()


def test_the_command_says_what_it_did():
    mark = store_runs(random.Random(50))
    replay()
    StateTransition.objects.filter(root_pipeline_id=f"{mark}2/run").delete()
    count = len(a_run(2, mark)[1])
    found = replay(pipeline=[f"{mark}2/a"], dry_run=True)
    assert found.startswith(f"{count} records of 1 runs folded, up to position ")
    assert "bamboo_audit_nodetimeline: 0 rows would be taken away, 0 would be written." in found
    assert "bamboo_audit_statetransition: 0 rows would be taken away, " in found
    assert "bamboo_audit_statetransition: 0 rows taken away, " in replay(since="2026-03-01")
    assert " records of all runs folded" in replay(workers=2)


def status():
    out = StringIO()
    with suppress(SystemExit):
        call_command("audit_status", stdout=out, stderr=out)
    return out.getvalue()


def test_any_shell_sees_how_far_it_is_and_who_is_at_a_projection(small):
    store_runs(random.Random(51))
    replay()
    assert "rebuild " not in status()
    assert "is at it" not in status()
    going_on = begun()
    going_on.work(most=2)
    done = going_on.done()
    assert f"{done.records_done:,} of {done.records:,} records loaded" in status()
    using = conf.get("DATABASE")
    seen = []

    def look():
        with transaction.atomic(using=using):
            checkpoints.lock(using, Timelines.name)
            looker = threading.Thread(target=_run_and_close, args=(lambda: seen.append(status()),))
            looker.start()
            looker.join()

    _run_and_close(look)
    (line,) = [each for each in seen[0].splitlines() if each.startswith("timelines")]
    assert re.search(r"; server process \d+ is at it$", line)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rebuild": False, "dry_run": True}, "--dry-run is for --rebuild: give both"),
        ({"rebuild": False, "pipeline": ["x"]}, "--pipeline is for --rebuild"),
        ({"follow": True}, "--rebuild comes to its end"),
        ({"workers": 0}, "--workers 0: at least 1"),
        ({"since": "yesterday"}, "--since yesterday: no such time"),
        ({"pipeline": ["nobody"]}, "no record of 'nobody'"),
        ({"pipeline": ["a\0b"]}, "no record of"),
        ({"projection": ["nothing"]}, "There is no projection 'nothing'. There are: timelines"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(CommandError, match=message):
        call_command("audit_replay", **{"rebuild": True, **options})
    assert tables_beside() == []
