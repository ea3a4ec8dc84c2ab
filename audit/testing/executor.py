"""The engine without a broker: its Celery tasks on a heap, run in this thread, time virtual.

For demos and tests: deterministic, about 50 ms per run. In the project's ``celery.py``::

    app = Celery("demo", task_cls=InlineTask)
    app.set_default()   # before django.setup(): the engine's tasks bind to the current app
"""

from __future__ import annotations

import heapq
import itertools
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from celery import Task

from audit.capture.celery import begin, carried, end


@dataclass(order=True, slots=True)
class _Due:
    at: float
    order: int
    task: Any = field(compare=False)
    task_id: str = field(compare=False)
    kwargs: dict[str, Any] = field(compare=False)
    header: str = field(compare=False)
    """Who and why, as a message of a broker carries it to the worker."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What ``apply_async`` answers: as much of a result as the engine looks at."""

    id: str


class Heap:
    """The tasks that were sent and not yet run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: list[_Due] = []
        self._order = itertools.count()
        self.now = 0.0
        """Virtual time in seconds: a task sent with a countdown makes it jump, nobody waits."""

    def push(self, task: Any, kwargs: dict[str, Any], countdown: float) -> str:
        """Send a task; answers its id."""
        task_id, header = str(uuid.uuid4()), carried()
        with self._lock:
            at, order = self.now + countdown, next(self._order)
            heapq.heappush(self._due, _Due(at, order, task, task_id, kwargs, header))
        return task_id

    def pump(self, limit: int = 100_000) -> int:
        """Run tasks, and those that they send, until none is left or ``limit`` have run.

        Answers how many ran. What a task raises comes out here, as it would in a worker's log.
        """
        for ran in range(limit):
            with self._lock:
                if not self._due:
                    return ran
                due = heapq.heappop(self._due)
                self.now = max(self.now, due.at)
            begin(due.task_id, due.task.name, due.header, inside=True)
            try:
                due.task(**due.kwargs)
            finally:
                end(due.task_id)
        return limit

    def clear(self) -> None:
        """Forget what was not run."""
        with self._lock:
            self._due.clear()


heap: Final = Heap()


class InlineTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task that goes onto the heap instead of to a broker."""

    abstract = True

    def apply_async(
        self,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        countdown: float | None = None,
        **_: Any,
    ) -> Sent:
        if args:
            raise TypeError("the engine sends keyword arguments only")
        return Sent(heap.push(self, dict(kwargs or {}), countdown or 0.0))
