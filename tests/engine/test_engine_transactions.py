"""Whose transaction a record is in, and that ours never spoils another's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from bamboo_engine import api
from django.db import OperationalError, connection, connections, transaction
from lab import outages, scenarios
from lab.engine import activity, runtime, tree_of
from lab.scenarios import Run
from lab.spy import connected, send, written
from pipeline.eri.models import State

from audit import conf, engine
from audit.capture.failures import failures
from audit.capture.writer import writer
from audit.events import GAP, POST_SET_STATE
from audit.log import append
from audit.testing.executor import heap


@pytest.fixture
def one_database() -> None:
    if conf.get("DATABASE") != engine.database():
        pytest.skip("the log has a database of its own here: it shares no transaction")


@pytest.fixture
def two_databases() -> None:
    if conf.get("DATABASE") == engine.database():
        pytest.skip("engine and log share a database here, and so a transaction")


class _RollBack(Exception):
    pass


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or a savepoint in one, that is not to be."""
    try:
        with transaction.atomic():
            yield
            raise _RollBack
    except _RollBack:
        pass


def types() -> list[str]:
    return [record.event_type for record in written()]


def setting(name: str) -> str:
    with connections[conf.get("DATABASE")].cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


def test_an_event_shares_the_fate_of_the_callers_transaction(one_database):
    with rolled_back():
        send("with the transaction", {})
        assert types() == ["with the transaction"]
    send("after", {})

    (record,) = written()
    assert record.event_type == "after"
    assert record.writer_position == 2  # the hole tells that there was one more


def test_a_rolled_back_savepoint_takes_only_its_own_events(one_database):
    with transaction.atomic():
        send("outer", {})
        with rolled_back():
            send("inner", {})
        send("outer again", {})

    assert types() == ["outer", "outer again"]


def test_in_a_database_of_its_own_the_log_keeps_what_the_caller_rolled_back(two_databases):
    with rolled_back():
        send("kept", {})

    assert types() == ["kept"]


def test_a_run_that_was_rolled_back_leaves_no_phantom(one_database, spy):
    """The S:RUNNING of a root is sent inside the engine's own transaction."""
    tree = tree_of(activity("lab_ok", "A"))

    with rolled_back():
        assert api.run_pipeline(runtime, tree).result
    heap.clear()

    assert spy.types() == ["pre_prepare_run_pipeline", POST_SET_STATE, "post_prepare_run_pipeline"]
    assert not State.objects.filter(node_id=tree["id"]).exists()
    assert written() == []


@pytest.mark.parametrize("outage", [outages.table_gone, outages.insert_forbidden])
def test_an_insert_that_fails_leaves_the_callers_transaction_usable(
    one_database, outage, log_connection
):
    run = Run(tree_of(activity("lab_ok", "A")))
    with outage(log_connection), transaction.atomic():
        send("lost", {})
        run.start(work=False)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert run.answers == [("run_pipeline", True)]
    assert run.state("root") == "RUNNING"

    outages.log_is_back()
    run.work()

    assert run.state("root") == "FINISHED"
    gap = written()[0]
    assert gap.event_type == GAP
    assert gap.data["event_types"] == {
        "lost": 1,
        "pre_prepare_run_pipeline": 1,
        POST_SET_STATE: 1,
        "post_prepare_run_pipeline": 1,
    }


@pytest.mark.parametrize("outage", [outages.table_gone, outages.insert_forbidden])
def test_the_begin_of_a_run_survives_a_log_that_fails_inside_its_transaction(
    outage, log_connection, undisturbed
):
    """Without a savepoint PostgreSQL would say: current transaction is aborted."""
    expected = undisturbed(scenarios.linear).outcome

    with outage(log_connection):
        run = scenarios.linear()

    assert run.outcome() == expected


def test_a_rolled_back_transaction_takes_no_gap_with_it(one_database, log_connection):
    with outages.table_gone(log_connection):
        send("lost", {})
    outages.log_is_back()

    with rolled_back():
        send("rolled back", {})
    assert failures.summary().pending == 1
    send("after", {})

    assert types() == [GAP, "after"]
    assert written()[0].data["event_types"] == {"lost": 1}


def test_a_gap_is_told_after_the_callers_transaction(one_database, log_connection):
    with outages.table_gone(log_connection):
        send("lost", {})
    outages.log_is_back()

    with transaction.atomic():
        send("first", {})
        send("second", {})
        assert types() == ["first", "second"]

    assert types() == ["first", "second", GAP]
    assert failures.summary().pending == 0


