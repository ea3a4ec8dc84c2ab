"""Is the recorder well? What this process and the log's database know about it."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass
from typing import Any

from audit import conf, partitions, receivers
from audit.capture import failures
from audit.exceptions import AuditError
from audit.log import facts

GAPS_SINCE = datetime.timedelta(days=7)
GAPS_ALARM = datetime.timedelta(days=1)
"""A gap makes the recorder unhealthy for so long; it is shown for longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A snapshot. ``problems`` are what makes the recorder unhealthy, each with its remedy."""

    enabled: bool
    delivery: str
    database: str
    engine_connected: bool
    log: facts.LogFacts | None
    newest: facts.Newest | None
    partitions: partitions.Report | None
    gaps: facts.Gaps | None
    failures: failures.Summary
    problems: list[str]

    @property
    def healthy(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For scripts; times are aware datetimes."""
        return asdict(self) | {"healthy": self.healthy}


def read() -> Status:
    """Look once. Never raises for a database that is away: that is an answer."""
    alias = conf.get("DATABASE")
    problems: list[str] = []
    now = datetime.datetime.now(datetime.UTC)
    log = newest = report = gaps = None
    try:
        log = facts.log_facts(alias)
        if log.present:
            newest = facts.newest(alias)
            report = partitions.report(alias)
            gaps = facts.gaps(alias, now - GAPS_SINCE)
    except AuditError as error:
        problems.append(
            f"The log's database {alias!r} cannot be asked: {' '.join(str(error).split())} "
            "Start it, or correct DATABASES."
        )
    if conf.get("DELIVERY") == "off":
        problems.append('Nothing is recorded: BAMBOO_AUDIT["DELIVERY"] is "off".')
    elif not conf.enabled():
        problems.append("Nothing is recorded: the kill switch is off (ENABLED).")
    problems += _log_problems(alias, log, report)
    if gaps is not None and gaps.last_at is not None and gaps.last_at > now - GAPS_ALARM:
        problems.append(
            f"{gaps.events:,} events were not recorded in the last 7 days. "
            'See why: PipelineEventRecord.objects.of_type("gap").'
        )
    counted = failures.failures.summary()
    if counted.pending:
        problems.append(
            f"{counted.pending:,} events of this process are not recorded "
            f"(last error: {counted.last_error or 'none'})."
        )
    return Status(
        enabled=conf.enabled(),
        delivery=conf.get("DELIVERY"),
        database=alias,
        engine_connected=receivers.are_connected(),
        log=log,
        newest=newest,
        partitions=report,
        gaps=gaps,
        failures=counted,
        problems=problems,
    )


def _log_problems(
    alias: str, log: facts.LogFacts | None, report: partitions.Report | None
) -> list[str]:
    if log is None:
        return []
    if not log.present:
        return [
            f"Database {alias!r} has no log. Run: manage.py migrate bamboo_audit --database {alias}"
        ]
    found = []
    if report is not None and report.ahead < 1:
        found.append("No empty partition is ahead. Run: manage.py audit_partitions")
    if not log.guarded or (report and not all(p.guarded for p in report.partitions)):
        found.append(
            "The database no longer refuses changes of the log: its triggers are gone or off. "
            "manage.py check --database names them."
        )
    return found
