"""Two roles: an owner of the log, and the application's role that may only insert and read."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import connections, transaction

from audit.exceptions import AuditError
from audit.log import ddl, facts
from audit.log.errors import translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The statements that set the roles up, and what they do not cover."""

    sql: str
    warnings: list[str] = field(default_factory=list)


def script(using: str, *, owner: str, application: str) -> Script:
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
    role = facts.role(using, application)
    warnings = []
    if role is None:
        raise AuditError(
            f"There is no role {application!r} in database {using!r}. Create it first, for "
            f"example: CREATE ROLE {application} LOGIN PASSWORD '…'"
        )
    if role.superuser:
        warnings.append(
            f"{application} is a superuser: no grant binds it. Connect as another role."
        )
    return Script(sql=ddl.grants(using, owner=owner, application=application), warnings=warnings)


def apply(using: str, script_to_run: Script) -> None:
    """Run the script in one transaction.

    Raises:
        RecordRefused: the connection's role may not do that.
    """
    with (
        translated(using),
        transaction.atomic(using=using),
        connections[using].cursor() as cursor,
    ):
        cursor.execute(script_to_run.sql)