def test_the_time_limit_of_the_callers_transaction_stays(one_database, configure):
    configure(INLINE_TIMEOUT=1.5)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '7s'")
        send("a", {})
        assert setting("statement_timeout") == "7s"
        with transaction.atomic():
            send("b", {})
        assert setting("statement_timeout") == "7s"
    assert types() == ["a", "b"]


def test_the_time_limit_of_the_callers_transaction_stays_after_a_failure(
    one_database, log_connection
):
    with outages.table_gone(log_connection), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '7s'")
        send("lost", {})
        assert failures.summary().total == 1
        assert setting("statement_timeout") == "7s"


def test_no_time_limit_is_left_on_the_connection(configure):
    configure(INLINE_TIMEOUT=1.5)
    before = setting("statement_timeout")
    assert before != "1500ms"

    send("a", {})

    assert setting("statement_timeout") == before


def test_the_time_limit_holds_for_the_insert_itself(configure, monkeypatch):
    configure(INLINE_TIMEOUT=1.5)
    queries = append.queries()
    spying = queries["append_record"].replace(
        "%(data)s::jsonb", "to_jsonb(current_setting('statement_timeout'))"
    )
    monkeypatch.setattr(append, "queries", lambda: {**queries, "append_record": spying})

    send("a", {})

    assert written()[0].data == "1500ms"


def test_a_caller_whose_transaction_is_already_broken_keeps_its_own_error(one_database):
    with rolled_back():
        with connection.cursor() as cursor, pytest.raises(Exception, match="no_such_table"):
            cursor.execute("SELECT 1 FROM no_such_table")
        send("lost", {})  # PostgreSQL refuses everything until the rollback
    outages.log_is_back()
    send("after", {})

    assert types() == [GAP, "after"]
    assert written()[0].data["event_types"] == {"lost": 1}


def test_a_caller_that_manages_its_transaction_itself_is_left_to(one_database):
    transaction.set_autocommit(False)
    try:
        send("rolled back", {})
        transaction.rollback()
        send("committed", {})
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert types() == ["committed"]


@pytest.fixture
def dies_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server ends the connection while it is asked to insert a record of that type."""
    insert, queries = append._insert, append.queries()
    dying = {**queries, "append_record": "SELECT pg_terminate_backend(pg_backend_pid())"}

    def die_at(event_type: str) -> None:
        def inserting(made: Any, *args: Any) -> int:
            with monkeypatch.context() as patch:
                if made["event_type"] == event_type:
                    patch.setattr(append, "queries", lambda: dying)
                return insert(made, *args)

        monkeypatch.setattr(append, "_insert", inserting)

    return die_at


def test_a_connection_that_dies_under_our_insert_fails_the_callers_commit(one_database, dies_at):
    """It must not look to the caller as if its transaction had been committed."""
    node = f"n{uuid.uuid4().hex}"
    dies_at("last words")

    def lose() -> None:
        with transaction.atomic():
            State.objects.create(node_id=node, name="RUNNING", version="v")
            send("last words", {})

    with pytest.raises(OperationalError):
        lose()

    assert not State.objects.filter(node_id=node).exists()
    assert failures.summary().by_reason == {"OperationalError": 1}


def test_a_connection_that_dies_at_the_begin_of_a_run_fails_it(one_database, dies_at):
    dies_at(POST_SET_STATE)

    run = scenarios.linear()

    assert run.answers == [("run_pipeline", False)]
    assert run.state("root") is None


def test_a_connection_that_dies_under_our_insert_is_replaced(dies_at, undisturbed):
    expected = undisturbed(scenarios.linear).outcome
    dies_at("node_enter")

    run = scenarios.linear()

    assert run.outcome() == expected


def test_numbers_go_on_after_a_rollback(one_database):
    for block in (transaction.atomic, rolled_back, transaction.atomic):
        with block():
            send("x", {})

    assert [record.writer_position for record in written()] == [1, 3]
    assert writer._position == 3


def test_a_receiver_behind_ours_may_still_break_the_callers_transaction(one_database, spy):
    """What others do is theirs: ours was recorded, and goes with the transaction they broke."""

    def breaks(sender: Any, **_: Any) -> None:
        raise OperationalError("theirs")

    with connected(breaks, breaks):
        assert not api.run_pipeline(runtime, tree_of(activity("lab_ok", "A"))).result

    assert types() == ["pre_prepare_run_pipeline"]
