from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import terminal, words
from audit.exceptions import AuditError, RebuildOver
from audit.management.moments import moment
from audit.projections import Projection, following, on_celery, projector, registry
from audit.projections.merging import Outcome, finish
from audit.projections.rebuild import Rebuild, Tell, outdated
from audit.projections.selection import Selection
from audit.projections.workers import load
from audit.shipping.sidecar import Stop

OF_REBUILD: dict[str, Any] = {
    "pipeline": [],
    "since": None,
    "until": None,
    "workers": 1,
    "celery": False,
    "queue": None,
    "dry_run": False,
    "skip_broken": False,
    "anew": False,
}
"""Options that nothing else takes, with what they are where nobody gives them."""


class Command(BaseCommand):
    help = "Catch the projections up with the log, or make them anew of all of it: --rebuild."

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
        rebuild = parser.add_argument_group("making them anew, while what is there serves")
        rebuild.add_argument(
            "--rebuild",
            action="store_true",
            help="fold all records again, and write the rows that differ",
        )
        rebuild.add_argument(
            "--pipeline",
            action="append",
            default=[],
            metavar="ID",
            help="only this run, named by an id of its own; may be given several times",
        )
        for option, help_text in (
            ("--since", "only runs of which something was recorded from then on"),
            ("--until", "only runs of which something was recorded before"),
        ):
            rebuild.add_argument(option, metavar="TIME", help=f"{help_text}: 2026-03-01T09:30:00")
        rebuild.add_argument(
            "--workers", type=int, default=1, metavar="N", help="processes (default: 1)"
        )
        rebuild.add_argument(
            "--celery",
            action="store_true",
            help="fold in tasks of this project's own Celery, --workers of them at once",
        )
        rebuild.add_argument("--queue", metavar="NAME", help="the queue of these tasks")
        rebuild.add_argument(
            "--dry-run", action="store_true", help="say how many rows differ, and write none"
        )
        rebuild.add_argument(
            "--skip-broken",
            action="store_true",
            help="set runs aside that a projection raises for, instead of stopping there",
        )
        rebuild.add_argument(
            "--anew", action="store_true", help="give up a rebuild that was interrupted"
        )

    def handle(self, *, projection: list[str], follow: bool, rebuild: bool, **options: Any) -> None:
        as_json = options["json"]
        try:
            if rebuild:
                if follow:
                    raise CommandError("--rebuild comes to its end: give it without --follow.")
                self._rebuild(projection, options)
                return
            for name, default in OF_REBUILD.items():
                if options[name] != default:
                    raise CommandError(f"--{name.replace('_', '-')} is for --rebuild: give both.")
            projections = registry.named(projection)
            left_out = self._upgrade(projections, as_json=as_json)
            if follow:
                self._follow(projections, as_json=as_json)
                return
            found = projector.catch_up(projections)
        except AuditError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError(
                "Interrupted. What serves is whole; the same command goes on where this was."
            ) from None
        if as_json:
            self.stdout.write(_as_json(found))
        else:
            for each in found:
                self._say(each)
        if left_out or any(each.set_aside for each in found):
            sys.exit(1)

    def _rebuild(self, names: list[str], options: dict[str, Any]) -> None:
        workers = options["workers"]
        if workers < 1:
            raise CommandError(f"--workers {workers}: at least 1.")
        selection = Selection(
            pipelines=tuple(options["pipeline"]),
            since=moment("--since", options["since"]),
            until=moment("--until", options["until"]),
        )
        projections = registry.chosen(names)
        rebuild = Rebuild(
            projections,
            selection,
            **{name: options[name] for name in ("dry_run", "skip_broken")},
        )
        rebuild.begin(anew=options["anew"])
        with self._progress(quiet=options["json"]) as tell:
            if options["celery"]:
                on_celery.load(rebuild, workers, tell, queue=options["queue"])
            else:
                load(rebuild, workers, tell)
        self._say_rebuilt(finish(rebuild), dry_run=options["dry_run"], as_json=options["json"])

    def _upgrade(self, projections: list[Projection], *, as_json: bool) -> int:
        """What an older version made is made anew, and serves until then.

        Answers how many runs and records were left out.
        """
        left_out = 0
        while old := outdated(projections):
            if not as_json:
                names = ", ".join(each.name for each in old)
                self.stdout.write(f"Of an older version, and made anew: {names}.")
                self.stdout.flush()
            rebuild = Rebuild(old, Selection(), skip_broken=True)
            with suppress(RebuildOver):  # another process does the same, and was quicker
                rebuild.begin()
                with self._progress(quiet=as_json) as tell:
                    load(rebuild, 1, tell)
                left_out += self._say_left_out(finish(rebuild))
        return left_out

    @contextmanager
    def _progress(self, *, quiet: bool) -> Iterator[Tell]:
        with closing(terminal.Progress(self.stderr, quiet=quiet)) as progress:  # type: ignore[arg-type]
            yield lambda done: progress.tell(done.records_done, done.records)

    def _say_rebuilt(self, outcome: Outcome, *, dry_run: bool, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(asdict(outcome)))
        else:
            of = "all runs" if outcome.runs is None else f"{outcome.runs:,} runs"
            self.stdout.write(
                f"{outcome.records:,} records of {of} folded, up to position {outcome.position:,}."
            )
            be = " would be" if dry_run else ""
            for each in outcome.tables:
                gone, fresh = f"{each.gone:,} rows", f"{each.fresh:,}"
                self.stdout.write(f"{each.table}: {gone}{be} taken away, {fresh}{be} written.")
        if self._say_left_out(outcome):
            sys.exit(1)

    def _say_left_out(self, outcome: Outcome) -> int:
        if outcome.left_out:
            self.stderr.write(
                f"{outcome.left_out:,} runs or records were set aside; what was made of them "
                "before stays. See why: RecordSetAside.objects.all()."
            )
        return outcome.left_out

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
