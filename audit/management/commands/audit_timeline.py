from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import conf, terminal, timeline, words
from audit.exceptions import AuditError
from audit.log.errors import translated
from audit.management.moments import HELP, moment
from audit.models import PipelineTimeline


class Command(BaseCommand):
    help = "One run: its nodes, attempts and interventions, what it waits for, and a verdict."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "any_id", nargs="?", metavar="ID", help="of a run, a subprocess or a node"
        )
        parser.add_argument("--tag", metavar="NAME=VALUE", help="find the run by a tag")
        parser.add_argument(
            "--at",
            metavar="TIME",
            help=f"as it stood then: {HELP}",
        )
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(
        self, *, any_id: str | None, tag: str | None, at: str | None, json: bool, **_: Any
    ) -> None:
        if any_id is not None and tag is not None:
            raise CommandError("Name a run by an id or by --tag, not by both.")
        try:
            if any_id is None:
                if tag is None:
                    raise CommandError(
                        "Name a run: its id, or that of a node of it, or --tag NAME=VALUE."
                    )
                with translated(conf.get("DATABASE")):
                    any_id = _tagged(tag)
            found = timeline.load(any_id, at=moment("--at", at))
        except AuditError as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(_as_json(found))
        else:
            terminal.show(found, self.stdout)  # type: ignore[arg-type]  # Django's wrapper


def _tagged(tag: str) -> str:
    name, equals, value = tag.partition("=")
    if not equals:
        raise CommandError(f"--tag {tag}: it is NAME=VALUE, such as --tag task_id=42.")
    if "\0" in tag or not tag.isprintable():
        raise CommandError("--tag: that is no text that a tag may have.")
    runs = PipelineTimeline.objects.tagged_as_text(name, value).newest_first()[:11]
    found = [(run.pk, run.name, run.state, run.first_at) for run in runs]
    if not found:
        raise CommandError(
            f"No run has the tag {tag}. Timelines know of tags once they are caught up: "
            "manage.py audit_replay"
        )
    if len(found) > 1:
        shown = "\n".join(
            f"  {words.plain(root)}  {words.moment(at)}  {words.plain(state)}  {words.plain(run)}"
            for root, run, state, at in found[:10]
        )
        raise CommandError(f"Several runs have the tag {tag}; name one of them:\n{shown}")
    return found[0][0]


def _as_json(found: timeline.Timeline) -> str:
    return json.dumps(found.as_dict(), indent=2)
