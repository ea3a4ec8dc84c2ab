from __future__ import annotations

import datetime
import json
import pickle
from typing import Any

import pytest
from django.db import connections

from audit import conf
from audit.capture import writer as writers
from audit.models import PipelineEventRecord
from audit.querysets import RecordQuerySet

pytestmark = pytest.mark.django_db(databases="__all__")

records = PipelineEventRecord.objects
HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def clock(monkeypatch):
    """Set the time of the records that are made from now on."""

    def set_to(at: datetime.datetime) -> None:
        monkeypatch.setattr(writers.writer, "_latest", at)

    # Far ahead, because a writer's time never runs backwards.
    set_to.start = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)
    return set_to


def positions(found: RecordQuerySet) -> list[int]:
    return list(found.values_list("pk", flat=True))


def test_by_run_node_and_type(record_factory):
    made = {
        "a": record_factory("node_enter", run="q-1", node="n-1"),
        "b": record_factory("pre_retry_node", run="q-1", node="n-1"),
        "c": record_factory("node_enter", run="q-1", node="n-2"),
        "d": record_factory("node_enter", run="q-2", node="n-3"),
    }
    names = {position: name for name, position in made.items()}

    def found(queryset: RecordQuerySet) -> str:
        return "".join(sorted(names[position] for position in positions(queryset)))

    run = records.for_run("q-1")
    assert found(run) == "abc"
    assert found(records.for_pipeline("q-1")) == "abc"
    assert found(run.for_node("n-1")) == "ab"
    assert found(run.of_type("node_enter")) == "ac"
    assert found(run.of_type("node_enter", "pre_retry_node", "unheard_of")) == "abc"
    assert found(run.of_type("unheard_of")) == ""
    assert found(run.of_type()) == ""
    assert found(run.for_node("n-1").of_type("node_enter")) == "a"
    assert found(records.for_run("q-1").for_run("q-2")) == ""
    assert found(records.for_run("Q-1")) == "", "ids are exact"


def test_a_run_without_an_id_is_not_everything(record_factory):
    position = record_factory(run="", node="rootless-1")
    assert position in positions(records.for_run(""))
    assert record_factory(run="q-1") not in positions(records.for_run(""))


def test_between_includes_the_start_and_excludes_the_end(record_factory, clock):
    made = []
    for hours in range(4):
        clock(clock.start + hours * HOUR)
        made.append(record_factory(run="time"))
    run = records.for_run("time").in_order()

    assert positions(run.between(clock.start + HOUR, clock.start + 3 * HOUR)) == made[1:3]
    assert positions(run.between(clock.start + HOUR, None)) == made[1:]
    assert positions(run.between(None, clock.start + HOUR)) == made[:1]
    assert positions(run.between(None, None)) == made
    assert positions(run.between(clock.start + 2 * HOUR, clock.start)) == []
    east = datetime.timezone(8 * HOUR)
    assert positions(run.between((clock.start + HOUR).astimezone(east), None)) == made[1:]


def test_by_actor_is_exact_and_only_of_people_who_act(record_factory):
    alice = record_factory(run="who", actor="alice")
    record_factory(run="who", actor="alice2")
    record_factory(run="who", actor="Alice")
    record_factory(run="who", executor="alice", reason="alice")
    record_factory(run="who")
    odd = record_factory(run="who", actor="""o'"\\ %s ? 张三 ->>""")
    number = record_factory(run="who", actor=7)

    run = records.for_run("who")
    assert positions(run.by_actor("alice")) == [alice]
    assert positions(run.by_actor("""o'"\\ %s ? 张三 ->>""")) == [odd]
    assert positions(run.by_actor("7")) == [number]
    assert positions(run.by_actor("")) == []
    assert positions(run.by_actor("alice").by_actor("Alice")) == []


