"""A record as the fold takes it: of the log's columns those that it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter, lt
from typing import Any, Final, NamedTuple


class Record(NamedTuple):
    """One record of a run. ``at``: when it occurred, in microseconds since the epoch, UTC."""

    position: int
    at: int
    writer_id: str
    writer_position: int
    event_type: str
    pipeline_id: str
    node_id: str
    node_version: str
    data: Mapping[str, Any]
    context: Mapping[str, Any]

    @property
    def pipeline_or_node(self) -> str:
        """What it is about: the node, or of an operation on a pipeline that one."""
        return self.node_id or self.pipeline_id

    @property
    def task(self) -> str:
        """The task that it comes from; else its process, which runs one at a time then."""
        task = self.context.get("task")
        found = task.get("id") if isinstance(task, dict) else None
        return str(found) if found else self.writer_id


def text_of(value: Any) -> str:
    """A value of a record that should be a text, and is one afterwards."""
    return value if isinstance(value, str) else "" if value is None else repr(value)


_PLACE: Final = itemgetter(1, 2, 3)
"""When it occurred, its writer, and the writer's number."""


def in_order(records: Iterable[Record]) -> list[Record]:
    """Each record once, in the order of the run: by time, and within a writer by its numbers.

    Within a writer times never run backwards, so this is its own order; between writers it is
    as good as their clocks agree.
    """
    found = list(records)
    times = [record.at for record in found]
    if all(map(lt, times, times[1:])):
        return found  # as records of one process come, and nothing is there twice
    found.sort(key=itemgetter(0), reverse=True)  # of one that is there twice the first is kept
    places = list(map(_PLACE, found))
    return [record for _, record in sorted(dict(zip(places, found, strict=True)).items())]
