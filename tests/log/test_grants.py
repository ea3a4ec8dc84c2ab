from __future__ import annotations

import subprocess
import sys
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from lab import redelivered

from audit import conf
from audit.log import settled
from audit.sql import queries

TABLE = "bamboo_audit_pipelineeventrecord"
COLUMNS = "writer_position, occurred_at, writer_id, event_type, data"
VALUES = "1, now(), gen_random_uuid(), 'x', '{}'"

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def application():
    """A connection as the application's role, after ``audit_grants --apply``."""
    connection = connections[conf.get("DATABASE")]
    name = connection.settings_dict["NAME"]
    # Roles are the whole server's: parallel test databases must not share one.
    owner, role = f"owner of {name}", f'app "of" {name}\'s'
    with connection.cursor() as cursor:
        cursor.execute(f"DROP ROLE IF EXISTS {_quoted(role)}")
        cursor.execute(f"CREATE ROLE {_quoted(role)} LOGIN")
    call_command("audit_grants", application=role, owner=owner, apply=True, stdout=StringIO())
    parameters = connection.get_connection_params()
    with psycopg.connect(
        dbname=name, user=role, host=parameters.get("host"), autocommit=True
    ) as as_application:
        yield as_application
    with connection.cursor() as cursor:
        cursor.execute(f"REASSIGN OWNED BY {_quoted(owner)} TO CURRENT_USER")
        for leaving in (role, owner):
            cursor.execute(f"DROP OWNED BY {_quoted(leaving)}; DROP ROLE {_quoted(leaving)}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_the_application_may_insert_and_read(application):
    (position,) = application.execute(
        f"INSERT INTO {TABLE} ({COLUMNS}) VALUES ({VALUES}) RETURNING id"
    ).fetchone()
    found = application.execute(f"SELECT event_type FROM {TABLE} WHERE id = %s", [position])
    assert found.fetchone() == ("x",)
    assert application.execute("SELECT bamboo_audit_create_partitions(1000, 3)").fetchall()


def test_the_application_may_catch_the_timelines_up(application):
    """They are made of the log, and can be made again."""
    for table, key in (
        ("pipelinetimeline", "root_pipeline_id"),
        ("nodetimeline", "node_id"),
        ("statetransition", "node_id"),
        ("projectioncheckpoint", "name"),
        ("recordsetaside", "projection"),
    ):
        application.execute(f"SELECT count(*) FROM bamboo_audit_{table}")
        for privilege in ("INSERT", "UPDATE", "DELETE"):
            (may,) = application.execute(
                "SELECT has_table_privilege(%s, %s)", [f"bamboo_audit_{table}", privilege]
            ).fetchone()
            assert may, (table, privilege)
        application.execute(f"DELETE FROM bamboo_audit_{table} WHERE {key} = 'nobody'")
    assert settled.appending(conf.get("DATABASE")) == {}
    # As the application may look: others append to databases of theirs on this server.
    assert application.execute(queries()["appending"]).fetchall() == []


def test_the_application_may_rebuild(application):
    connection = connections[conf.get("DATABASE")]
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION AUTHORIZATION {_quoted(application.info.user)}")
    try:
        out = StringIO()
        call_command("audit_replay", rebuild=True, anew=True, stdout=out, stderr=out)
        assert "bamboo_audit_statetransition: 0 rows taken away" in out.getvalue()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET SESSION AUTHORIZATION")


REFUSED = {
    "update": f"UPDATE {TABLE} SET event_type = 'y'",
    "update no row": f"UPDATE {TABLE} SET event_type = 'y' WHERE false",
    "delete": f"DELETE FROM {TABLE}",
    "truncate": f"TRUNCATE {TABLE}",
    "choose the position": f"INSERT INTO {TABLE} (id, {COLUMNS}) OVERRIDING SYSTEM VALUE "
    f"VALUES (42, {VALUES})",
    "choose the position by COPY": f"COPY {TABLE} (id, {COLUMNS}) FROM STDIN",
    "choose when it was recorded": f"INSERT INTO {TABLE} (recorded_at, {COLUMNS}) "
    f"VALUES ('2000-01-01', {VALUES})",
    "read a partition past the log": f"SELECT count(*) FROM {TABLE}_p000001",
    "write a partition past the log": f"INSERT INTO {TABLE}_p000001 (id, {COLUMNS}) "
    f"OVERRIDING SYSTEM VALUE VALUES (7, {VALUES})",
    "delete from a partition": f"DELETE FROM {TABLE}_p000001",
    "truncate a partition": f"TRUNCATE {TABLE}_p000001",
    "drop the log": f"DROP TABLE {TABLE}",
    "drop a partition": f"DROP TABLE {TABLE}_p000001",
    "detach a partition": f"ALTER TABLE {TABLE} DETACH PARTITION {TABLE}_p000001",
    "switch the guard off": f"ALTER TABLE {TABLE} DISABLE TRIGGER bamboo_audit_no_change",
    "drop the guard": f"DROP TRIGGER bamboo_audit_no_change ON {TABLE}",
    "replace the guard": "CREATE OR REPLACE FUNCTION bamboo_audit_refuse_change() RETURNS trigger "
    "LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    "add a trigger": f"CREATE TRIGGER mine BEFORE INSERT ON {TABLE} FOR EACH ROW "
    "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "drop the timelines": "DROP TABLE bamboo_audit_statetransition",
    "play a replica": "SET session_replication_role = replica",
    "burn positions": f"SELECT nextval(pg_get_serial_sequence('{TABLE}', 'id'))",
    "turn positions back": f"SELECT setval(pg_get_serial_sequence('{TABLE}', 'id'), 1)",
    "become the owner": f"ALTER TABLE {TABLE} OWNER TO CURRENT_USER",
    "make many partitions": "SELECT bamboo_audit_create_partitions(1000, 100000)",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
def test_the_application_is_refused(application, statement):
    with pytest.raises(
        (
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.InvalidParameterValue,
        )
    ):
        application.execute(statement)


def test_a_partition_that_is_made_for_the_application_is_the_owners(application):
    ((name,), *_) = application.execute("SELECT bamboo_audit_create_partitions(1000, 4)").fetchall()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute(f"DELETE FROM {name}")


def test_the_recorder_works_as_the_application(application, record_factory):
    """The whole append, as a host's process that connects as the application's role does it."""
    connection = connections[conf.get("DATABASE")]
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION AUTHORIZATION {_quoted(application.info.user)}")
    try:
        assert record_factory() > 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET SESSION AUTHORIZATION")


def test_events_are_sent_again_as_the_application(application, record_factory):
    positions = [record_factory(run="granted") for _ in range(3)]
    redelivered.given.clear()
    connection = connections[conf.get("DATABASE")]
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION AUTHORIZATION {_quoted(application.info.user)}")
    try:
        call_command(
            *("audit_redeliver", "--receiver", "lab.redelivered.on_event", "--anew"),
            *("--pipeline", "granted"),
            stdout=StringIO(),
        )
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET SESSION AUTHORIZATION")
    assert redelivered.positions()[-3:] == positions


def test_the_printed_script_is_what_apply_runs(application):
    out = StringIO()
    name = connections[conf.get("DATABASE")].settings_dict["NAME"]
    call_command(
        "audit_grants", application=application.info.user, owner=f"owner of {name}", stdout=out
    )
    with connections[conf.get("DATABASE")].cursor() as cursor:
        cursor.execute(out.getvalue())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"application": "nobody at all"}, "There is no role 'nobody at all'"),
        ({"application": "same", "owner": "same"}, "Name two roles"),
    ],
)
def test_mistakes_are_told(arguments, message):
    with pytest.raises(CommandError, match=message):
        call_command("audit_grants", **arguments)


