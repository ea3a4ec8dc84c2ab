"""The load of a rebuild by several processes of this machine."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Final

from django.db import connections

from audit.exceptions import AuditError
from audit.projections.rebuild import Rebuild, Tell

TELL_EVERY: Final = 0.3
"""Seconds."""
COLLECT_EVERY: Final = 200_000
"""What a load makes is seldom in circles, and to look for those took a tenth of it."""


def load(rebuild: Rebuild, workers: int, tell: Tell) -> None:
    """Load all parts; ``workers``: processes, 1 for this one.

    Raises:
        AuditError: a worker was killed. What is loaded stays, and whoever rebuilds goes on there.
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
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        waiting: set[Future[int]] = {pool.submit(rebuild.work) for _ in range(workers)}
        try:
            while waiting:
                ended, waiting = wait(waiting, TELL_EVERY, return_when=FIRST_EXCEPTION)
                for each in ended:
                    each.result()
                tell(rebuild.done())
        except BrokenProcessPool as error:
            raise AuditError(
                "A worker was killed. What serves is as it was, and what is loaded stays: run the "
                "same again, and it goes on there."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin() -> None:
    """In the child: what the parent has is never to be looked through."""
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)


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
