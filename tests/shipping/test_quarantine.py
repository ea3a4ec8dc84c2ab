"""A row that the database refuses costs only itself, and its text is kept."""

from __future__ import annotations

import logging
import time

import orjson
import pytest

from audit.capture import row
from audit.capture.ids import Ids
from audit.capture.record import Record
from audit.models import PipelineEventRecord
from audit.shipping import quarantine
from audit.status import read

# What jsonb refuses, and no encoder of ours writes: to be sure that it is no matter.
BAD = {
    "NUL": b'{"a": "\\u0000"}',
    "surrogate": b'{"a": "\\ud800"}',
    "NaN": b'{"a": NaN}',
    "long number": b'{"a": ' + b"9" * 140_000 + b"}",
    "deep": b"[" * 20_000 + b"]" * 20_000,
    "no JSON": b"{",
}


@pytest.fixture
def put(fresh):
    def append(data, event_type="node_enter", context=b"{}"):
        ids = Ids(root_pipeline_id="run-1", node_id="n")
        fresh.append(row.rest(Record(event_type, ids, data, context)))

    return append


@pytest.mark.parametrize("name", BAD)
def test_a_bad_payload_among_good_ones(put, drain, shipped, spool_dir, fresh, name, caplog):
    for number in range(50):
        put(BAD[name] if number == 20 else b'{"n": %d}' % number)
    with caplog.at_level(logging.ERROR, "audit"):
        drain()
    assert shipped() == list(range(1, 51))
    records = list(PipelineEventRecord.objects.filter(writer_id=fresh.id).order_by("id"))
    good = [each.data["n"] for each in records if "n" in each.data]
    assert good == [n for n in range(50) if n != 20]
    told = records[20]
    assert told.data["text"] == BAD[name].decode()[: quarantine.HEAD]
    assert told.data["bytes"] == len(BAD[name])
    assert told.data["refused"]
    assert told.context["changed"] == [{"path": "$", "was": "refused by the database"}]
    (line,) = (spool_dir / quarantine.FILE).read_bytes().splitlines()
    assert orjson.loads(line)["data"] == BAD[name].decode()
    assert (spool_dir / quarantine.FILE).stat().st_mode & 0o077 == 0
    assert "refused the payload of node_enter" in caplog.text


def test_a_bad_context(put, drain, shipped, fresh):
    put(b"{}")
    put(b"{}", context=b'{"a": "\\u0000"}')
    put(b"{}", context=b"[]")
    put(b"{}")
    drain()
    assert shipped() == [1, 2, 3, 4]
    told = PipelineEventRecord.objects.filter(writer_id=fresh.id, data__has_key="refused")
    assert sorted(told.values_list("writer_position", flat=True)) == [2, 3]


def test_what_no_document_tells_of_is_found_by_halves(put, drain, shipped, fresh):
    """An actor longer than the index takes; ours are cut before."""
    for number in range(40):
        actor = b"x" * 9_000 if number == 13 else b"alice"
        # Not to be compressed below the limit, as one letter would be.
        if number == 13:
            actor = b"".join(b"%08x" % (n * 2654435761 % 2**32) for n in range(1_200))
        put(b"{}", context=b'{"actor": "%b"}' % actor)
    drain()
    assert shipped() == list(range(1, 41))
    told = PipelineEventRecord.objects.get(writer_id=fresh.id, data__has_key="refused")
    assert told.writer_position == 14


def test_a_thousand_bad_payloads_take_no_longer_than_one_by_one_would(put, drain, shipped):
    for number in range(3_000):
        put(BAD["NUL"] if number % 3 == 0 else b"{}")
    began = time.monotonic()
    drain()
    assert shipped() == list(range(1, 3_001))
    assert time.monotonic() - began < 20


def test_status_tells_of_refused_payloads(put, drain, using):
    put(BAD["NaN"])
    drain()
    assert any("refused payloads" in problem for problem in read().problems)
