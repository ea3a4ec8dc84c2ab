"""The load of a rebuild by several processes of this machine."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Final

from django.db import connections

from audit.exceptions import AuditError, RebuildOver
from audit.projections.rebuild import Rebuild, Tell

TELL_EVERY: Final = 0.3
"""Seconds."""
COLLECT_EVERY: Final = 200_000
"""What a load makes is seldom in circles, and there is much of it to look through."""


def load(rebuild: Rebuild, workers: int, tell: Tell) -> None:
    """Load all parts; ``workers``: processes, 1 for this one.

    Raises:
        AuditError: a worker was killed, or failed. What is loaded stays, and whoever rebuilds
            goes on there.
        ProjectionBroken: as ``Rebuild.work``.
    """
    if workers > 1:
        _load_beside(rebuild, workers, tell)
    with _seldom_collecting():
        rebuild.wait(tell)


def _load_beside(rebuild: Rebuild, workers: int, tell: Tell) -> None:
    connections.close_all()  # a child would share them
    # Forked: a host's settings, apps and projections are there already, however it was started.
    context = multiprocessing.get_context("fork")
    ways, processes = [], []
    for _ in range(workers):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(rebuild, os.getpid(), there), daemon=True)
        process.start()
        there.close()
        ways.append(here)
        processes.append(process)
    try:
        while alive := [process.sentinel for process in processes if process.is_alive()]:
            connection.wait(alive, TELL_EVERY)
            with suppress(RebuildOver):  # as its workers see as well
                tell(rebuild.done())
            for way, process in zip(ways, processes, strict=True):
                _raise_what_it_said(way, process)
        for way, process in zip(ways, processes, strict=True):
            _raise_what_it_said(way, process)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _raise_what_it_said(way: connection.Connection, process: BaseProcess) -> None:
    if way.poll():
        with suppress(EOFError):  # it has ended
            raise way.recv()
    if process.exitcode:
        was = f"was killed by signal {-process.exitcode}" if process.exitcode < 0 else "failed"
        raise AuditError(
            f"A worker {was}. What serves is as it was, and what is loaded stays: run the same "
            "again, and it goes on there."
        )


def _work(rebuild: Rebuild, parent: int, way: connection.Connection) -> None:
    """In the child. What the parent has is never to be looked through, and it may be killed."""
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)
    try:
        while os.getppid() == parent and rebuild.work(most=1):
            pass
    except AuditError as error:
        way.send(type(error)(str(error)))
    except KeyboardInterrupt:
        pass  # the parent has it as well
    finally:
        connections.close_all()


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
