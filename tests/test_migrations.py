from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from psycopg import sql as compose
from psycopg.conninfo import make_conninfo

from audit import conf
from audit.models import PipelineEventRecord

TABLE = "bamboo_audit_pipelineeventrecord"
OURS = {
    TABLE,
    f"{TABLE}_p000001",
    f"{TABLE}_p000002",
    f"{TABLE}_p000003",
    "bamboo_audit_spoolwriter",
    "bamboo_audit_pipelinetimeline",
    "bamboo_audit_nodetimeline",
    "bamboo_audit_statetransition",
    "bamboo_audit_projectioncheckpoint",
    "bamboo_audit_recordsetaside",
}

SCRIPT = """
import json, sys, django
django.setup()
from django.conf import settings
from django.core.management import call_command
from django.db import connections

def look():
    found = {}
    for alias in getattr(settings, "DATABASES_TO_LOOK_AT", connections.databases):
        with connections[alias].cursor() as cursor:
            found[alias] = sorted(connections[alias].introspection.table_names(cursor))
            if connections[alias].vendor == "postgresql":
                cursor.execute(
                    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') "
                    "AND relnamespace = current_schema()::regnamespace ORDER BY relname"
                )
                found[alias] = [name for (name,) in cursor.fetchall()]
                cursor.execute(
                    "SELECT proname FROM pg_proc WHERE pronamespace = "
                    "current_schema()::regnamespace ORDER BY proname"
                )
                found[alias] += [name + "()" for (name,) in cursor.fetchall()]
    return found

seen = []
for arguments in json.loads(sys.argv[1]):
    call_command(*arguments, verbosity=0)
    seen.append(look())
print(json.dumps(seen))
"""


@pytest.fixture
def own_database():
    """The address of a new, empty database beside the tests' own."""
    url, name = os.environ["DATABASE_URL"], f"migrations_{time.monotonic_ns()}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(compose.SQL("CREATE DATABASE {}").format(compose.Identifier(name)))
        yield make_conninfo(url, dbname=name)
        admin.execute(compose.SQL("DROP DATABASE {} WITH (FORCE)").format(compose.Identifier(name)))


