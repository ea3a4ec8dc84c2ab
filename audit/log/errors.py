"""The one border where the database's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db.utils import (
    DataError,
    Error,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)

from audit.exceptions import LogUnavailable, RecordRefused

UNDEFINED_TABLE: Final = "42P01"


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code for an error that Django wrapped."""
    return getattr(error.__cause__, "sqlstate", None)


@contextmanager
def translated(using: str) -> Iterator[None]:
    """Turn what the database raises inside into ``LogUnavailable`` or ``RecordRefused``."""
    try:
        yield
    except (DataError, IntegrityError, NotSupportedError) as error:
        raise RecordRefused(f"The log in database {using!r} refused the record: {error}") from error
    except ProgrammingError as error:
        if sqlstate(error) == UNDEFINED_TABLE:
            raise LogUnavailable(
                f"Database {using!r} has no log yet. Run: manage.py migrate bamboo_audit "
                f"--database {using}"
            ) from error
        raise RecordRefused(f"The log in database {using!r} refused the record: {error}") from error
    except Error as error:
        raise LogUnavailable(f"The log in database {using!r} cannot be reached: {error}") from error
