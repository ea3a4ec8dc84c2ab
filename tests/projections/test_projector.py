"""The projector and a host's own projections: each record once, whatever breaks."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, transaction
from lab import tally
from lab.stored import empty_log
from lab.tally import Failures, Nodes, Tally

from audit import checks, conf
from audit.exceptions import LogUnavailable, ProjectionBroken, UnknownProjection
from audit.log import checkpoints, settled
from audit.models import PipelineEventRecord, ProjectionCheckpoint, RecordSetAside
from audit.projections import Projection, RunProjection, projector, registry
from audit.projections.timelines import Timelines
from audit.testing.projections import store_sample

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture(autouse=True)
def tables():
    empty_log()
    tally.make_tables()
    begin()
    yield
    tally.drop_tables()
    RecordSetAside.objects.all().delete()
    ProjectionCheckpoint.objects.exclude(name="timelines").delete()


def begin() -> int:
    """What other tests have left in the log is not of interest."""
    head = settled.head(conf.get("DATABASE"))
    for each in (Tally(), Failures(), Nodes()):
        projector.begin_anew(each, head)
    return head


def catch_up(*projections: Projection, batch: int = 50) -> list[projector.Progress]:
    """The timelines go before all others."""
    return projector.catch_up([Timelines(), *projections], batch)[1:]


def fresh() -> list[PipelineEventRecord]:
    """The sample, as it is in the log now."""
    after = settled.head(conf.get("DATABASE"))
    store_sample()
    return list(PipelineEventRecord.objects.filter(pk__gt=after).order_by("pk"))


def counted(records: list[PipelineEventRecord], *types: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for record in records:
        if not types or record.event_type in types:
            found[record.event_type] = found.get(record.event_type, 0) + 1
    return found


def test_each_record_is_handed_over_once():
    records = fresh()
    progress = catch_up(Tally(), Failures(), Nodes())
    assert tally.values("tally") == counted(records)
    assert tally.values("failures") == counted(records, *Failures.event_types)
    assert tally.values("nodes").keys() == {record.root_pipeline_id for record in records}
    assert [each.position for each in progress] == [records[-1].pk] * 3
    catch_up(Tally())
    more = fresh()
    catch_up(Tally(), batch=7)
    assert tally.values("tally") == counted(records + more)


def test_a_record_is_handed_over_as_the_log_has_it():
    seen: list[Any] = []

    class Keeps(Tally):
        def apply(self, batch):
            seen.extend(batch.records)

    records = fresh()
    catch_up(Keeps())
    assert len(seen) == len(records)
    for one, record in zip(seen, records, strict=True):
        assert one.position == record.pk
        for name in one._fields[1:]:
            assert getattr(one, name) == getattr(record, name), name


class Picky(Tally):
    """Raises for some records."""

    bad: frozenset[int] = frozenset()

    def apply(self, batch):
        super().apply(batch)
        if any(record.position in self.bad for record in batch.records):
            raise RuntimeError("that \udc80 one\0")


def test_a_record_that_breaks_it_is_set_aside_and_it_goes_on(monkeypatch, caplog):
    records = fresh()
    bad = (records[20], records[21], records[60], records[-1])
    monkeypatch.setattr(Picky, "bad", frozenset(record.pk for record in bad))
    (progress,) = catch_up(Picky())
    assert {each.position for each in progress.set_aside} == Picky.bad
    assert len(caplog.records) == 4, "each told once"
    assert tally.values("tally") == counted([each for each in records if each not in bad])
    aside = RecordSetAside.objects.filter(projection="tally")
    assert {each.position for each in aside} == Picky.bad
    assert all("RuntimeError: that" in each.error and not each.whole_run for each in aside)
    assert aside.get(position=bad[0].pk).root_pipeline_id == bad[0].root_pipeline_id
    (checkpoint,) = (each for each in told() if each["name"] == "tally")
    assert checkpoint["set_aside"] == 4
    projector.begin_anew(Picky())
    assert not RecordSetAside.objects.filter(projection="tally").exists()


def told() -> list[dict[str, Any]]:
    out = StringIO()
    with pytest.raises(SystemExit):  # unhealthy
        call_command("audit_status", json=True, stdout=out)
    found = json.loads(out.getvalue())
    assert any("set 4 records aside" in each for each in found["problems"])
    return found["checkpoints"]


def test_one_that_raises_for_everything_stays_where_it_is(monkeypatch):
    before = begin()
    records = fresh()
    monkeypatch.setattr(Picky, "bad", frozenset(record.pk for record in records))
    with pytest.raises(ProjectionBroken, match=r"more than 100 of 5,000 records") as raised:
        catch_up(Picky(), batch=5_000)
    assert "'tally'" in str(raised.value)
    assert ProjectionCheckpoint.objects.get(name="tally").position == before
    assert tally.values("tally") == {}
    assert not RecordSetAside.objects.exists()


def test_a_database_that_is_away_is_no_records_fault():
    class Away(Tally):
        def apply(self, batch):
            super().apply(batch)
            raise OperationalError("the connection is lost")

    before = begin()
    fresh()
    with pytest.raises(LogUnavailable, match="the connection is lost"):
        catch_up(Away())
    assert ProjectionCheckpoint.objects.get(name="tally").position == before
    assert tally.values("tally") == {}
    assert not RecordSetAside.objects.exists()


def test_a_table_that_is_missing_is_no_records_fault():
    class Lost(Tally):
        def apply(self, batch):
            tally.execute("INSERT INTO lab_nowhere VALUES (1)")

    fresh()
    with pytest.raises(ProjectionBroken, match=r"lab_nowhere(?s:.*)Are its tables migrated"):
        catch_up(Lost())
    assert not RecordSetAside.objects.exists()


def refuses(statement: str) -> Any:
    """A tally that for one type runs a statement which the database refuses."""

    class Refuses(Tally):
        def apply(self, batch):
            for record in batch.records:
                self.count(record.event_type)
                if record.event_type == "pipeline_finish":
                    tally.execute(statement, record.position)

    return Refuses()


@pytest.mark.parametrize(
    "statement",
    [
        # At COMMIT only, as all of Django's foreign keys.
        "INSERT INTO lab_child VALUES (%s)",
        # An OperationalError of Django's, but of the record.
        "INSERT INTO lab_long SELECT string_agg(md5((n + %s)::text), '')"
        " FROM generate_series(1, 1000) AS n",
    ],
    ids=["deferred", "too long for an index"],
)
def test_what_the_database_refuses_is_the_records_fault(statement):
    tally.execute("CREATE TABLE lab_parent (id bigint PRIMARY KEY)")
    tally.execute(
        "CREATE TABLE lab_child (id bigint REFERENCES lab_parent DEFERRABLE INITIALLY DEFERRED)"
    )
    tally.execute("CREATE TABLE lab_long (text text UNIQUE)")
    try:
        records = fresh()
        (progress,) = catch_up(refuses(statement))
        bad = [each for each in records if each.event_type == "pipeline_finish"]
        assert {each.position for each in progress.set_aside} == {each.pk for each in bad}
        assert tally.values("tally") == counted([each for each in records if each not in bad])
    finally:
        tally.execute("DROP TABLE lab_child, lab_parent, lab_long")


def test_a_database_error_that_is_caught_inside_loses_nothing():
    """Django takes the whole block back then, and says nothing."""

    class Swallows(Tally):
        def apply(self, batch):
            super().apply(batch)
            if any(record.event_type == "pipeline_finish" for record in batch.records):
                try:
                    with transaction.atomic(using=batch.using, savepoint=False):
                        tally.execute("SELECT 1 / 0")
                except DatabaseError:
                    pass

    records = fresh()
    (progress,) = catch_up(Swallows())
    bad = [each for each in records if each.event_type == "pipeline_finish"]
    assert {each.position for each in progress.set_aside} == {each.pk for each in bad}
    assert all("SwallowedError" in each.error for each in progress.set_aside)
    assert tally.values("tally") == counted([each for each in records if each not in bad])


def test_however_small_the_batches_one_that_raises_for_everything_stops(monkeypatch):
    records = fresh()
    monkeypatch.setattr(Picky, "bad", frozenset(record.pk for record in records))
    with pytest.raises(ProjectionBroken, match="more than 100"):
        catch_up(Picky(), batch=3)
    reached = ProjectionCheckpoint.objects.get(name="tally").position
    assert RecordSetAside.objects.filter(projection="tally").count() <= 100
    assert reached < records[101].pk


def test_runs_that_are_left_out_count_as_well(monkeypatch):
    monkeypatch.setattr(projector, "MOST_ASIDE", 4)
    before = begin()
    fresh()
    monkeypatch.setattr(Nodes, "apply_run", lambda self, run: self.no_such_method(run))
    with pytest.raises(ProjectionBroken, match="AttributeError"):
        catch_up(Nodes(), batch=5_000)
    assert ProjectionCheckpoint.objects.get(name="nodes").position == before


@pytest.mark.parametrize("error", [ConnectionRefusedError("redis"), NotImplementedError("later")])
def test_what_is_nobodys_fault_stops_it(monkeypatch, error):
    def fails(self, run):
        raise error

    before = begin()
    fresh()
    monkeypatch.setattr(Nodes, "apply_run", fails)
    with pytest.raises(ProjectionBroken, match=f"stays where it is.*{error}"):
        catch_up(Nodes())
    assert ProjectionCheckpoint.objects.get(name="nodes").position == before
    assert not RecordSetAside.objects.exists()


def test_a_reset_that_raises_is_told_as_the_projections(monkeypatch):
    def fails(self):
        tally.execute("DELETE FROM lab_nowhere")

    monkeypatch.setattr(Tally, "version", 2)
    monkeypatch.setattr(Tally, "reset", fails)
    with pytest.raises(ProjectionBroken, match=r"reset\(\) raises(?s:.*)lab_nowhere"):
        catch_up(Tally())


def test_no_other_goes_further_than_the_timelines_are():
    """Their tables tell which runs a gap concerns."""
    before = begin()
    records = fresh()
    (progress,) = projector.catch_up([Nodes()])
    assert progress.position == before
    catch_up(Nodes())
    assert tally.values("nodes").keys() == {record.root_pipeline_id for record in records}


def test_without_its_checkpoint_it_begins_anew_and_counts_nothing_twice():
    projector.catch_up([Timelines()])
    fresh()
    catch_up(Tally())
    ProjectionCheckpoint.objects.filter(name="tally").delete()
    catch_up(Tally(), batch=5_000)
    whole = tally.values("tally")
    ProjectionCheckpoint.objects.filter(name="tally").delete()
    catch_up(Tally(), batch=5_000)
    assert tally.values("tally") == whole


def test_several_runs_may_be_set_aside_by_one_record(using):
    for root in ("one", "other"):
        checkpoints.set_aside(
            using, "x", position=7, root_pipeline_id=root, whole_run=True, error="no"
        )
    checkpoints.set_aside(
        using, "x", position=9, root_pipeline_id="one", whole_run=True, error="no"
    )
    found = RecordSetAside.objects.filter(projection="x").values_list(
        "root_pipeline_id", "position"
    )
    assert sorted(found) == [("one", 9), ("other", 7)], "each run once, by its last record"


@pytest.fixture
def using() -> str:
    return str(conf.get("DATABASE"))


def test_a_run_that_nothing_can_be_made_of_is_set_aside(monkeypatch):
    records = fresh()
    roots = sorted({record.root_pipeline_id for record in records})
    apply_run = Nodes.apply_run

    def fails(self, run):
        apply_run(self, run)
        if run.root_pipeline_id == roots[0]:
            raise KeyError("no such node")

    with monkeypatch.context() as patch:
        patch.setattr(Nodes, "apply_run", fails)
        (progress,) = catch_up(Nodes(), batch=5_000)
    assert list(tally.values("nodes")) == roots[1:]
    assert [each.error for each in progress.set_aside] == ["KeyError: 'no such node'"]
    aside = RecordSetAside.objects.get()
    assert (aside.root_pipeline_id, aside.whole_run) == (roots[0], True)
    projector.begin_anew(Nodes(), records[0].pk - 1)
    catch_up(Nodes())
    assert list(tally.values("nodes")) == roots


def test_the_projections_of_the_setting_are_caught_up_by_the_command(settings):
    settings.BAMBOO_AUDIT = {
        **settings.BAMBOO_AUDIT,
        "PROJECTIONS": ["lab.tally.Tally", "lab.tally.Nodes"],
    }
    records = fresh()
    out = StringIO()
    call_command("audit_replay", stdout=out)
    names = [line.partition(":")[0] for line in out.getvalue().splitlines()]
    assert names == ["timelines", "tally", "nodes"]
    assert tally.values("tally") == counted(records)
    more = fresh()
    call_command("audit_replay", "--projection", "nodes", stdout=StringIO())
    assert tally.values("tally") == counted(records)
    assert tally.values("nodes").keys() >= {record.root_pipeline_id for record in more}
    with pytest.raises(CommandError, match=r"no projection 'nodez'. There are: timelines, tally"):
        call_command("audit_replay", "--projection", "nodez")


class Nameless(Projection):
    pass


class Empty(Projection):
    name = "empty"


class EmptyRun(RunProjection):
    name = "empty_run"


class Endless(Tally):
    name = "endless"
    reset = Projection.reset


class OneType(Tally):
    name = "one_type"
    event_types = "node_enter"


class Unmade(Tally):
    name = "unmade"

    def __init__(self):
        raise RuntimeError("not today")


class Twin(Tally):
    pass


class Unversioned(Tally):
    name = "unversioned"
    version = "1"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["lab.nowhere.Tally"], "cannot be imported: No module named 'lab.nowhere'"),
        (["lab.tally.Missing"], "cannot be imported"),
        (["lab.tally.execute"], "no class derived from audit.projections.Projection"),
        (["projections.test_projector.Nameless"], "has no name"),
        (["projections.test_projector.Unversioned"], "no whole number"),
        (["projections.test_projector.Empty"], r"has no apply\(\)"),
        (["projections.test_projector.EmptyRun"], r"has no apply_run\(\)"),
        (["projections.test_projector.Endless"], r"has no reset\(\)"),
        (["projections.test_projector.OneType"], "event_types are one text"),
        (["projections.test_projector.Unmade"], "cannot be made: RuntimeError: not today"),
        (["lab.tally.Tally", "projections.test_projector.Twin"], "two projections named 'tally'"),
    ],
)
def test_a_mistake_in_the_setting_is_found(settings, paths, says):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "PROJECTIONS": paths}
    paths[:] = [path.replace("projections.test_projector", __name__) for path in paths]
    with pytest.raises(UnknownProjection, match=says):
        registry.registered()
    (message,) = (each for each in checks.check_configuration() if each.id == "bamboo_audit.E011")
    assert re.search(says, message.msg)


def test_what_was_not_written_says_so():
    with pytest.raises(NotImplementedError, match=r"Nameless has no apply\(\)"):
        Nameless().apply(None)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match=r"Nameless has no reset\(\)"):
        Nameless().reset()
