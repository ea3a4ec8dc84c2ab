from __future__ import annotations

import pytest
from django.db import IntegrityError, connections, transaction

from audit import conf
from audit.exceptions import AppendOnlyError
from audit.models import PipelineEventRecord

pytestmark = pytest.mark.django_db(databases="__all__")

TABLE = "bamboo_audit_pipelineeventrecord"


def run_sql(statement: str) -> None:
    using = conf.get("DATABASE")
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize("table", [TABLE, f"{TABLE}_p000001"])
@pytest.mark.parametrize("replica", [False, True], ids=["origin", "replica"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET event_type = 'forged'", "DELETE FROM {}", "TRUNCATE {}"],
    ids=["update", "delete", "truncate"],
)
def test_the_database_refuses_changes_even_by_the_owner(record_factory, statement, replica, table):
    position = record_factory()
    setting = "SET LOCAL session_replication_role = replica; " if replica else ""

    with pytest.raises(IntegrityError, match="the log only grows"):
        run_sql(setting + statement.format(table))

    assert PipelineEventRecord.objects.get(pk=position).event_type == "node_enter"


def test_a_partition_that_is_made_later_refuses_as_well(record_factory, log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute("SELECT bamboo_audit_create_partitions(1000, 5)")
        (name,) = cursor.fetchone()
        cursor.execute(f"SELECT low FROM ({_bounds(name)}) b")
        (low,) = cursor.fetchone()
        cursor.execute(
            f"INSERT INTO {TABLE} (id, writer_position, occurred_at, writer_id, event_type, data) "
            "OVERRIDING SYSTEM VALUE VALUES (%s, 1, now(), gen_random_uuid(), 'x', '{}')",
            [low],
        )
    for statement in ("UPDATE {} SET event_type = 'y'", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(IntegrityError, match="the log only grows"):
            run_sql(statement.format(name))


def _bounds(name: str) -> str:
    return (
        "SELECT (regexp_match(pg_get_expr(relpartbound, oid), 'FROM \\(''(\\d+)'''))[1]::bigint "
        f"AS low FROM pg_class WHERE oid = '{name}'::regclass"
    )


def test_models_and_querysets_refuse_to_write(record_factory):
    record = PipelineEventRecord.objects.get(pk=record_factory())
    records = PipelineEventRecord.objects

    for write in (
        record.save,
        record.delete,
        lambda: records.create(event_type="x"),
        lambda: records.all().update(event_type="x"),
        lambda: records.all().delete(),
        lambda: records.bulk_create([record]),
        lambda: records.bulk_update([record], ["event_type"]),
        lambda: records.get_or_create(event_type="x"),
        lambda: records.update_or_create(event_type="x"),
    ):
        with pytest.raises(AppendOnlyError):
            write()


def test_the_data_is_compressed_with_lz4_where_the_server_can(log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings "
            "WHERE name = 'default_toast_compression'"
        )
        (can,) = cursor.fetchone()
        cursor.execute(
            "SELECT DISTINCT a.attcompression FROM pg_attribute a JOIN pg_class c "
            "ON c.oid = a.attrelid WHERE c.relname ~ %s AND a.attname IN ('data', 'context') "
            "AND c.relkind IN ('r', 'p')",
            [f"^{TABLE}(_p\\d+)?$"],
        )
        found = {method for (method,) in cursor.fetchall()}
    assert found == ({"l"} if can else {""})
