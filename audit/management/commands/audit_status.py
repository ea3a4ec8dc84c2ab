from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from audit import status


class Command(BaseCommand):
    help = "Is the recorder well? Exits 1 when it is not."
    # It reports what is wrong; the checks would end it before it could.
    requires_system_checks = []  # noqa: RUF012 - Django's way

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *, json: bool, **_: Any) -> None:
        now = status.read()
        if json:
            self.stdout.write(_as_json(now))
        else:
            for label, value in _lines(now):
                self.stdout.write(f"{label:<13}{value}")
            for problem in now.problems:
                self.stdout.write(self.style.ERROR(f"{'problem':<13}{problem}"))
        if not now.healthy:
            sys.exit(1)


def _as_json(now: status.Status) -> str:
    return json.dumps(now.as_dict(), indent=2, default=str)


def _lines(now: status.Status) -> Iterator[tuple[str, str]]:
    yield "recording", f"{'on' if now.enabled else 'off'}, delivery {now.delivery}"
    yield "engine", "connected" if now.engine_connected else "none here: nothing is recorded"
    log, report, gaps, failed = now.log, now.partitions, now.gaps, now.failures
    if log is not None:
        major, minor = divmod(log.server_version, 10_000)
        yield "database", f"{now.database}: PostgreSQL {major}.{minor}, as role {log.role}"
    if log is not None and log.present:
        yield "guards", "UPDATE, DELETE and TRUNCATE are refused" if log.guarded else "OFF"
        also = f"; {log.role} may act as the owner" if log.may_change_guards else ""
        yield "owner", f"{log.owner}{also}"
        yield "newest", _newest(now)
    if report is not None:
        yield "partitions", f"{len(report.partitions)}, {report.ahead} of them empty and ahead"
    yield from _timelines(now)
    yield from _spool(now)
    if gaps is not None:
        more = f"; {gaps.unknown:,} cannot tell of how many" if gaps.unknown else ""
        yield (
            "gaps",
            f"{gaps.records:,} in the last 7 days, telling of {gaps.events:,} events{more}",
        )
    if now.without_reason is not None:
        yield "reasons", f"{now.without_reason:,} operations without a reason in the last 7 days"
    yield (
        "this process",
        f"{failed.total:,} events not recorded, {failed.pending:,} of them still to be told",
    )
    yield "healthy", "yes" if now.healthy else "no"


def _timelines(now: status.Status) -> Iterator[tuple[str, str]]:
    if now.checkpoints is None:
        return
    newest = now.newest.position if now.newest else 0
    for one in now.appending or ():
        since = f" since {one.since:%Y-%m-%d %H:%M:%S %Z}" if one.since else ""
        yield "appending", f"server process {one.pid}{since}"
    for each in now.checkpoints:
        behind = max(newest - each.position, 0)
        yield (
            each.name,
            f"up to position {each.position:,}, {behind:,} behind the newest; "
            f"applied at {each.updated_at:%Y-%m-%d %H:%M:%S %Z}"
            + (f"; {each.set_aside:,} records set aside" if each.set_aside else "")
            + (f"; server process {each.held_by} is at it" if each.held_by else ""),
        )
    if now.rebuild is not None:
        begun, done = now.rebuild
        yield (
            "rebuild",
            f"of {', '.join(begun.projections)}, begun {begun.started_at:%Y-%m-%d %H:%M:%S %Z}: "
            f"{done.records_done:,} of {done.records:,} records loaded",
        )
    if not now.checkpoints:
        yield "timelines", "never caught up. Run: manage.py audit_replay"


def _spool(now: status.Status) -> Iterator[tuple[str, str]]:
    writers, spool = now.writers, now.spool
    if writers is not None:
        yield (
            "writers",
            f"{writers.open:,} open, {writers.silent:,} of them silent, {writers.lost:,} lost; "
            f"{writers.missing:,} numbers without a record",
        )
    if spool is None:
        return
    yield "spool", f"{spool.path}: {spool.bytes:,} bytes, open segments: {spool.segments:,}"
    by = f"process {spool.shipper_pid}" if spool.shipper_pid else "nobody now"
    oldest = f", the oldest since {spool.oldest_at:%H:%M:%S %Z}" if spool.oldest_at else ""
    yield "shipping", f"by {by}; {spool.waiting:,} records wait{oldest}"
    for other in spool.others:
        yield "", f"also there, of another database or setting: {other}"


def _newest(now: status.Status) -> str:
    if now.newest is None:
        return "the log is empty"
    return (
        f"position {now.newest.position:,}: {now.newest.event_type} "
        f"at {now.newest.occurred_at:%Y-%m-%d %H:%M:%S %Z}"
    )
