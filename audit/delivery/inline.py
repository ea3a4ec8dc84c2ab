"""Delivery "inline": a record goes into the log on the calling thread, gaps before it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from audit import conf, engine
from audit.capture import record
from audit.capture.encode import Note
from audit.capture.failures import failures
from audit.capture.ids import Ids
from audit.capture.writer import Stamp, writer
from audit.exceptions import AuditError, LogUnavailable, OutcomeUnknown
from audit.log import append
from audit.log.errors import translated

logger = logging.getLogger("audit")

PAUSE_AFTER: Final = 0.05
"""A failure that took longer than this many seconds makes the log rest, ..."""
PAUSE_FACTOR: Final = 10.0
"""... this many times as long, so that a sick database takes a tenth of the engine's time, ..."""
PAUSE_MOST: Final = 30.0
"""... and no longer than this."""
TOP_UP_EVERY: Final = 65_536
"""Positions between two looks at whether partitions are ahead."""

# A signal handler, a __del__ or a log handler may send an event while its own thread is in the
# driver, whose lock is not reentrant: the second one would wait for the first for ever.
_inside: ContextVar[bool] = ContextVar("bamboo_audit_inside", default=False)


def deliver(
    event_type: str,
    data: Any,
    found: Ids,
    secrets: tuple[str, ...],
    sender: str | None,
    notes: Sequence[Note],
    own: Mapping[str, Any] | None,
    *,
    with_context: bool = True,
) -> bool:
    """Put one record into the log; count the event, and answer False, where that is not even tried.

    Raises:
        AuditError: the log did not take it. So does whatever else goes wrong.
    """
    if rest.is_on():
        failures.missed(event_type, "log resting")
        return False
    if _inside.get():
        failures.missed(event_type, "sent while another was being recorded")
        return False
    entered = _inside.set(True)
    try:
        # The number is drawn before anything can fail, so that a failure leaves a visible hole.
        stamp = writer.stamp()
        made = record.make(
            event_type, data, found, secrets, sender, notes, own=own, with_context=with_context
        )
        using = conf.get("DATABASE")
        if failures.pending and append.is_alone(using):
            _tell_gap()
        elif failures.pending:
            # Told inside a transaction, it would be gone with a rollback, and nobody would know.
            append.after_commit(using, _tell_gap_quietly)
        _append(made, stamp)
        return True
    finally:
        _inside.reset(entered)


def _tell_gap_quietly() -> None:
    with suppress(AuditError):  # kept for the time after
        _tell_gap()


def _tell_gap() -> None:
    """What was missed before goes into the log before what comes next.

    A gap whose telling was cut off in mid-COMMIT may be told twice: better than never.
    """
    gap = failures.take()
    if not gap.count:
        return  # another thread has told it
    stamp = writer.stamp()
    try:
        _append(record.of_gap(gap.as_data()), stamp)
    except BaseException as error:
        failures.give_back(gap)
        if isinstance(error, AuditError) and not isinstance(error, OutcomeUnknown):
            writer.give_back(stamp)  # nothing is, or will be, stored under that number
        raise


def _append(made: record.Record, stamp: Stamp) -> None:
    using, timeout = conf.get("DATABASE"), conf.get("INLINE_TIMEOUT")
    began = time.monotonic()
    try:
        position = _append_once_or_again(made, stamp, using, timeout)
    except LogUnavailable:
        rest.after(time.monotonic() - began)
        raise
    if position % TOP_UP_EVERY == 0:
        if append.is_alone(using):
            _top_up()
        else:
            append.after_commit(using, _top_up)


def _append_once_or_again(made: record.Record, stamp: Stamp, using: str, timeout: float) -> int:
    used = append.open_connection(using)
    try:
        return append.append(made, stamp, using=using, timeout=timeout)
    except OutcomeUnknown:
        raise
    except LogUnavailable:
        # The server was restarted under an idle connection. On the engine's own connection the
        # engine decides what follows; on ours one new connection is worth a try.
        shared = using == engine.database()
        if shared or used is None or not append.was_broken(using, used):
            raise
        return append.append(made, stamp, using=using, timeout=timeout)


def _top_up() -> None:
    """Make partitions ahead. A failure is none of the record's, which is stored."""
    using = conf.get("DATABASE")
    try:
        with translated(using):
            append.create_partitions(using)
    except AuditError as error:
        logger.warning(
            "bamboo-audit could not make partitions ahead: %s Run manage.py audit_partitions.",
            error,
        )


class _Rest:
    """Keeps a slow, failing log from taking the engine's time: rest ten times what it took."""

    def __init__(self) -> None:
        self.until = 0.0

    def is_on(self) -> bool:
        return time.monotonic() < self.until

    def after(self, seconds: float) -> None:
        if seconds >= PAUSE_AFTER:
            self.until = time.monotonic() + min(seconds * PAUSE_FACTOR, PAUSE_MOST)


rest: Final = _Rest()


def _after_fork() -> None:
    """A child that speaks on its parent's connection garbles both. The engine's is the host's."""
    with suppress(Exception):  # Django is not set up in every process that forks
        using = conf.get("DATABASE")
        if using != engine.database():
            append.leave_to_parent(using)


os.register_at_fork(after_in_child=_after_fork)