def test_in_order_is_by_time_then_writer_then_number(record_factory, clock):
    clock(clock.start)
    first = [record_factory(run="order") for _ in range(3)]
    writers.writer._begin()
    clock(clock.start)
    other = [record_factory(run="order") for _ in range(2)]
    clock(clock.start + HOUR)
    last = record_factory(run="order")

    found = list(records.for_run("order").in_order())
    assert found[-1].pk == last
    by_writer = [first, other]
    if found[0].pk != first[0]:
        by_writer.reverse()  # which writer's id is the smaller is chance
    assert [record.pk for record in found[:-1]] == [*by_writer[0], *by_writer[1]]


def test_in_order_is_not_the_order_of_arrival(record_factory):
    stamps = [writers.writer.stamp() for _ in range(2)]
    for stamp in reversed(stamps):
        writers.writer.give_back(stamp)
    late = record_factory(run="arrival")
    found = records.for_run("arrival").in_order()
    assert positions(found) == [late]
    assert found.query.order_by == ("occurred_at", "writer_id", "writer_position")


def test_newest_first_and_of_one_instant_the_one_stored_last(record_factory, clock):
    clock(clock.start)
    made = [record_factory(run="new") for _ in range(3)]
    clock(clock.start + HOUR)
    made.append(record_factory(run="new"))
    assert positions(records.for_run("new").newest_first()) == made[::-1]


def test_they_compose_in_any_order(record_factory):
    position = record_factory("pre_retry_node", run="all", node="n", actor="alice")
    record_factory("pre_retry_node", run="all", node="n", actor="bob")
    steps = [
        lambda found: found.for_run("all"),
        lambda found: found.for_node("n"),
        lambda found: found.of_type("pre_retry_node"),
        lambda found: found.by_actor("alice"),
        lambda found: found.between(None, datetime.datetime.now(datetime.UTC) + HOUR),
        lambda found: found.newest_first(),
    ]
    for order in (steps, steps[::-1]):
        found: Any = records.all()
        for step in order:
            found = step(found)
            assert isinstance(found, RecordQuerySet)
        assert positions(found) == [position]
        assert found.count() == 1
        assert found.exists()


def test_they_are_lazy_and_can_be_pickled(django_assert_num_queries):
    with django_assert_num_queries(0, connection=connections[conf.get("DATABASE")]):
        found = records.for_run("x").by_actor("y").between(None, None).newest_first()
        again = records.all()
        again.query = pickle.loads(pickle.dumps(found.query))
    assert str(again.query) == str(found.query)


def test_the_related_manager_and_the_model_say_what_a_record_means(record_factory):
    record = records.get(pk=record_factory("pre_retry_node"))
    assert record.meaning == "Retrying a failed node was asked for"
    assert str(record) == f"pre_retry_node #{record.pk}"
    assert records.get(pk=record_factory("gone_tomorrow")).meaning == ""


async def _write(method: str) -> None:
    await getattr(records, method)()


@pytest.mark.parametrize(
    "method",
    [
        *("acreate", "aget_or_create", "aupdate_or_create", "abulk_create"),
        *("aupdate", "adelete", "abulk_update"),
    ],
)
def test_asynchronous_writes_are_refused_as_well(method):
    from asgiref.sync import async_to_sync

    from audit.exceptions import AppendOnlyError

    with pytest.raises(AppendOnlyError):
        async_to_sync(_write)(method)


# Plans: which index answers which question, on enough rows for the planner to care.


def test_operations_stored_before_their_run_was_known_are_found(record_factory):
    early = record_factory("pre_pause_node", run="", node="late-node")
    stranger = record_factory("pre_pause_node", run="", node="another-node")
    known = record_factory("node_enter", run="late-run", node="late-node")
    found = set(records.for_run("late-run").values_list("pk", flat=True))
    assert found == {early, known}
    assert stranger not in found
    assert not records.for_run("no-run").exists()


