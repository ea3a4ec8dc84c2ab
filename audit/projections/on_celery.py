"""The load of a rebuild as tasks of the host's own Celery: each a part, then its successor.

No more than were asked for go on at once, so that the engine's tasks have their turn in between.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from audit import conf
from audit.capture.text import describe
from audit.exceptions import (
    AuditError,
    LogUnavailable,
    ProjectionBroken,
    RebuildOver,
    RebuildRefused,
)
from audit.log.rebuilds import Beside
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
SILENCES: Final = 10
"""So often they are sent once more: a part may be what kills its worker each time."""
LIMIT: Final = 3_600
"""Seconds for one part; a host's own limit for its tasks is for others."""

logger = logging.getLogger("audit")


def rebuild_part(*, token: str, turn: int, skip_broken: bool, queue: str | None) -> None:
    """Load a part of a rebuild that is under way, and send for the next one.

    ``turn``: of those that were sent together; when others are sent, these are not to go on.
    """
    beside = Beside(conf.get("DATABASE"))
    try:
        if beside.turn(token) != turn:
            return
        rebuild = Rebuild.under_way(token, skip_broken=skip_broken)
        if rebuild is None or not rebuild.work(most=1):
            return
    except RebuildOver:
        return
    except LogUnavailable:
        raise
    except Exception as error:
        beside.report(token, str(error) if isinstance(error, AuditError) else describe(error))
        raise
    send(1, token=token, turn=turn, skip_broken=skip_broken, queue=queue)


if shared_task is not None:
    rebuild_part = shared_task(
        name=NAME,
        # A worker that stops has not taken it: another one gets it. Not so one that is killed,
        # which a part that takes too much memory may be the reason for.
        acks_late=True,
        ignore_result=True,
        autoretry_for=(LogUnavailable,),
        retry_backoff=True,
        max_retries=None,
        soft_time_limit=LIMIT,
        time_limit=LIMIT + 60,
    )(rebuild_part)


def send(count: int, *, token: str, turn: int, skip_broken: bool, queue: str | None) -> None:
    """Send so many tasks, to a queue or where the host's app routes them.

    Raises:
        RebuildRefused: Celery is not installed.
        AuditError: the broker does not take them.
    """
    if shared_task is None:
        raise RebuildRefused("--celery needs Celery, which is not installed here.")
    task: Any = rebuild_part
    about = {"token": token, "turn": turn, "skip_broken": skip_broken, "queue": queue}
    try:
        for _ in range(count):
            task.apply_async(kwargs=about, queue=queue)
    except Exception as error:
        raise AuditError(
            f"Tasks {NAME} cannot be sent: {describe(error)}. Is the broker there, and does "
            "manage.py load the project's Celery app? What is loaded stays: run the same again."
        ) from error


def load(rebuild: Rebuild, tasks: int, tell: Tell, *, queue: str | None = None) -> None:
    """Have all parts loaded by tasks, so many at once; waits until all is loaded.

    Raises:
        ProjectionBroken: a task could not go on, and said why.
        RebuildRefused: Celery is not installed.
        AuditError: the broker does not take the tasks, or nobody does them, however often they
            are sent.
    """
    known, sent_at, silences = -1, float("-inf"), 0
    while (done := rebuild.done()).parts_done < done.parts:
        tell(done)
        if why := rebuild.reported():
            raise ProjectionBroken(f"A task could not load its part: {why}")
        now = time.monotonic()
        if known >= 0 and done.parts_done != known:
            sent_at, silences = now, 0
        elif now - sent_at >= SILENT_FOR:
            if known >= 0:
                silences += 1
                _complain(queue, silences)
            send(
                min(tasks, done.parts - done.parts_done),
                token=rebuild.token,
                turn=rebuild.beside.next_turn(rebuild.token),
                skip_broken=rebuild.skip_broken,
                queue=queue,
            )
            sent_at = now
        known = done.parts_done
        time.sleep(LOOK_EVERY)
    tell(done)


def _complain(queue: str | None, silences: int) -> None:
    said = (
        f"No part of the rebuild was done for {SILENT_FOR:g} s. Is there a worker that takes the "
        f"tasks {NAME}" + (f" from queue {queue}?" if queue else "?")
    )
    if silences > SILENCES:
        raise AuditError(f"{said} What is loaded stays: run the same again, and it goes on there.")
    logger.warning("bamboo-audit: %s They are sent again.", said)
