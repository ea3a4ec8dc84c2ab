from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import words
from audit.exceptions import AuditError
from audit.projections import timelines


class Command(BaseCommand):
    help = "Catch the timelines up with the log: apply every record that they do not have yet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *, json: bool, **_: Any) -> None:
        try:
            found = timelines.catch_up()
        except AuditError as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(_as_json(found))
        else:
            self._say(found)
        if found.failed:
            sys.exit(1)

    def _say(self, found: timelines.Progress) -> None:
        for root, error in found.failed.items():
            self.stderr.write(
                f"Run {words.plain(root)} cannot be folded ({words.plain(error)}): its rows stay "
                "as they were. Its records are in the log; please report the error with them."
            )
        if found.position == found.start:
            self.stdout.write(f"Nothing new: all is applied up to position {found.position:,}.")
            return
        self.stdout.write(
            f"Positions {found.start + 1:,} to {found.position:,} applied: "
            f"{found.runs:,} runs written."
        )


def _as_json(found: timelines.Progress) -> str:
    return json.dumps(asdict(found))
