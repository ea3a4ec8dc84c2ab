from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import words
from audit.exceptions import AuditError
from audit.projections import Projection, following, projector, registry
from audit.shipping.sidecar import Stop


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
        parser.add_argument(
            "--follow",
            action="store_true",
            help="go on until SIGTERM or Ctrl-C, within a second of the log",
        )
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *, projection: list[str], follow: bool, json: bool, **_: Any) -> None:
        try:
            projections = registry.named(projection)
            if follow:
                self._follow(projections, as_json=json)
                return
            found = projector.catch_up(projections)
        except AuditError as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(_as_json(found))
        else:
            for each in found:
                self._say(each)
        if any(each.set_aside for each in found):
            sys.exit(1)

    def _follow(self, projections: list[Projection], *, as_json: bool) -> None:
        stop = Stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop.set)
        names = ", ".join(each.name for each in projections)
        if not as_json:
            self.stdout.write(f"Keeping up until SIGTERM or Ctrl-C: {names}.")

        def tell(progress: projector.Progress) -> None:
            if as_json:
                self.stdout.write(_as_json([progress]))
            else:
                self._say(progress)
            self.stdout.flush()  # for who reads a pipe

        self.stdout.flush()
        following.follow(projections, stop, tell)

    def _say(self, found: projector.Progress) -> None:
        for each in found.set_aside:
            what = f"the record at position {each.position:,}"
            if each.whole_run:
                what = f"run {words.plain(each.root_pipeline_id)}"
            self.stderr.write(
                f"{found.name}: {what} was set aside ({words.plain(each.error)}). It is in the "
                "log, and told in RecordSetAside; what was made of it before stays."
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
