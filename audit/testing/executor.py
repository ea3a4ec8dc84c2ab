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


@dataclass(order=True, slots=True)
class _Due:
    at: float
    order: int
    task: Any = field(compare=False)
    kwargs: dict[str, Any] = field(compare=False)


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

    def push(self, task: Any, kwargs: dict[str, Any], countdown: float) -> None:
        with self._lock:
            due = _Due(self.now + countdown, next(self._order), task, kwargs)
            heapq.heappush(self._due, due)

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
            due.task(**due.kwargs)
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
        heap.push(self, dict(kwargs or {}), countdown or 0.0)
        return Sent(str(uuid.uuid4()))