FILL = """
INSERT INTO bamboo_audit_pipelineeventrecord (
    event_type, root_pipeline_id, pipeline_id, node_id, data, context,
    occurred_at, writer_id, writer_position
)
SELECT CASE WHEN n %% 200 = 0 THEN 'pre_retry_node' ELSE 'node_' || n %% 7 END,
       'plan-run-' || n / 100, 'p', 'plan-node-' || n / 4, '{"node_id": "n"}',
       CASE WHEN n %% 50 = 0
            THEN jsonb_build_object('actor', 'actor-' || n / 50 %% 40, 'pid', 1)
            ELSE '{"host": "h", "pid": 1}' END,
       '2990-01-01'::timestamptz + n * interval '1 second', %s, n
FROM generate_series(1, 20000) AS n
"""


@pytest.fixture
def plans(log_connection):
    """Fill the log, and answer which of our indexes the plan of a queryset uses."""
    with log_connection.cursor() as cursor:
        cursor.execute(FILL, [writers.writer.stamp().writer_id])
        cursor.execute("ANALYZE bamboo_audit_pipelineeventrecord")
        cursor.execute(
            "SELECT child.relname, parent.relname FROM pg_inherits "
            "JOIN pg_class AS child ON child.oid = inhrelid "
            "JOIN pg_class AS parent ON parent.oid = inhparent WHERE parent.relkind = 'I'"
        )
        parents = dict(cursor.fetchall())

    def indexes(found: RecordQuerySet) -> tuple[set[str], set[str], str]:
        (plan,) = json.loads(found.explain(format="json"))
        used, scanned, conditions = set(), set(), []
        todo = [plan["Plan"]]
        while todo:
            node = todo.pop()
            todo += node.get("Plans", [])
            conditions.append(node.get("Index Cond", ""))
            if "Index Name" in node:
                used.add(parents[node["Index Name"]])
            if node["Node Type"] == "Seq Scan" and node["Plan Rows"] > 1:
                scanned.add(node["Relation Name"])
        return used, scanned, " ".join(conditions)

    return indexes


def test_every_question_is_answered_by_its_index(plans):
    at = datetime.datetime(2990, 1, 1, 1, tzinfo=datetime.UTC)
    minute = datetime.timedelta(minutes=1)
    questions = {
        "run": records.for_run("plan-run-77"),
        "run, in order": records.for_run("plan-run-77").in_order(),
        "node": records.for_node("plan-node-77"),
        "type": records.of_type("pre_retry_node"),
        "type, newest": records.of_type("pre_retry_node").newest_first()[:20],
        "time": records.between(at, at + minute),
        "time, newest": records.between(at, None).newest_first()[:50],
        "newest": records.newest_first()[:50],
        "actor": records.by_actor("actor-7"),
        "actor, newest": records.by_actor("actor-7").newest_first()[:20],
        "actor in a run": records.for_run("plan-run-77").by_actor("actor-7"),
    }
    expected = {
        "run": "bamboo_audit_record_run",
        "node": "bamboo_audit_record_node",
        "type": "bamboo_audit_record_type",
        "time": "bamboo_audit_record_time",
        "newest": "bamboo_audit_record_time",
        "actor": "bamboo_audit_record_actor",
    }
    condition = {
        "run": "root_pipeline_id = ",
        "node": "node_id = ",
        "type": "event_type = ",
        "time": "occurred_at >= ",
        "newest": "",
        "actor": "actor",
    }
    for name, queryset in questions.items():
        used, scanned, conditions = plans(queryset)
        if name == "actor in a run":
            assert used & {"bamboo_audit_record_run", "bamboo_audit_record_actor"}, used
            continue
        kind = name.partition(",")[0]
        assert expected[kind] in used, f"{name}: {used}"
        assert condition[kind] in conditions, f"{name}: {conditions}"
        assert not scanned, f"{name}: reads all of {scanned}"


def test_the_actors_index_holds_only_what_people_did(plans, log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(reltuples) FROM pg_class JOIN pg_inherits ON inhrelid = oid "
            "WHERE inhparent = 'bamboo_audit_record_actor'::regclass"
        )
        ((rows,),) = cursor.fetchall()
    assert 400 <= rows < 1_000
