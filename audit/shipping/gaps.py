"""Tell what is missing, before the log moves past it."""

from __future__ import annotations

import datetime
import logging
import uuid
from typing import Any

from audit.capture import record, row
from audit.exceptions import SpoolUnusable
from audit.shipping.source import Hole
from audit.spool.writer import writer

logger = logging.getLogger("audit")


def tell(writer_id: uuid.UUID, hole: Hole, **about: Any) -> None:
    """Have a gap record say what is missing, before the log moves past it."""
    data: dict[str, Any] = {
        "count": None if hole.last is None else hole.last - hole.first + 1,
        "first_at": None,
        "last_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "reasons": {hole.why: 1},
        "writer_id": str(writer_id),
        "first_position": hole.first,
        "last_position": hole.last,
        **about,
    }
    try:
        writer.append(row.rest(record.of_gap(data)))
    except SpoolUnusable as error:
        logger.error("bamboo-audit could not record a gap (%s): %s", data, error)
