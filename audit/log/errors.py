"""The one border where the database's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connections
from django.db.utils import (
    DataError,
    Error,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)
from django.utils.connection import ConnectionDoesNotExist

from audit.exceptions import AuditError, LogUnavailable, RecordRefused

UNDEFINED: Final = ("42P01", "42883")  # no such table, no such function
LIMIT_EXCEEDED: Final = "54"  # a class: too deep, too long for an index, too large


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code for an error that Django wrapped."""
    return getattr(error.__cause__, "sqlstate", None)


@contextmanager
def translated(using: str) -> Iterator[None]:
    """Turn what the database raises inside into ``LogUnavailable`` or ``RecordRefused``."""
    try:
        yield
    except ConnectionDoesNotExist as error:
        raise LogUnavailable(
            f"The log in database {using!r} cannot be reached: DATABASES has no such entry."
        ) from error
    except Error as error:
        raise _ours(using, error) from error


def _ours(using: str, error: Error) -> AuditError:
    vendor = connections[using].vendor
    if vendor != "postgresql":
        return LogUnavailable(
            f"The log in database {using!r} cannot be reached: that is {vendor}, and the log needs "
            "PostgreSQL."
        )
    if isinstance(error, ProgrammingError) and sqlstate(error) in UNDEFINED:
        return LogUnavailable(
            f"Database {using!r} has no log yet. Run: manage.py migrate bamboo_audit "
            f"--database {using}"
        )
    refused = isinstance(error, DataError | IntegrityError | NotSupportedError | ProgrammingError)
    if refused or (sqlstate(error) or "").startswith(LIMIT_EXCEEDED):
        return RecordRefused(f"The log in database {using!r} refused the record: {error}")
    return LogUnavailable(f"The log in database {using!r} cannot be reached: {error}")
