"""What a host's test of its own projection inherits."""

from __future__ import annotations

import datetime
import re
import uuid
from importlib.resources import files
from typing import Any, ClassVar, Final

import orjson

from audit import conf
from audit.capture.ids import Ids
from audit.capture.record import Record
from audit.capture.writer import Stamp
from audit.log import append, settled
from audit.projections import Batch, Projection, projector
from audit.projections.timelines import Timelines

SAMPLE: Final = "sample.jsonl"
"""Records of the real engine, of five runs with failures, retries, skips, polls and pauses."""


class ProjectionContract:
    """Mix it into a test that commits, and say which projection, and how to read its rows::

        @pytest.mark.django_db(transaction=True)
        class TestAttempts(ProjectionContract):
            projection = Attempts

            def rows(self):
                return AttemptTime.objects.order_by("pk").values_list("component", "failed")

    Works with Django's ``TransactionTestCase`` as well. Leave columns out that differ each time
    without meaning anything, such as ids that the database draws.
    """

    projection: ClassVar[type[Projection]]

    def rows(self) -> Any:
        """All that the projection wrote, in some order that does not change: to be compared."""
        raise NotImplementedError("Say in rows() how to read what the projection wrote.")

    def record(self) -> None:
        """Put records into the log that the projection makes rows of; a sample, by default."""
        store_sample()

    def test_there_are_rows(self) -> None:
        """Otherwise the others would say nothing."""
        before = _head()
        self.record()
        if not self._made_anew(before):
            raise AssertionError("apply() makes no rows of what record() puts into the log")

    def test_the_size_of_batches_makes_no_difference(self) -> None:
        before = _head()
        self.record()
        expected = self._made_anew(before)
        for size in (1_000, 37, 5):
            found = self._made_anew(before, size)
            _same(found, expected, f"in batches of {size} other rows come out")

    def test_catching_up_makes_the_same_rows_as_beginning_anew(self) -> None:
        before = _head()
        self._made_anew(before)
        for _ in range(2):
            self.record()
            self._catch_up()
        found = self._read()
        expected = self._made_anew(before)
        _same(found, expected, "what was caught up is not what comes of all records at once")

    def test_nothing_new_changes_nothing(self) -> None:
        before = _head()
        self.record()
        expected = self._made_anew(before)
        self._catch_up()
        _same(self._read(), expected, "without a new record the rows changed")

    def test_what_was_interrupted_is_done_once(self) -> None:
        """As where a process is killed after ``apply`` and before the commit."""
        before = _head()
        self.record()
        expected = self._made_anew(before)
        projector.begin_anew(self.projection(), before)
        empty = self._read()

        class Interrupted(self.projection):  # type: ignore[name-defined, misc]
            def apply(self, batch: Batch) -> None:
                super().apply(batch)
                raise _Killed

        try:
            projector.catch_up([*self._before(), Interrupted()])
        except _Killed:
            pass
        else:
            raise AssertionError("record() puts nothing into the log")
        why = "apply() wrote what a rollback does not take back; it may write to batch.using only"
        _same(self._read(), empty, why)
        self._catch_up()
        _same(self._read(), expected, "what was interrupted came out otherwise")

    def test_reset_deletes_all(self) -> None:
        before = _head()
        self.record()
        self._made_anew(before)
        projector.begin_anew(self.projection(), before)
        _same(self._read(), [], "reset() leaves rows")

    def _made_anew(self, after: int, size: int = projector.BATCH) -> list[Any]:
        projector.begin_anew(self.projection(), after)
        self._catch_up(size)
        return self._read()

    def _catch_up(self, size: int = projector.BATCH) -> None:
        for progress in projector.catch_up([*self._before(), self.projection()], size):
            if progress.set_aside:
                raise AssertionError(f"apply() raises for some records: {progress.set_aside}")

    def _before(self) -> list[Projection]:
        """No other goes further than the timelines are."""
        return [] if issubclass(self.projection, Timelines) else [Timelines()]

    def _read(self) -> list[Any]:
        return list(self.rows())


def _head() -> int:
    return settled.head(conf.get("DATABASE"))


def _same(found: list[Any], expected: list[Any], why: str) -> None:
    """No ``assert``: that would be taken out under ``python -O``."""
    if found == expected:
        return
    missing = [row for row in expected if row not in found]
    extra = [row for row in found if row not in expected]
    raise AssertionError(
        f"{why}. There are {len(found)} rows, expected {len(expected)}; missing, for example: "
        f"{missing[:2]}; not expected, for example: {extra[:2]}"
    )


class _Killed(BaseException):
    """As a signal would, past whoever catches exceptions."""


_ID: Final = re.compile(rb"\b[a-z]?[0-9a-f]{31,32}\b")
"""The engine's ids and versions."""
TIMEOUT: Final = 10.0


def store_sample() -> list[str]:
    """Append the sample to the log with new ids, as if it happened now; answers its runs."""
    using, began = conf.get("DATABASE"), datetime.datetime.now(datetime.UTC)
    fresh: dict[bytes, bytes] = {}

    def renamed(found: re.Match[bytes]) -> bytes:
        old = found[0]
        return fresh.setdefault(old, old[:1] + uuid.uuid4().hex.encode()[: len(old) - 1])

    writer_id, roots = uuid.uuid4(), dict[str, None]()
    for number, line in enumerate(_lines(), 1):
        found = orjson.loads(_ID.sub(renamed, line))
        ids = Ids(*(found[key] for key in Ids._fields))
        record = Record(
            found["event_type"], ids, orjson.dumps(found["data"]), orjson.dumps(found["context"])
        )
        at = began + datetime.timedelta(microseconds=found["after"])
        append.append(record, Stamp(writer_id, number, at), using=using, timeout=TIMEOUT)
        roots[ids.root_pipeline_id] = None
    return list(roots)


def _lines() -> list[bytes]:
    return (files("audit.testing") / SAMPLE).read_bytes().splitlines()
