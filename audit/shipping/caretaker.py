"""Looks after the writers' books, and that partitions are ahead: what somebody has to do."""

from __future__ import annotations

import datetime
import logging
import time
from typing import Final

from audit.exceptions import AuditError
from audit.log import ship
from audit.log.link import Link
from audit.shipping import gaps
from audit.shipping.source import Hole

logger = logging.getLogger("audit")

LOOK_EVERY: Final = 60.0
"""Seconds between two looks at the writers of all hosts."""
SILENCE: Final = datetime.timedelta(minutes=10)
"""A writer whose shipper gave no sign of life for so long is lost, with its host or its disk."""


class Caretaker:
    """Any shipper does it for the writers of all: a pod that is gone with its disk has none."""

    def __init__(self, link: Link) -> None:
        self._link = link
        # After an outage of the database every writer has been silent: those who are alive get
        # as long to say so. A shipper that fails begins anew, and so does this.
        self._looked_at = time.monotonic() + SILENCE.total_seconds() - LOOK_EVERY

    def look(self) -> None:
        """Tell of lost writers, forget those that ended well long ago, and make partitions."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now

        def tell(lost: ship.Silent) -> None:
            gaps.tell(
                lost.writer_id,
                Hole(lost.position + 1, None, "the writer fell silent without closing"),
                host=lost.host,
                pid=lost.pid,
                kind=lost.kind,
                seen_at=lost.seen_at.isoformat(),
            )

        ship.lose_silent(self._link, SILENCE, tell)
        ship.prune(self._link)
        try:
            ship.create_partitions(self._link)
        except AuditError as error:
            # Not a reason to ship nothing: there is room in those that there are.
            logger.warning(
                "bamboo-audit could not make partitions ahead: %s Run manage.py audit_partitions.",
                error,
            )
