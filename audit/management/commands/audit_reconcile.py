from __future__ import annotations

import datetime
import json
import re
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from audit import reconcile, words
from audit.exceptions import AuditError

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Command(BaseCommand):
    help = "Compare the log with the engine's states; exits 1 where a difference is not explained."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="ID", help="of runs, subprocesses or nodes")
        parser.add_argument(
            "--since", default="7d", metavar="TIME", help="runs begun since: 30m, 12h, 7d (default)"
        )
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *, ids: list[str], since: str, json: bool, **_: Any) -> None:
        report = reconcile.Report()
        try:
            for done, count, so_far in reconcile.reconcile(ids, None if ids else _moment(since)):
                report = so_far
                if self.stderr.isatty():
                    self.stderr.write(f"\r{done:,} of {count:,} runs", str, ending="")
        except AuditError as error:
            raise CommandError(str(error)) from error
        if self.stderr.isatty():
            self.stderr.write("\r", str, ending="")
        self.stdout.write(_as_json(report) if json else _as_text(report))
        if report.unexplained:
            sys.exit(1)


def _moment(text: str) -> datetime.datetime:
    found = re.fullmatch(r"(\d{1,5})([mhdw])", text.strip())
    if not found:
        raise CommandError(f"--since {text}: write it as 30m, 12h, 7d or 2w.")
    return timezone.now() - datetime.timedelta(**{UNITS[found[2]]: int(found[1])})


def _as_text(report: reconcile.Report) -> str:
    lines = [
        f"{each.kind:<22}{words.plain(each.name or each.node_id)} "
        f"of run {words.plain(each.root_pipeline_id)}\n"
        f"{'':<22}{words.plain(each.text)}"
        + (f" (records {', '.join(map(str, each.records))})" if each.records else "")
        + ("" if each.explained else f"\n{'':<22}NOT EXPLAINED: see audit_timeline {each.node_id}")
        for each in report.differences
    ]
    lines.append(
        f"{report.runs:,} runs, {report.rows:,} rows of the engine compared: "
        f"{len(report.differences):,} differences, {len(report.unexplained):,} not explained."
    )
    return "\n".join(lines)


def _as_json(report: reconcile.Report) -> str:
    return json.dumps(
        {
            "runs": report.runs,
            "rows": report.rows,
            "unexplained": len(report.unexplained),
            "differences": [asdict(each) for each in report.differences],
        },
        indent=2,
    )
