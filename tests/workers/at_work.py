"""Killing a worker's child in the middle of a task.

One that waits for its next task holds a lock of the pool's, which would go with it: no other child
would get a task any more, which is Celery's and not what is to be seen here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.hosts import within


def _mark(pid: int) -> str:
    return f"{pid}.at_work"


@contextmanager
def at_work() -> Iterator[None]:
    """What a task does meanwhile; its process is marked in the folder that it works in."""
    mark = Path(_mark(os.getpid()))
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def kill_one_at_work(folder: Path, among: Collection[int]) -> int | None:
    """Kill one of these processes if one is at work; None: none was."""
    for pid in among:
        mark = folder / _mark(pid)
        if not mark.exists():
            continue
        os.kill(pid, signal.SIGSTOP)
        for _ in within(20):
            if Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T":
                break
        if mark.exists():
            os.kill(pid, signal.SIGKILL)
            return pid
        os.kill(pid, signal.SIGCONT)
    return None
