"""Two roles: an owner of the log, and the application's role that may only insert and read."""

from __future__ import annotations

from django.db import connections, transaction

from audit.exceptions import AuditError
from audit.log import ddl, facts
from audit.log.errors import translated


def script(using: str, *, owner: str, application: str) -> str:
    """The SQL that makes ``owner`` own the log and leaves ``application`` insert and select.

    Raises:
        AuditError: the log is missing, or the two roles are one.
    """
    if owner == application:
        raise AuditError(
            f"Owner and application are both {owner!r}: whoever owns the log can take its "
            "guards away. Name two roles."
        )
    if not facts.log_facts(using).present:
        raise AuditError(
            f"Database {using!r} has no log. Run: manage.py migrate bamboo_audit --database {using}"
        )
    if facts.role_powers(using, application) is None:
        raise AuditError(
            f"There is no role {application!r} in database {using!r}. Create it first, for "
            f"example: CREATE ROLE {application} LOGIN PASSWORD '…'"
        )
    return ddl.grants(using, owner=owner, application=application)


def apply(using: str, statements: str) -> None:
    """Run the script in one transaction.

    Raises:
        RecordRefused: the connection's role may not do that.
    """
    with (
        translated(using),
        transaction.atomic(using=using),
        connections[using].cursor() as cursor,
    ):
        cursor.execute(statements)


def remaining_powers(using: str, application: str) -> list[str]:
    """What ``application`` may still do to the log, one sentence each; empty is as it should be."""
    return facts.role_powers(using, application) or []
