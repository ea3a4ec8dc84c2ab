from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection

from release import report, serving, story


class Command(BaseCommand):
    help = "Let eight pipelines run, show what was recorded of them, and serve the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="where to serve (8000)")
        parser.add_argument("--no-serve", action="store_true", help="end after showing")

    def handle(self, *, port: int, no_serve: bool, **_: Any) -> None:
        if not no_serve and (reason := serving.why_not(port)):
            raise CommandError(
                f"Port {port} cannot be used ({reason}).\n"
                f"Name another one, such as --port {port + 1}, or serve nothing: --no-serve."
            )
        postgres = settings.POSTGRES  # type: ignore[misc]  # of our own settings
        self.prepare(postgres.where)
        login = serving.make_login()
        self.show(self.run_all())
        if no_serve:
            return
        self.head("Where to look")
        self.tell(serving.directions(port, login, postgres))
        serving.serve(port)

    def prepare(self, where: str) -> None:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            raise CommandError(f"PostgreSQL, {where}, cannot be used: {error}") from None
        self.say(f"PostgreSQL is running: {where}.")
        self.say("Migrating (some seconds the first time) ...")
        call_command("migrate", verbosity=0, interactive=False)

    def run_all(self) -> list[story.Run]:
        self.say(f"Running {len(story.SCENES)} pipelines ...")
        # It is shipped right afterwards, to be shown.
        ours = settings.BAMBOO_AUDIT  # type: ignore[misc]  # of our own settings
        settings.BAMBOO_AUDIT = {**ours, "SHIP_IN_BACKGROUND": False}
        runs = list(story.tell())
        # The engine's thread has only appended to a spool. A thread beside it would have shipped
        # everything by and by; this shows it at once.
        call_command("audit_ship", stdout=StringIO())
        self.say("Everything is shipped from the spool to the log.")
        call_command("audit_replay", stdout=StringIO())
        self.say("The timelines and the shop's own projection are caught up with it.")
        return runs

    def show(self, runs: list[story.Run]) -> None:
        self.head("What was recorded")
        self.tell(report.table(runs))
        retried = next(run for run in runs if run.shows == story.RETRY)
        self.head(f"Every record of {retried.name}")
        self.tell(report.records(retried))
        self.head(f"manage.py audit_timeline {retried.id}")
        call_command("audit_timeline", retried.id, stdout=self.stdout)
        self.head("Plugins, by a projection of the shop's own")
        self.tell(report.plugins())
        self.head("The whole log")
        self.tell(report.totals())

    def head(self, text: str) -> None:
        self.say("\n" + self.style.MIGRATE_HEADING(text))

    def tell(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.say(line)

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()  # to be seen at once through a pipe as well
