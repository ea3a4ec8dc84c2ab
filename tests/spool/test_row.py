"""A row's bytes are what PostgreSQL's binary COPY takes, and can be taken apart again."""

from __future__ import annotations

import datetime
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.capture import row
from audit.capture.ids import Ids
from audit.capture.record import Record
from audit.log.link import Link
from audit.sql import queries

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
records = st.builds(
    Record,
    texts,
    st.builds(Ids, texts, texts, texts, texts),
    st.just(b'{"a": "\xe5\xae\xa1"}') | st.just(b"null") | st.just(b'"' + b"x" * 70_000 + b'"'),
    st.just(b'{"actor": "alice"}'),
)
moments = st.datetimes(
    datetime.datetime(1970, 1, 1), datetime.datetime(2200, 1, 1), timezones=st.just(datetime.UTC)
)


@given(records, moments, st.integers(1, 2**62), st.uuids())
def test_a_row_taken_apart_is_what_it_was_made_of(made, at, position, writer_id):
    whole = row.build(row.Row(at, position, writer_id, made))
    assert row.parse(whole) == row.Row(at, position, writer_id, made)
    assert row.split(whole + whole) == [whole, whole]


@given(records, moments, moments)
def test_a_row_at_another_time_is_the_same_otherwise(made, at, other):
    before = row.Row(at, 1, uuid.UUID(int=7), made)
    us = (other - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(
        microseconds=1
    )
    moved = row.at_time(row.build(before), us)
    assert row.parse(moved) == before._replace(occurred_at=other)
    assert row.occurred_us(moved) == us


def test_the_columns_are_those_of_the_copy():
    columns = re.search(r"\((.*?)\)", queries()["append_rows"], re.DOTALL)[1]
    assert tuple(name.strip() for name in columns.split(",")) == row.COLUMNS


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_postgresql_reads_a_row_as_it_was_written(settings):
    link = Link(settings.BAMBOO_AUDIT.get("DATABASE", "default"))
    made = Record(
        "审计", Ids("根", "", "node\t1\\", "v"), b'{"a": [1, "\\\\n"]}', b'{"actor": "x"}'
    )
    at = datetime.datetime(2026, 2, 28, 23, 59, 59, 999_999, datetime.UTC)
    writer_id = uuid.uuid4()
    with link.transaction() as cursor:
        cursor.execute("CREATE TEMP TABLE t (LIKE bamboo_audit_pipelineeventrecord) ON COMMIT DROP")
        cursor.execute("ALTER TABLE t ALTER id DROP NOT NULL, ALTER recorded_at DROP NOT NULL")
        statement = queries()["append_rows"].replace("bamboo_audit_pipelineeventrecord", "t")
        with cursor.copy(statement) as copy:
            copy.write(row.FILE_BEGIN + row.build(row.Row(at, 9, writer_id, made)) + row.FILE_END)
        cursor.execute(
            "SELECT occurred_at, writer_position, writer_id, event_type, root_pipeline_id, "
            "pipeline_id, node_id, node_version, data, context FROM t"
        )
        found = cursor.fetchone()
    link.close()
    assert found == (
        *(at, 9, writer_id, "审计", "根", "", "node\t1\\", "v"),
        *('{"a": [1, "\\\\n"]}', '{"actor": "x"}'),  # Django's adapters leave jsonb as text
    )
