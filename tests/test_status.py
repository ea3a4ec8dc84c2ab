from __future__ import annotations

import datetime
import json
import subprocess
import sys
from importlib.util import find_spec
from io import StringIO
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections

import audit
from audit import conf, partitions, receivers, status
from audit.capture.failures import failures
from audit.log import settled

TABLE = "bamboo_audit_pipelineeventrecord"
uses_database = pytest.mark.django_db(databases="__all__")


@pytest.fixture(autouse=True)
def no_gaps_of_other_tests(monkeypatch):
    """The log only grows: gaps that other tests have committed stay in it."""
    began = datetime.datetime.now(datetime.UTC)

    class Since:
        def __rsub__(self, now: datetime.datetime) -> datetime.datetime:
            return began

    monkeypatch.setattr(status, "GAPS_SINCE", Since())


@pytest.fixture
def configure(settings):
    before = getattr(settings, "BAMBOO_AUDIT", {})

    def change(**keys: Any) -> None:
        settings.BAMBOO_AUDIT = {**before, **keys}

    return change


def healthy() -> str:
    """What the command prints where all is well; it does not exit then."""
    out = StringIO()
    call_command("audit_status", stdout=out)
    assert "healthy      yes" in out.getvalue()
    return out.getvalue()


def unhealthy() -> tuple[str, dict[str, Any]]:
    """What the command prints where something is wrong, as text and as JSON; it exits 1."""
    texts = []
    for options in ((), ("--json",)):
        out = StringIO()
        with pytest.raises(SystemExit) as exited:
            call_command("audit_status", *options, stdout=out, no_color=True)
        assert exited.value.code == 1
        texts.append(out.getvalue())
    assert "healthy      no" in texts[0]
    now = json.loads(texts[1])
    assert now["healthy"] is False
    for problem in now["problems"]:
        assert f"problem      {problem}" in texts[0]
    return texts[0], now


def only_problem() -> str:
    _, now = unhealthy()
    (problem,) = now["problems"]
    return str(problem)


@uses_database
def test_where_all_is_well(record_factory):
    position = record_factory("node_enter")
    text = healthy()
    for part in (
        "recording    on, delivery inline\n",
        f"database     {conf.get('DATABASE')}: PostgreSQL ",
        "UPDATE, DELETE and TRUNCATE are refused\n",
        f"newest       position {position:,}: node_enter at ",
        "of them empty and ahead\n",
        "gaps         0 in the last 7 days, telling of 0 events\n",
        "this process 0 events not recorded, 0 of them still to be told\n",
    ):
        assert part in text
    assert "problem" not in text


@uses_database
def test_json_is_the_same_for_scripts(record_factory):
    position, out = record_factory("node_enter"), StringIO()
    call_command("audit_status", "--json", stdout=out)
    now = json.loads(out.getvalue())

    assert now["healthy"] is True
    assert now["problems"] == []
    assert (now["enabled"], now["delivery"], now["database"]) == (
        True,
        "inline",
        conf.get("DATABASE"),
    )
    assert now["newest"]["position"] == position
    assert datetime.datetime.fromisoformat(now["newest"]["occurred_at"]).tzinfo
    assert now["partitions"]["ahead"] >= 1
    assert now["log"]["guarded"] is True
    assert now["failures"]["total"] == 0
    assert now["engine_connected"] is (find_spec("pipeline") is not None)


@uses_database
def test_the_kill_switch(configure, monkeypatch):
    configure(ENABLED=False)
    assert "kill switch" in only_problem()
    configure()
    monkeypatch.setenv(conf.ENABLED_VARIABLE, "0")
    assert "kill switch" in only_problem()


@uses_database
def test_delivery_off(configure):
    configure(DELIVERY="off", ENABLED=False)
    assert only_problem() == 'Nothing is recorded: BAMBOO_AUDIT["DELIVERY"] is "off".'