@pytest.fixture
def in_a_new_host(own_database, tmp_path):
    """Run commands one after the other in a process of its own; answers the tables after each."""

    def run(settings: str, *commands: list[str]) -> Any:
        (tmp_path / "host_settings.py").write_text(settings)
        answer = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(commands)],
            env={
                **os.environ,
                "DATABASE_URL": own_database,
                "DJANGO_SETTINGS_MODULE": "host_settings",
                "PYTHONPATH": ":".join([str(tmp_path), *sys.path]),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    return run


SHARED = "from settings import *\n"
SPLIT = "from settings_split import *\n"
ONLY_SQLITE = """
from settings import *
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
BAMBOO_AUDIT = {"DELIVERY": "off"}
"""
ELSEWHERE = (
    SHARED
    + """
DATABASES["log"] = DATABASES["default"] | {"NAME": "not made yet"}
BAMBOO_AUDIT = {"DATABASE": "log"}
SILENCED_SYSTEM_CHECKS = ["bamboo_audit.E006", "bamboo_audit.E007"]
DATABASES_TO_LOOK_AT = ["default"]
"""
)
WITHOUT_ROUTER = SPLIT + "DATABASE_ROUTERS = []\nSILENCED_SYSTEM_CHECKS = ['bamboo_audit.E006', "
WITHOUT_ROUTER += "'bamboo_audit.E007']\n"


def test_djangos_loader_finds_the_migrations():
    loader = MigrationLoader(None)
    assert "bamboo_audit" in loader.migrated_apps
    assert "bamboo_audit" not in loader.unmigrated_apps
    assert len(loader.graph.leaf_nodes("bamboo_audit")) == 1
    assert loader.graph.root_nodes("bamboo_audit") == [("bamboo_audit", "0001_log")]


def test_they_depend_on_no_other_app():
    for (app_label, _), migration in MigrationLoader(None).disk_migrations.items():
        if app_label == "bamboo_audit":
            assert all(app == "bamboo_audit" for app, _ in migration.dependencies)


@pytest.mark.django_db(databases="__all__")
def test_no_migration_is_missing():
    out = StringIO()
    call_command("makemigrations", "bamboo_audit", check=True, dry_run=True, stdout=out)
    assert "No changes detected" in out.getvalue()


@pytest.mark.django_db(databases="__all__")
def test_sqlmigrate_only_prints(log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO away")
    out = StringIO()
    call_command("sqlmigrate", "bamboo_audit", "0001", database=conf.get("DATABASE"), stdout=out)
    assert "Run 0001_log.sql on the log's database" in out.getvalue()
    assert TABLE not in log_connection.introspection.table_names()


@pytest.mark.django_db(databases="__all__")
def test_django_would_not_flush_the_log(log_connection):
    assert TABLE in log_connection.introspection.table_names()
    assert TABLE not in log_connection.introspection.django_table_names(only_existing=True)
    assert not PipelineEventRecord._meta.managed


def test_columns_are_what_the_model_says(django_db_setup, django_db_blocker):
    connection = connections[conf.get("DATABASE")]
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        described = connection.introspection.get_table_description(cursor, TABLE)
        columns = {column.name: column for column in described}
    for field in PipelineEventRecord._meta.local_fields:
        column = columns.pop(field.column)
        kind = connection.introspection.get_field_type(column.type_code, column)
        assert kind in (field.get_internal_type(), "BigIntegerField"), field.name
        assert column.null_ok is field.null is False
    assert columns == {}


def test_back_to_zero_and_forth_again(in_a_new_host):
    made, gone, again = in_a_new_host(
        SHARED,
        ["migrate", "bamboo_audit"],
        ["migrate", "bamboo_audit", "zero"],
        ["migrate", "bamboo_audit"],
    )
    functions = {
        "bamboo_audit_advance()",
        "bamboo_audit_announce_append()",
        "bamboo_audit_create_partitions()",
        "bamboo_audit_refusal()",
        "bamboo_audit_refuse_change()",
    }
    assert set(made["default"]) == OURS | functions | {"django_migrations"}
    assert gone["default"] == ["django_migrations"]
    assert again == made


def test_engine_on_sqlite_and_log_on_postgresql_keep_apart(in_a_new_host):
    first, second = in_a_new_host(SPLIT, ["migrate"], ["migrate", "--database", "audit"])

    assert not any("bamboo_audit" in table for table in second["default"])
    assert {"auth_user", "django_content_type"} <= set(second["default"])
    assert not find_spec("pipeline") or "eri_state" in second["default"]
    assert first["audit"] == []
    tables = {name for name in second["audit"] if not name.endswith("()")}
    assert tables == OURS | {"django_migrations"}


def test_even_without_the_router_the_log_is_made_in_its_database_only(in_a_new_host):
    first, second = in_a_new_host(
        WITHOUT_ROUTER,
        ["migrate", "bamboo_audit"],
        ["migrate", "bamboo_audit", "--database", "audit"],
    )
    assert first == {"default": ["django_migrations"], "audit": []}
    assert second["default"] == ["django_migrations"]
    assert set(second["audit"]) >= OURS


def test_another_postgresql_than_the_logs_is_left_alone(in_a_new_host):
    (seen,) = in_a_new_host(ELSEWHERE, ["migrate", "bamboo_audit"])
    assert seen == {"default": ["django_migrations"]}


def test_on_sqlite_the_migration_does_nothing_and_raises_nothing(in_a_new_host):
    steps = in_a_new_host(
        ONLY_SQLITE,
        ["migrate", "bamboo_audit"],
        ["migrate", "bamboo_audit", "zero"],
        ["migrate", "bamboo_audit"],
    )
    assert [step["default"] for step in steps] == [["django_migrations"]] * 3
