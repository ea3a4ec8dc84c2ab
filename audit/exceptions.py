"""Everything that this package raises on purpose.

AuditError
├── AppendOnlyError
├── LogUnavailable
│   └── OutcomeUnknown
├── RecordRefused
├── NoPartition
├── FenceMoved
├── HeadUnsettled
├── NotRecorded
├── UnknownProjection
├── ProjectionBroken
├── RebuildRefused
├── RebuildOver
├── UnknownReceiver
├── ReceiverFailed
├── SpoolUnusable
│   └── SpoolFull
├── SpoolCorrupted
└── PostgresNotStarted
"""

from __future__ import annotations

from typing import Final


class AuditError(Exception):
    """Base of every error raised by bamboo-audit. Do not raise it directly."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class AppendOnlyError(AuditError):
    """Records are written by the receivers and never change: nothing here saves or deletes one."""


class LogUnavailable(AuditError):
    """The log's database cannot be reached or cannot answer now. Trying again later may work."""


class OutcomeUnknown(LogUnavailable):
    """The connection broke while COMMIT was under way: the record may or may not be in the log."""


class RecordRefused(AuditError):
    """The log's database refused a record. Trying again with the same record will not work."""


class NoPartition(AuditError):
    """The log has no partition for the next position. Run manage.py audit_partitions."""


class FenceMoved(AuditError):
    """The log has a writer's records up to another position than the shipper knew."""


class HeadUnsettled(AuditError):
    """An append is under way for so long that nobody knows what is still to come before it."""


class NotRecorded(AuditError):
    """The log has no record of that run or node."""


class UnknownProjection(AuditError):
    """There is no such projection. Those of the host are named in BAMBOO_AUDIT['PROJECTIONS']."""


class ProjectionBroken(AuditError):
    """A projection raises for too many records for that to be the records' fault."""


class RebuildRefused(AuditError):
    """Projections cannot be made anew as it was asked for. Nothing was changed."""


class RebuildOver(AuditError):
    """This rebuild was brought to its end, or given up, by another process. Ask audit_status."""


class UnknownReceiver(AuditError):
    """There is no such receiver, or nothing that can be called as one."""


class ReceiverFailed(AuditError):
    """A receiver raised for an event that was sent to it again. Correct it, and go on there."""


class SpoolUnusable(AuditError):
    """The spool's folder cannot be used. Set BAMBOO_AUDIT['SPOOL_DIR'] to a local folder."""


class SpoolFull(SpoolUnusable):
    """The spool holds as much as it may. Records are shipped from it as soon as the log answers."""


class SpoolCorrupted(AuditError):
    """A file of the spool is damaged, or none of ours."""


class PostgresNotStarted(AuditError):
    """No PostgreSQL server could be started. Install the extra ``postgres`` or set DATABASE_URL."""


try:
    from billiard.exceptions import SoftTimeLimitExceeded
except ImportError:  # no Celery in this process: nobody raises it

    class SoftTimeLimitExceeded(BaseException):  # type: ignore[no-redef]
        pass


SoftTimeLimit: Final[type[BaseException]] = SoftTimeLimitExceeded
"""Celery's soft time limit: an ordinary ``Exception``, but not ours to catch."""