@uses_database
def test_no_log(log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO away")
    text, now = unhealthy()
    assert now["problems"] == [
        f"Database {conf.get('DATABASE')!r} has no log. "
        f"Run: manage.py migrate bamboo_audit --database {conf.get('DATABASE')}"
    ]
    assert now["partitions"] is now["newest"] is now["gaps"] is None
    assert "newest" not in text


@uses_database
def test_no_partition_ahead(log_connection, record_factory):
    last = partitions.report(conf.get("DATABASE")).partitions[-1]
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id RESTART WITH {last.low + 7}")
    record_factory()
    assert "audit_partitions" in only_problem()
    call_command("audit_partitions", stdout=StringIO())
    healthy()


@uses_database
@pytest.mark.parametrize(
    "statement",
    [
        f"ALTER TABLE {TABLE} DISABLE TRIGGER bamboo_audit_no_change",
        f"DROP TRIGGER bamboo_audit_no_truncate ON {TABLE}_p000001",
    ],
)
def test_guards_are_gone(log_connection, statement):
    with log_connection.cursor() as cursor:
        cursor.execute(statement)
    assert "no longer refuses changes" in only_problem()


@uses_database
def test_gaps_of_the_last_days(record_factory):
    record_factory("gap", data={"count": 7})
    record_factory("gap", data={"count": 5_000})
    assert "5,007 events were not recorded in the last 7 days" in only_problem()
    assert unhealthy()[1]["gaps"]["records"] == 2
    record_factory("gap", data={"count": None})
    assert "At least 5,007 events were not recorded in the last 7 days" in only_problem()
    assert "telling of 5,007 events; 1 cannot tell of how many\n" in unhealthy()[0]


@uses_database
def test_a_gap_of_unknown_size(record_factory):
    record_factory("gap", data={"count": None})
    assert "An unknown number of events were not recorded" in only_problem()


@uses_database
def test_what_this_process_has_not_recorded():
    failures.failed("node_enter", None, ValueError("bad payload"))
    failures.missed("node_finish", "log resting")
    problem = only_problem()
    assert "2 events of this process are not recorded (last error: ValueError: bad payload)" in (
        problem
    )
    failures.take()
    assert "2 events not recorded, 0 of them still to be told" in healthy()


@uses_database
def test_every_problem_at_once(log_connection, configure, record_factory):
    last = partitions.report(conf.get("DATABASE")).partitions[-1]
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id RESTART WITH {last.low + 7}")
    record_factory("gap", data={"count": 1})
    with log_connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER bamboo_audit_no_change ON {TABLE}")
    failures.missed("x", "log resting")
    configure(ENABLED=False)
    assert len(unhealthy()[1]["problems"]) == 5


# A database that does not answer is an answer.


@pytest.fixture
def away(monkeypatch, configure, django_db_setup, django_db_blocker):
    """Point the log at a database that is not there."""

    def change(**changes: Any) -> None:
        entry = {**connections.databases[conf.get("DATABASE")], **changes}
        monkeypatch.setitem(connections.databases, "away", entry)
        configure(DATABASE="away")

    with django_db_blocker.unblock():
        yield change
        connections["away"].close()
        del connections["away"]


@pytest.mark.parametrize("changes", [{"HOST": "/nowhere"}, {"NAME": "nobody knows"}])
def test_the_database_is_away(away, changes):
    away(**changes)
    problem = only_problem()
    assert problem.startswith("The log's database 'away' cannot be asked: ")
    assert problem.endswith("Start it, or correct DATABASES.")
    assert "\n" not in problem
    text, now = unhealthy()
    assert now["log"] is None
    assert "this process" in text


def test_the_database_is_not_postgresql(away):
    away(ENGINE="django.db.backends.sqlite3", NAME=":memory:", OPTIONS={})
    assert "sqlite" in only_problem()


def test_there_is_no_such_database(configure):
    configure(DATABASE="gone")
    assert "'gone'" in only_problem()


def test_development_without_postgresql(away, configure):
    away(ENGINE="django.db.backends.sqlite3", NAME=":memory:", OPTIONS={})
    configure(DATABASE="away", DELIVERY="off")
    assert 'Nothing is recorded: BAMBOO_AUDIT["DELIVERY"] is "off".' in unhealthy()[1]["problems"]


@pytest.mark.parametrize(
    ("command", "options"),
    [("audit_partitions", {}), ("audit_grants", {"application": "somebody"})],
)
@pytest.mark.parametrize("gone", [True, False])
def test_the_other_commands_say_it_in_one_sentence(away, configure, command, options, gone):
    from django.core.management.base import CommandError

    away(HOST="/nowhere")
    if gone:
        configure(DATABASE="gone")
    with pytest.raises(CommandError, match="cannot be reached"):
        call_command(command, stdout=StringIO(), **options)


def test_from_a_shell_it_exits_1_without_a_traceback():
    answer = subprocess.run(
        [sys.executable, "-m", "django", "audit_status", "--json"],
        env={
            "DJANGO_SETTINGS_MODULE": "settings_typing",
            "PYTHONPATH": ":".join(sys.path),
            "PGHOST": "/nowhere",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert json.loads(answer.stdout)["healthy"] is False
    assert "Traceback" not in answer.stderr


@uses_database
def test_operations_without_a_reason_are_told_and_nothing_to_worry_about(
    configure, record_factory, monkeypatch
):
    began = datetime.datetime.now(datetime.UTC)

    class Since:
        def __rsub__(self, now: datetime.datetime) -> datetime.datetime:
            return began

    monkeypatch.setattr(status, "REASONS_SINCE", Since())
    assert "reasons" not in healthy()
    assert status.read().without_reason is None

    configure(REQUIRE_REASON=["pre_retry_node"])
    record_factory("pre_retry_node")
    assert "reasons      0 operations without a reason in the last 7 days\n" in healthy()
    for reason in ("", "why", ""):
        with audit.context(reason=reason):
            event = SimpleNamespace(event_type="pre_retry_node", data={"node_id": "n"})
            receivers.on_pipeline_event(event=event)
    assert "reasons      2 operations without a reason in the last 7 days\n" in healthy()
    assert status.read().as_dict()["without_reason"] == 2


@uses_database
def test_an_append_that_lasts_is_named_with_its_process(monkeypatch):
    monkeypatch.setattr(status, "APPENDING_ALARM", datetime.timedelta(0))
    parameters = connections[conf.get("DATABASE")].get_connection_params()
    parameters.pop("cursor_factory", None)
    with psycopg.connect(**parameters) as connection:
        connection.execute("SELECT bamboo_audit_announce_append()")
        pid = connection.info.backend_pid
        text, found = unhealthy()
        connection.rollback()
    assert f"appending    server process {pid} since " in text
    assert [each["pid"] for each in found["appending"]] == [pid]
    (problem,) = found["problems"]
    assert f"SELECT pg_terminate_backend({pid})" in problem
    assert status.read().appending == []


@uses_database
def test_since_when_an_append_lasts_may_be_hidden_from_this_role(monkeypatch):
    hidden = {"1/2": settled.Appender(4711, None)}
    monkeypatch.setattr(settled, "appending", lambda using: hidden)
    assert "appending    server process 4711\n" in healthy()
