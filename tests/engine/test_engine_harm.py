"""Whatever fails inside the recorder, at whatever event: the engine goes on as without it.

One cell per moment and kind of failure. ``test_engine_harm_control.py`` shows that at each of
these moments a receiver that lets its failure out does harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import InternalError, OperationalError
from lab import points
from lab.points import Point
from lab.scenarios import Run
from lab.spy import send, told, written

from audit.capture import record
from audit.capture.failures import failures
from audit.capture.writer import writer
from audit.delivery import inline
from audit.events import GAP
from audit.log import append


@dataclass(frozen=True)
class Kind:
    """One way to fail: where in the recorder, with what, and the reason that the gap gives."""

    name: str
    where: str
    error: Callable[[], BaseException] | None
    reason: str


KINDS = [
    Kind("TypeError", "insert", lambda: TypeError("ours"), "TypeError"),
    Kind("OperationalError", "insert", lambda: OperationalError("ours"), "OperationalError"),
    Kind("InternalError", "insert", lambda: InternalError("ours"), "InternalError"),
    Kind("missing_column", "sql", None, "ProgrammingError"),
    Kind("RecursionError", "encode", lambda: RecursionError("ours"), "RecursionError"),
    Kind("MemoryError", "encode", lambda: MemoryError("ours"), "MemoryError"),
]


class Trap:
    """Makes the recorder fail at one event, and at no other."""

    def __init__(self, point: Point, kind: Kind) -> None:
        self.point, self.kind = point, kind
        self.met = 0
        self.armed = False

    def set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        deliver, make = inline.deliver, record.make
        insert, queries = append._insert, append.queries

        def delivering(event_type: str, data: Any, *args: Any) -> None:
            if self.point.matches(event_type, data):
                self.met += 1
                self.armed = self.met == self.point.nth
            try:
                deliver(event_type, data, *args)
            finally:
                self.armed = False

        # On a busy machine any failure may take long; a log that rests is another test's subject.
        monkeypatch.setattr(inline, "PAUSE_AFTER", 60.0)
        monkeypatch.setattr(inline, "deliver", delivering)
        monkeypatch.setattr(record, "make", self.failing("encode", make))
        monkeypatch.setattr(append, "_insert", self.failing("insert", insert))
        monkeypatch.setattr(append, "queries", lambda: self.broken(queries()))

    def failing(self, where: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*args: Any, **kwargs: Any) -> Any:
            if self.armed and self.kind.where == where and self.kind.error:
                raise self.kind.error()
            return function(*args, **kwargs)

        return failing

    def broken(self, queries: dict[str, str]) -> dict[str, str]:
        if not (self.armed and self.kind.where == "sql"):
            return queries
        broken = queries["append_record"].replace("node_version", "no_such_column", 1)
        return {**queries, "append_record": broken}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("point", points.ALL, ids=lambda point: point.name)
def test_a_failure_of_ours_harms_nothing(point, kind, undisturbed, spy, monkeypatch, caplog):
    expected = undisturbed(point.scenario)
    spy.seen.clear()
    trap = Trap(point, kind)
    trap.set(monkeypatch)

    run = point.scenario()
    send("afterwards", {})  # the last event of a run may be the one that fails

    assert trap.met >= point.nth
    assert run.outcome() == expected.outcome
    assert [told(each, run.names) for each in spy.seen[:-1]] == expected.sent
    _one_failed(point, kind)
    _all_others_are_recorded(point, spy.seen)
    _logged_once(point, run, caplog)


def _one_failed(point: Point, kind: Kind) -> None:
    summary = failures.summary()
    assert summary.by_reason == {kind.reason: 1}
    assert summary.pending == 0
    assert summary.last_event_type == point.event_type


def _all_others_are_recorded(point: Point, seen: list[Any]) -> None:
    """In order, with a gap record before the next one and a hole in the numbers.

    A gap is not told inside a transaction of the engine's, but right after it.
    """
    matching = [n for n, one in enumerate(seen) if point.matches(one.event_type, one.data)]
    lost = matching[point.nth - 1]
    rest = seen[lost + 1 :]
    shared = next(n for n, one in enumerate(rest) if not one.in_transaction)
    expected = [told(one) for one in [*seen[:lost], *rest]]
    expected.insert(lost + shared, (GAP, "", ""))

    records = written()
    assert [told(each) for each in records] == expected
    gap = records[lost + shared].data
    assert (gap["count"], gap["event_types"]) == (1, {point.event_type: 1})
    assert gap["first_at"] == gap["last_at"]
    numbers = Counter(each.writer_position for each in records)
    assert set(range(1, writer._position + 1)) - set(numbers) == {lost + 1}
    assert max(numbers.values()) == 1


def _logged_once(point: Point, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    ours = [each for each in caplog.records if each.name == "audit"]
    assert [each.levelname for each in ours] == ["ERROR"]
    assert f"could not record {point.event_type} of run {run.root}," in ours[0].getMessage()
    assert ours[0].exc_info
