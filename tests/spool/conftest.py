from __future__ import annotations

import pytest

from audit.capture import record, row
from audit.capture.ids import Ids
from audit.spool import folder
from audit.spool.reader import Reader
from audit.spool.writer import Writer


@pytest.fixture(autouse=True)
def spool_dir(tmp_path, settings):
    """Each test's own spool; answers the folder of its segments."""
    settings.BAMBOO_AUDIT = {
        **getattr(settings, "BAMBOO_AUDIT", {}),
        "DELIVERY": "spool",
        "SPOOL_DIR": str(tmp_path / "spool"),
    }
    return folder.place()


@pytest.fixture
def fresh():
    """A writer of this test's own."""
    writer = Writer()
    yield writer
    writer.close()


@pytest.fixture
def rest():
    """What a writer appends: a record's row without its number and time."""

    def make(event_type="node_enter", data=None, run="run-1", node="node-1"):
        ids = Ids(root_pipeline_id=run, node_id=node)
        return row.rest(record.make(event_type, {} if data is None else data, ids, ()))

    return make


@pytest.fixture
def stored(spool_dir):
    """All rows in the spool, by writer and in order, taken apart."""

    def read():
        rows = []
        for found in folder.segments(spool_dir):
            reader = Reader.of_file(found.path)
            while chunk := reader.read(1_000, 1 << 20):
                rows += [row.parse(each) for each in chunk.rows()]
            reader.close()
        return rows

    return read
