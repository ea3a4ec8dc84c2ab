"""Is the recorder well? What this process and the log's database know about it."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass
from typing import Any

from audit import conf, partitions, receivers
from audit.capture import failures
from audit.exceptions import AuditError
from audit.log import facts, rebuilds, settled
from audit.shipping import report
from audit.shipping.caretaker import SILENCE

GAPS_SINCE = datetime.timedelta(days=7)
REASONS_SINCE = datetime.timedelta(days=7)
GAPS_ALARM = datetime.timedelta(days=1)
"""A gap makes the recorder unhealthy for so long; it is shown for longer."""
WAITING_ALARM = datetime.timedelta(minutes=1)
"""Records that wait for so long in the spool make it unhealthy."""
APPENDING_ALARM = datetime.timedelta(seconds=30)
"""An append takes some milliseconds; inline it takes as long as the host's own transaction."""
HELD_ALARM = datetime.timedelta(minutes=10)
"""A batch takes less than a second, the merge of a rebuild some."""
NEARLY_FULL = 0.8


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
    writers: facts.Writers | None
    appending: list[settled.Appender] | None
    """Who appends just now; the projections wait for them."""
    checkpoints: list[facts.Checkpoint] | None
    """The projections; None without a log."""
    rebuild: tuple[rebuilds.UnderWay, rebuilds.Done] | None
    """The rebuild that was begun and did not come to its end yet."""
    spool: report.Report | None
    without_reason: int | None
    """Records of ``REQUIRE_REASON`` types without one; None where no type requires one."""
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
    log = newest = found = gaps = writers = appending = checkpoints = rebuild = without_reason = (
        None
    )
    require_reason = conf.get("REQUIRE_REASON")
    try:
        log = facts.log_facts(alias)
        if log.present:
            newest = facts.newest(alias)
            found = partitions.report(alias)
            gaps = facts.gaps(alias, now - GAPS_SINCE)
            writers = facts.writers(alias, SILENCE)
            appending = list(settled.appending(alias).values())
            checkpoints = facts.checkpoints(alias)
            rebuild = rebuilds.Beside(alias).progress()
        if log.present and require_reason:
            since = now - REASONS_SINCE
            without_reason = facts.without_reason(alias, require_reason, since)
    except AuditError as error:
        problems.append(
            f"The log's database {alias!r} cannot be asked: {' '.join(str(error).split())} "
            "Start it, or correct DATABASES."
        )
    if conf.get("DELIVERY") == "off":
        problems.append('Nothing is recorded: BAMBOO_AUDIT["DELIVERY"] is "off".')
    elif not conf.enabled():
        problems.append("Nothing is recorded: the kill switch is off (ENABLED).")
    problems += _log_problems(alias, log, found)
    spool = report.read(alias) if conf.get("DELIVERY") == "spool" else None
    problems += _shipping_problems(writers, spool, now)
    problems += [
        f"An append in server process {each.pid} is under way since {each.since}: the projections "
        f"wait for it. End it: SELECT pg_terminate_backend({each.pid})."
        for each in appending or ()
        if each.since is not None and each.since < now - APPENDING_ALARM
    ]
    problems += [
        f"Server process {each.held_by} has been at projection {each.name!r} since "
        f"{each.held_since}: nobody else can catch it up. If it is stuck, end it: "
        f"SELECT pg_terminate_backend({each.held_by})."
        for each in checkpoints or ()
        if each.held_since is not None and each.held_since < now - HELD_ALARM
    ]
    problems += [
        f"Projection {each.name!r} has set {each.set_aside:,} records aside that it could not "
        "apply. See why: RecordSetAside.objects.all()."
        for each in checkpoints or ()
        if each.set_aside
    ]
    if gaps is not None and gaps.last_at is not None and gaps.last_at > now - GAPS_ALARM:
        problems.append(
            f"{_how_many(gaps)} events were not recorded in the last 7 days. "
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
        partitions=found,
        gaps=gaps,
        writers=writers,
        appending=appending,
        checkpoints=checkpoints,
        rebuild=rebuild,
        spool=spool,
        without_reason=without_reason,
        failures=counted,
        problems=problems,
    )


def _how_many(gaps: facts.Gaps) -> str:
    if not gaps.unknown:
        return f"{gaps.events:,}"
    return f"At least {gaps.events:,}" if gaps.events else "An unknown number of"


def _shipping_problems(
    writers: facts.Writers | None, spool: report.Report | None, now: datetime.datetime
) -> list[str]:
    found = []
    if writers is not None and writers.silent:
        found.append(
            f"{writers.silent:,} writers have not been seen for {SILENCE}, and did not close. "
            "Start their host again, or it will be told by a gap record."
        )
    if spool is None:
        return found
    if not spool.usable:
        found.append(f"{spool.why_not} Records are kept in memory, and lost with a process.")
    if spool.oldest_at is not None and now - spool.oldest_at > WAITING_ALARM:
        whose = f"process {spool.shipper_pid} ships" if spool.shipper_pid else "nobody ships"
        found.append(
            f"{spool.waiting:,} records wait in {spool.path}, the oldest since "
            f"{spool.oldest_at:%Y-%m-%d %H:%M:%S %Z}; {whose}. Run: manage.py audit_ship"
        )
    if spool.bytes > conf.get("SPOOL_MAX_BYTES") * NEARLY_FULL:
        found.append(
            f"The spool {spool.path} is nearly full: {spool.bytes:,} of "
            f"{conf.get('SPOOL_MAX_BYTES'):,} bytes (SPOOL_MAX_BYTES). Run: manage.py audit_ship"
        )
    found += [
        f"{other} holds records that nobody ships: its database is another than that of the "
        "present DATABASES, or has another address there. Run manage.py audit_ship with those it "
        "was made with; if it is of no use any more, remove it."
        for other in spool.left_behind
    ]
    if spool.unreadable:
        found.append(
            f"{spool.unreadable:,} segments could not be read: *.bad in {spool.path}. Keep them "
            "for whoever can, then remove them."
        )
    if spool.refused_bytes:
        found.append(
            f"The database refused payloads; they are in refused.jsonl in {spool.path}, and as "
            "text in the log. Look into them, then remove the file."
        )
    return found


def _log_problems(
    alias: str, log: facts.LogFacts | None, parts: partitions.Report | None
) -> list[str]:
    if log is None:
        return []
    if not log.present:
        return [
            f"Database {alias!r} has no log. Run: manage.py migrate bamboo_audit --database {alias}"
        ]
    found = []
    if parts is not None and parts.ahead < 1:
        found.append("No empty partition is ahead. Run: manage.py audit_partitions")
    if not log.guarded or (parts and not all(p.guarded for p in parts.partitions)):
        found.append(
            "The database no longer refuses changes of the log: its triggers are gone or off. "
            "manage.py check --database names them."
        )
    return found
