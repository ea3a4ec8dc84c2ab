from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import words
from audit.exceptions import AuditError
from audit.projections import projector, registry


class Command(BaseCommand):
    help = "Catch the projections up with the log: apply every record that they do not have yet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--projection",
            action="append",
            default=[],
            metavar="NAME",
            help="only this one; may be given several times (default: all)",
        )
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *, projection: list[str], json: bool, **_: Any) -> None:
        try:
            found = projector.catch_up(registry.named(projection))
        except AuditError as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(_as_json(found))
        else:
            for each in found:
                self._say(each)
        if any(each.set_aside for each in found):
            sys.exit(1)

    def _say(self, found: projector.Progress) -> None:
        for position, error in found.set_aside.items():
            self.stderr.write(
                f"{found.name}: the record at position {position:,} was set aside "
                f"({words.plain(error)}). It is in the log, and in RecordSetAside; what was made "
                "before stays."
            )
        if found.position == found.start:
            said = f"nothing new, all is applied up to position {found.position:,}."
        else:
            said = (
                f"positions {found.start + 1:,} to {found.position:,} applied, of "
                f"{found.runs:,} runs."
            )
        self.stdout.write(f"{found.name}: {said}")


def _as_json(found: list[projector.Progress]) -> str:
    return json.dumps([asdict(each) for each in found])
