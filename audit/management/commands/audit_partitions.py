from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import conf, partitions
from audit.exceptions import AuditError
from audit.log.facts import Partition


class Command(BaseCommand):
    help = "Make the log's partitions that are to be ahead, and list them all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="make none, only list")
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *, dry_run: bool, json: bool, **_: Any) -> None:
        using = conf.get("DATABASE")
        try:
            created = [] if dry_run else partitions.create_ahead(using)
            report = partitions.report(using)
        except AuditError as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(_as_json(report, created))
            return
        for partition in report.partitions:
            mark = " new" if partition.name in created else ""
            guard = "" if partition.guarded else self.style.ERROR(" NOT GUARDED")
            self.stdout.write(
                f"{partition.name}  {_bounds(partition)}  "
                f"{partition.bytes / 2**20:,.1f} MB{mark}{guard}"
            )
        self.stdout.write(
            f"Newest position {report.newest_position:,}; {report.ahead} empty ahead, "
            f"{len(created)} made now."
        )


def _bounds(partition: Partition) -> str:
    if partition.low is None or partition.high is None:
        return "other bounds than ours: detach it"
    return f"positions {partition.low:,} to {partition.high - 1:,}"


def _as_json(report: partitions.Report, created: list[str]) -> str:
    return json.dumps({**asdict(report), "created": created}, indent=2)
