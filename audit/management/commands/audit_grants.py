from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import conf, grants
from audit.exceptions import AuditError


class Command(BaseCommand):
    help = "Print the SQL for an owner and an application role of the log, or run it (--apply)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", default="bamboo_audit_owner", help="made if it is missing")
        parser.add_argument("--application", required=True, help="the role that your hosts use")
        parser.add_argument("--apply", action="store_true", help="run it instead of printing it")

    def handle(self, *, owner: str, application: str, apply: bool, **_: Any) -> None:
        using = conf.get("DATABASE")
        try:
            statements = grants.script(using, owner=owner, application=application)
            if apply:
                grants.apply(using, statements)
            powers = grants.remaining_powers(using, application) if apply else []
        except AuditError as error:
            raise CommandError(str(error)) from error
        if not apply:
            self.stdout.write(statements)
            return
        if powers:
            raise CommandError(
                f"The grants were made, but the log is not safe from {application}, which\n  "
                + "\n  ".join(powers)
                + "\nTake that away, or connect your hosts as another role."
            )
        self.stdout.write(
            f"{owner} owns the log; {application} may insert and select. Migrate as a member "
            f'of {owner} from now on (OPTIONS: {{"assume_role": "{owner}"}}).'
        )
