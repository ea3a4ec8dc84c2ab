"""The load of a rebuild as tasks of the host's own Celery: each a part, then its successor.

No more than as many as there are to be at once are ever in the queue, so that the engine's tasks
have their turn in between.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from audit.capture.text import describe
from audit.exceptions import AuditError, LogUnavailable, ProjectionBroken, RebuildRefused
from audit.projections.rebuild import Rebuild, Tell

try:
    from celery import shared_task
except ImportError:  # no task runs here, and nobody sends one
    shared_task = None

NAME: Final = "bamboo_audit.rebuild_part"
LOOK_EVERY: Final = 0.5
SILENT_FOR: Final = 30.0
"""Seconds without a part being done, after which the tasks are sent once more: a broker may hold
back those of a worker that is gone, and one task too many finds nothing to do."""
LIMIT: Final = 3_600
"""Seconds for one part; a host's own limit for its tasks is for others."""

logger = logging.getLogger("audit")


def rebuild_part(*, skip_broken: bool, queue: str | None) -> None:
    """Load a part of the rebuild that is under way, and send for the next one."""
    rebuild = Rebuild.under_way(skip_broken=skip_broken)
    if rebuild is None:
        return  # it is over
    try:
        done = rebuild.work(most=1)
    except LogUnavailable:
        raise
    except Exception as error:
        rebuild.report(str(error) if isinstance(error, AuditError) else describe(error))
        raise
    if done:
        send(1, skip_broken=skip_broken, queue=queue)


if shared_task is not None:
    rebuild_part = shared_task(
        name=NAME,
        # A worker that is killed has not taken it: another one gets it.
        acks_late=True,
        reject_on_worker_lost=True,
        ignore_result=True,
        autoretry_for=(LogUnavailable,),
        retry_backoff=True,
        max_retries=None,
        soft_time_limit=LIMIT,
        time_limit=LIMIT + 60,
    )(rebuild_part)


def send(count: int, *, skip_broken: bool, queue: str | None) -> None:
    """Send so many tasks, to a queue or where the host's app routes them.

    Raises:
        RebuildRefused: Celery is not installed.
    """
    if shared_task is None:
        raise RebuildRefused("--celery needs Celery, which is not installed here.")
    task: Any = rebuild_part
    for _ in range(count):
        task.apply_async(kwargs={"skip_broken": skip_broken, "queue": queue}, queue=queue)


def load(
    rebuild: Rebuild, tasks: int, tell: Tell, *, skip_broken: bool = False, queue: str | None = None
) -> None:
    """Have all parts loaded by tasks, so many at once; waits until all is loaded.

    Raises:
        ProjectionBroken: a task could not go on, and said why.
        RebuildRefused: Celery is not installed.
    """
    known, sent_at = -1, float("-inf")
    while (done := rebuild.done()).parts_done < done.parts:
        tell(done)
        if why := rebuild.reported():
            raise ProjectionBroken(f"A task could not load its part: {why}")
        now = time.monotonic()
        if known >= 0 and done.parts_done != known:
            sent_at = now
        elif now - sent_at >= SILENT_FOR:
            if known >= 0:
                logger.warning(
                    "bamboo-audit: no part of the rebuild was done for %d s. Tasks %s are sent "
                    "again. Is there a worker that takes them%s?",
                    *(SILENT_FOR, NAME, f" from queue {queue}" if queue else ""),
                )
            send(min(tasks, done.parts - done.parts_done), skip_broken=skip_broken, queue=queue)
            sent_at = now
        known = done.parts_done
        time.sleep(LOOK_EVERY)
    tell(done)
