from __future__ import annotations

import time
import uuid

import pytest
from django.db import connections
from lab.hosts import Host

from audit import conf
from audit.capture import record, row
from audit.capture.ids import Ids
from audit.models import PipelineEventRecord, SpoolWriter
from audit.shipping import source
from audit.shipping.shipper import Shipper
from audit.spool import folder
from audit.spool.segment import ROOTLESS
from audit.spool.writer import Writer, writer
from audit.testing.postgres import Server

TEMPLATE = "template_of_logs"


def pytest_collection_modifyitems(items):
    for item in items:
        # Those with hosts of their own have databases of their own.
        if "shipping" in item.path.parts and "host" not in item.fixturenames:
            item.add_marker(pytest.mark.django_db(transaction=True, databases="__all__"))


@pytest.fixture(autouse=True)
def spool_dir(tmp_path, settings, monkeypatch):
    """Each test's own spool; answers the folder of its segments."""
    monkeypatch.setattr(source, "HOLE_PATIENCE", (0.0, 0.0))
    settings.BAMBOO_AUDIT = {
        **getattr(settings, "BAMBOO_AUDIT", {}),
        "DELIVERY": "spool",
        "SPOOL_DIR": str(tmp_path / "spool"),
    }
    folder.ready(folder.place())
    yield folder.place()
    writer.close()


@pytest.fixture
def using():
    return conf.get("DATABASE")


@pytest.fixture
def fresh():
    """A writer of this test's own."""
    one = Writer()
    yield one
    one.close()


@pytest.fixture
def emit(fresh):
    """Append records to the spool as the receivers do."""

    def append(count=1, *, run="run-1", node="node-1", data=None, of=None, event_type="node_enter"):
        ids = Ids(root_pipeline_id=run, node_id=node)
        for number in range(count):
            said = {"n": number} if data is None else data
            rest = row.rest(record.make(event_type, said, ids, ()))
            (of or fresh).append(rest, 0 if run else ROOTLESS)

    return append


@pytest.fixture
def shipper(spool_dir, using):
    one = Shipper(spool_dir, using)
    yield one
    one.close()


@pytest.fixture
def drain(shipper):
    """Ship all there is."""

    def ship_all(of=None):
        assert (of or shipper).drain(time.monotonic() + 30)

    return ship_all


@pytest.fixture
def shipped(fresh):
    """The numbers of a writer's records in the log, in the order in which they were stored."""

    def numbers(of=None):
        writer_id = of or fresh.id
        found = PipelineEventRecord.objects.filter(writer_id=writer_id).order_by("id")
        return list(found.values_list("writer_position", flat=True))

    return numbers


@pytest.fixture
def books(fresh):
    """A writer's row."""

    def row_of(of=None):
        return SpoolWriter.objects.get(writer_id=of or fresh.id)

    return row_of


@pytest.fixture
def gaps():
    """The gap records about a writer."""

    def about(writer_id):
        found = PipelineEventRecord.objects.of_type("gap").filter(data__writer_id=str(writer_id))
        return [each.data for each in found.order_by("id")]

    return about


@pytest.fixture
def sql(using):
    def run(statement, *parameters):
        with connections[using].cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture(scope="session")
def server():
    """A server of these tests' own, which may be stopped, killed and frozen."""
    with Server(durable=False, options={"log_line_prefix": "%a|%d|"}) as one:
        yield one


def database_of(server, name):
    return server.url.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session")
def template(server, tmp_path_factory):
    """A database with the log's tables."""
    administrator = Host(tmp_path_factory.mktemp("template"), server.url)
    administrator.query(f"CREATE DATABASE {TEMPLATE}")
    administrator.url = database_of(server, TEMPLATE)
    administrator.finish(administrator.command("migrate", "bamboo_audit"), 60)
    return TEMPLATE


@pytest.fixture
def host(server, template, tmp_path):
    """A host with an empty spool and an empty log."""
    name = f"log_{uuid.uuid4().hex}"
    Host(tmp_path / "nobody", server.url).query(f"CREATE DATABASE {name} TEMPLATE {template}")
    one = Host(tmp_path / "host", database_of(server, name))
    yield one
    one.end()
    Host(tmp_path / "nobody", server.url).query(f"DROP DATABASE {name} WITH (FORCE)")
