"""A redelivery is one process's at a time, as long as that process shows that it lives."""

from __future__ import annotations

import datetime
import secrets
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from django.db import connections

from audit.exceptions import AuditError
from audit.log import append, redeliveries
from audit.shipping.sidecar import Stop

LEASE: Final = 15.0
"""Seconds without a sign of life after which somebody else may go on."""
RENEW: Final = 5.0
"""Seconds at one event after which a sign of life is given."""
LOOK: Final = 0.25


class Hold:
    """Has a redelivery while the block lasts, and keeps how far it is.

    Nothing is locked and no transaction is open while a receiver works. A process that was killed
    keeps others waiting for a lease, no longer; one that stood still for so long finds that it
    has it no more, at the latest after the event that it was at.
    """

    def __init__(self, using: str, name: str, *, anew: bool = False, stop: Stop) -> None:
        self._using, self._name, self._anew, self._stop = using, name, anew, stop
        self._number = secrets.randbelow(2**31 - 1) + 1
        self._ended = threading.Event()
        self._shown_at = time.monotonic()
        self._beside: threading.Thread | None = None
        self.position = 0
        """Up to here all is delivered."""

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            AuditError: another process goes on with it, or it was ended while it waited to know.
            LogUnavailable: the log's database cannot be asked.
        """
        self.position = self._take()
        self._shown_at = time.monotonic()
        # In a transaction of the caller's the row is its own, and this thread would wait for it.
        if append.is_alone(self._using):
            self._beside = threading.Thread(target=self._live, name="audit-hold", daemon=True)
            self._beside.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._beside is not None:
            self._beside.join(RENEW)
        with suppress(AuditError):  # the lease ends by itself
            redeliveries.release(self._using, self._name, self._number)

    def move(self, position: int) -> None:
        """All up to this position is delivered.

        Raises:
            AuditError: somebody else has it by now.
            LogUnavailable: the log's database cannot be asked.
        """
        if not redeliveries.move(self._using, self._name, self._number, position):
            raise AuditError(
                f"Another process goes on with {self._name} since this one showed no life for "
                f"{LEASE:g} seconds; this one ends, and the event at position {position} may be "
                "delivered twice."
            )
        self.position = position
        self._shown_at = time.monotonic()

    def _take(self) -> int:
        lease, seen = datetime.timedelta(seconds=LEASE), None
        while not self._stop.is_set:
            position = redeliveries.take(
                self._using, self._name, self._number, lease, anew=self._anew
            )
            if position is not None:
                return position
            now = redeliveries.held(self._using, self._name)
            if now is None or not now.number:
                continue  # left, just now
            if seen not in (None, now):
                raise AuditError(
                    f"Another process goes on with {self._name} just now (it showed life at "
                    f"{now.seen_at:%Y-%m-%d %H:%M:%S %Z}). Wait until it has ended, or end it."
                )
            seen = now
            self._stop.wait(LOOK)
        raise AuditError(
            f"Ended before it began: it was not known yet whether another process goes on with "
            f"{self._name}."
        )

    def _live(self) -> None:
        """Give signs of life while the receiver is at one event for long, from another thread."""
        try:
            while not self._ended.wait(RENEW / 5):
                if time.monotonic() - self._shown_at < RENEW:
                    continue
                try:
                    redeliveries.renew(self._using, self._name, self._number)
                    self._shown_at = time.monotonic()
                except AuditError:  # tried again, on a new connection
                    connections[self._using].close()
        finally:
            connections[self._using].close()
