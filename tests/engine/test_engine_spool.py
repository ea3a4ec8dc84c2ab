"""Delivery "spool": the real engine's every event in the log as it was sent, and no harm done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from django.db.utils import InternalError, OperationalError
from lab import points, scenarios
from lab.points import Point
from lab.spy import send, told

from audit.capture.encode import encode
from audit.capture.failures import failures
from audit.delivery import spooled
from audit.events import GAP
from audit.exceptions import SpoolFull
from audit.models import PipelineEventRecord
from audit.shipping.shipper import Shipper
from audit.spool import folder
from audit.spool.writer import writer


@pytest.fixture(autouse=True)
def spool(configure: Any, tmp_path: Any) -> Any:
    configure(DELIVERY="spool", SPOOL_DIR=str(tmp_path))
    folder.ready(folder.place())
    yield
    writer.close()


@pytest.fixture
def shipped(settings: Any) -> Callable[[], list[PipelineEventRecord]]:
    """This process's records, shipped, in the order of their numbers."""

    def ship() -> list[PipelineEventRecord]:
        one = Shipper(folder.place(), settings.BAMBOO_AUDIT.get("DATABASE", "default"))
        assert one.drain(time.monotonic() + 30)
        one.close()
        found = PipelineEventRecord.objects.filter(writer_id=writer.id)
        return list(found.order_by("writer_position"))

    return ship


@pytest.mark.parametrize("scenario", scenarios.ALL.values(), ids=lambda each: each.__name__)
def test_every_event_is_in_the_log_as_it_was_sent(scenario, spy, shipped):
    run = scenario()
    records = [each for each in shipped() if each.event_type != "node_failure_detail"]

    assert [told(each) for each in records] == [told(each) for each in spy.seen]
    sent = [orjson.loads(encode(each.data)[0]) for each in spy.seen]  # tracebacks may hold NUL
    assert [each.data for each in records] == sent
    assert {each.root_pipeline_id for each in records} == {run.root}
    assert [each.writer_position for each in records] == list(range(1, len(records) + 1))


KINDS = [TypeError, OSError, OperationalError, InternalError, SpoolFull, MemoryError]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("point", points.ALL, ids=lambda point: point.name)
def test_a_failure_of_the_spool_harms_nothing(
    point: Point, kind: Any, undisturbed, spy, shipped, monkeypatch, caplog
):
    expected = undisturbed(point.scenario)
    spy.seen.clear()
    put, met = spooled.put, []

    def putting(event_type: str, node_id: str, to_state: Any, *row: Any) -> None:
        if point.matches(event_type, {"node_id": node_id, "to_state": to_state}):
            met.append(True)
            if len(met) == point.nth:
                raise kind("ours")
        put(event_type, node_id, to_state, *row)

    monkeypatch.setattr(spooled, "put", putting)
    run = point.scenario()
    send("afterwards", {})

    assert len(met) >= point.nth
    assert run.outcome() == expected.outcome
    assert [told(each, run.names) for each in spy.seen[:-1]] == expected.sent
    assert failures.summary().by_reason == {kind.__name__: 1}
    records = [each for each in shipped() if each.event_type != "node_failure_detail"]
    matching = [n for n, one in enumerate(spy.seen) if point.matches(one.event_type, one.data)]
    lost = matching[point.nth - 1]
    sent = [told(one) for one in spy.seen]
    assert [told(each) for each in records] == [*sent[:lost], (GAP, "", ""), *sent[lost + 1 :]]
    assert records[lost].data["event_types"] == {point.event_type: 1}
    ours = [each for each in caplog.records if each.name == "audit" and each.levelname == "ERROR"]
    assert len(ours) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, SoftTimeLimitExceeded])
def test_what_is_not_ours_passes_through_and_leaves_the_spool_whole(error, shipped, monkeypatch):
    put, raised = type(writer)._put, []

    def interrupted(self: Any, *args: Any) -> None:
        put(self, *args)
        if not raised:
            raised.append(True)
            raise error

    monkeypatch.setattr(type(writer), "_put", interrupted)
    with pytest.raises(error):
        send("first", {})
    send("second", {})
    assert [each.event_type for each in shipped()] == ["first", GAP, "second"]


def test_a_spool_that_is_full_is_told_when_there_is_room_again(shipped, monkeypatch, caplog):
    append = writer.append

    def full(*_: Any) -> None:
        raise SpoolFull("The spool is full.")

    send("before", {})
    monkeypatch.setattr(writer, "append", full)
    for _ in range(20):
        send("meanwhile", {})
    monkeypatch.setattr(writer, "append", append)
    send("after", {})
    records = shipped()
    assert [each.event_type for each in records] == ["before", GAP, "after"]
    assert records[1].data["count"] == 20
    assert records[1].data["reasons"] == {"SpoolFull": 20}
    assert len([each for each in caplog.records if each.name == "audit"]) == 1
