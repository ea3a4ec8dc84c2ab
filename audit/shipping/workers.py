"""Celery: the processes of a prefork pool end without ``atexit``, and tell of it by a signal."""

from __future__ import annotations

import logging
from typing import Any, Final

from audit.capture.text import describe
from audit.shipping.background import background

try:
    from celery import signals
except ImportError:  # no worker here
    signals = None

logger = logging.getLogger("audit")

UID: Final = "bamboo_audit.shipping"


def on_worker_process_shutdown(**_: Any) -> None:
    """Receiver of ``worker_process_shutdown``, in the child that is about to end."""
    try:
        background.stop()
    except Exception as error:
        logger.warning(
            "bamboo-audit: a worker ends without shipping, and leaves its records in the spool "
            "to the next process: %s",
            describe(error),
        )


def connect() -> None:
    """Connect to Celery, where there is one; again is harmless."""
    if signals is not None:
        signals.worker_process_shutdown.connect(on_worker_process_shutdown, dispatch_uid=UID)
