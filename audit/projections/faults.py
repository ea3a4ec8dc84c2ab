"""Whose fault is it: a record's, which can be left out, or nobody's who is in the log?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import (
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)
from django.db.transaction import TransactionManagementError

from audit.capture.text import describe
from audit.exceptions import AuditError, ProjectionBroken, SoftTimeLimit
from audit.log.errors import LIMIT_EXCEEDED, sqlstate

_NOBODYS: Final = (AuditError, SoftTimeLimit, OSError, MemoryError, NotImplementedError)
"""Another time, or with other code, the same records go through."""


class SwallowedError(Exception):
    """A database error was caught inside, and took back what was written: that would go unnoticed.

    Where one is to be expected put ``transaction.atomic()`` around that statement.
    """

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


def is_the_records(error: Exception) -> bool:
    """Whether a record is to blame for it."""
    if isinstance(error, TransactionManagementError):
        return True  # a statement after one that was caught
    if isinstance(error, Error):
        refused = isinstance(error, DataError | IntegrityError)
        return refused or (sqlstate(error) or "").startswith(LIMIT_EXCEEDED)
    return not isinstance(error, _NOBODYS)


@contextmanager
def whole(using: str) -> Iterator[None]:
    """Either all that is written inside is, or this raises and nothing is.

    Without it that would not hold where a host catches a database error: Django takes back the
    whole block then, and leaves it as if all were well. Deferred constraints are looked at now:
    at COMMIT nobody could tell whose fault it is.
    """
    with transaction.atomic(using=using):
        yield
        if transaction.get_rollback(using):
            raise SwallowedError
        connections[using].check_constraints()


@contextmanager
def broken(name: str, what: str) -> Iterator[None]:
    """What nobody's record is to blame for is told as the projection's, not as the log's.

    But for a database that is away, which is that of the log.
    """
    try:
        yield
    except (AuditError, SoftTimeLimit, OperationalError, InterfaceError):
        raise
    except Exception as error:
        hint = " Are its tables migrated?" if isinstance(error, ProgrammingError) else ""
        raise ProjectionBroken(
            f"Projection {name!r} stays where it is: {what}: {describe(error)}.{hint}"
        ) from error
