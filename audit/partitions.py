"""The partitions of the log: what is there, and making them ahead of need."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.db import connections

from audit import conf
from audit.exceptions import AuditError
from audit.log import append, facts
from audit.log.errors import translated

logger = logging.getLogger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The partitions of the log, and how many of them are empty and ready."""

    partitions: list[facts.Partition]
    newest_position: int
    ahead: int


def report(using: str) -> Report:
    """What partitions there are in database ``using``."""
    found = facts.partitions(using)
    newest = facts.newest_position(using)
    return Report(
        partitions=found,
        newest_position=newest,
        # Before the first record, position 1 counts as taken: its partition is in use.
        ahead=sum(part.low is not None and part.low > max(newest, 1) for part in found),
    )


def create_ahead(using: str) -> list[str]:
    """Make what is missing of ``PARTITIONS_AHEAD``; answers the names of the new ones.

    Raises:
        LogUnavailable: no connection, no log, or another session holds the lock.
    """
    with translated(using):
        return append.create_partitions(using)


def top_up_after_migrate(using: str) -> None:
    """Make partitions ahead in the log's database, where the log is there."""
    if using != conf.get("DATABASE") or connections[using].vendor != "postgresql":
        return
    if not facts.log_facts(using).present:
        return
    try:
        create_ahead(using)
    except AuditError as error:
        # The migration itself has succeeded, and the next record tops up as well.
        logger.warning("bamboo-audit: no partitions were made after migrate: %s", error)