def test_help_needs_no_database():
    answer = subprocess.run(
        [sys.executable, "-m", "django", "audit_grants", "--help"],
        env={"DJANGO_SETTINGS_MODULE": "settings_typing", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--application" in answer.stdout, answer.stderr


@pytest.mark.parametrize(
    ("give", "take", "words"),
    [
        (f"GRANT DELETE ON {TABLE} TO PUBLIC", f"REVOKE DELETE ON {TABLE} FROM PUBLIC", None),
        (
            f"GRANT TRIGGER ON {TABLE}_p000001 TO pg_monitor; GRANT pg_monitor TO {{role}}",
            f"REVOKE ALL ON {TABLE}_p000001 FROM pg_monitor",
            "has TRIGGER on",
        ),
        ("ALTER SCHEMA public OWNER TO {role}", "ALTER SCHEMA public OWNER TO postgres", "schema"),
        ("ALTER ROLE {role} SUPERUSER", "ALTER ROLE {role} NOSUPERUSER", "is a superuser"),
        ("ALTER ROLE {role} CREATEROLE", "ALTER ROLE {role} NOCREATEROLE", "CREATEROLE"),
        ("GRANT {owner} TO {role}", "REVOKE {owner} FROM {role}", "member of, the log's owner"),
    ],
    ids=["public", "group", "schema", "superuser", "createrole", "owner"],
)
def test_a_role_that_keeps_a_power_is_not_called_safe(application, give, take, words):
    connection = connections[conf.get("DATABASE")]
    role = application.info.user
    owner = f"owner of {connection.settings_dict['NAME']}"
    names = {"role": _quoted(role), "owner": _quoted(owner)}
    with connection.cursor() as cursor:
        cursor.execute(give.format(**names))
    try:
        if words is None:  # what is PUBLIC's is taken away
            call_command("audit_grants", application=role, owner=owner, apply=True)
        else:
            with pytest.raises(CommandError, match="not safe") as told:
                call_command("audit_grants", application=role, owner=owner, apply=True)
            assert words in str(told.value)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(take.format(**names))
