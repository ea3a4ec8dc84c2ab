"""System checks: what is wrong with the set-up, and what to do. They need no running engine."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Info
from django.core.checks import Warning as Caution
from django.db import connections, router

from audit import conf, engine, partitions, receivers
from audit.events import VOCABULARY
from audit.exceptions import AuditError, UnknownProjection
from audit.log import ddl, facts
from audit.projections import registry
from audit.routers import APP_LABEL

KINDS = {"not_a_dict": "E001", "unknown_key": "E002", "wrong_value": "E003"}


def check_configuration(
    app_configs: Sequence[AppConfig] | None = None, **_: Any
) -> list[CheckMessage]:
    """Everything that can be known without asking a database."""
    found: list[CheckMessage] = [
        Error(mistake.message, hint=mistake.hint, id=f"bamboo_audit.{KINDS[mistake.kind]}")
        for mistake in conf.mistakes()
    ]
    if conf.get("DELIVERY") == "off":
        return found
    found += [*_check_event_types(), *_check_projections()]
    return [*found, *_check_database(), *_check_engine()]


def _check_projections() -> list[CheckMessage]:
    try:
        registry.registered()
    except UnknownProjection as error:
        return [Error(str(error), hint="See docs/how-to/projections.md", id="bamboo_audit.E011")]
    return []


def _check_event_types() -> list[CheckMessage]:
    """A slip of the pen here would switch off a control, and say nothing."""
    found: list[CheckMessage] = []
    for key in ("EXCLUDE_EVENTS", "REQUIRE_REASON"):
        for name in conf.get(key):
            if name in VOCABULARY:
                continue
            near = difflib.get_close_matches(name, VOCABULARY, n=1)
            found.append(
                Caution(
                    f"BAMBOO_AUDIT[{key!r}] names the event type {name!r}, which is not known.",
                    hint=(f'Did you mean "{near[0]}"? ' if near else "")
                    + "docs/reference/events.md lists them. A newer engine's may be silenced: "
                    'SILENCED_SYSTEM_CHECKS = ["bamboo_audit.W016"].',
                    id="bamboo_audit.W016",
                )
            )
    return found


def _meanwhile() -> str:
    is_kept = conf.get("DELIVERY") == "spool"
    return "records wait in the spool until it is" if is_kept else "every event is lost"


def _check_database() -> list[CheckMessage]:
    alias = conf.get("DATABASE")
    if alias not in connections.databases:
        return [
            Error(
                f"BAMBOO_AUDIT['DATABASE'] is {alias!r}, which is not in DATABASES.",
                hint=f"Add it, or name one of: {', '.join(connections.databases)}.",
                id="bamboo_audit.E004",
            )
        ]
    vendor = connections[alias].vendor
    if vendor != "postgresql":
        return [
            Error(
                f"The log is to be in database {alias!r}, which is {vendor}; it needs PostgreSQL.",
                hint="Add a PostgreSQL database to DATABASES and name it in "
                "BAMBOO_AUDIT['DATABASE'] (the engine may stay where it is), or set "
                "BAMBOO_AUDIT['DELIVERY'] = \"off\" where there is none.",
                id="bamboo_audit.E005",
            )
        ]
    return _check_routers(alias)


def _check_routers(alias: str) -> list[CheckMessage]:
    # Looked up now: the checks are imported before the models are.
    ours = apps.get_model(APP_LABEL, "PipelineEventRecord")
    answers = {
        "reads": router.db_for_read(ours),
        "writes": router.db_for_write(ours),
    }
    hint = (
        'Put "audit.routers.AuditRouter" first in DATABASE_ROUTERS: Django takes the first '
        "answer, and another router answers for our models."
    )
    found: list[CheckMessage] = [
        Error(
            f"Django's routers send {what} of the log to database {answer!r}, "
            f"but BAMBOO_AUDIT['DATABASE'] is {alias!r}.",
            hint=hint,
            id="bamboo_audit.E006",
        )
        for what, answer in answers.items()
        if answer != alias
    ]
    wrong = [
        name
        for name in connections.databases
        if router.allow_migrate_model(name, ours) != (name == alias)
    ]
    if wrong and len(connections.databases) > 1:
        found.append(
            Error(
                f"Django's routers do not keep the log's migrations to database {alias!r} "
                f"(wrong for: {', '.join(wrong)}).",
                hint=hint,
                id="bamboo_audit.E007",
            )
        )
    others = (model for model in apps.get_models() if model._meta.app_label != APP_LABEL)
    if connections.databases[alias].get("AUTOCOMMIT", True) is False:
        found.append(
            Error(
                f"Database {alias!r} has AUTOCOMMIT = False: nobody would commit the log.",
                hint=f"Remove AUTOCOMMIT from DATABASES[{alias!r}].",
                id="bamboo_audit.E010",
            )
        )
    if alias != "default" and any(router.allow_migrate_model(alias, other) for other in others):
        found.append(
            Caution(
                f"Other apps may migrate into database {alias!r}, which is the log's.",
                hint=hint,
                id="bamboo_audit.W004",
            )
        )
    # Without an engine nothing is recorded here, and on its own connection the engine decides.
    shared = engine.database() in (None, alias)
    if not shared and "connect_timeout" not in _options(alias):
        found.append(
            Caution(
                f"Database {alias!r} has no connect_timeout: a host that does not answer would "
                "hold up the engine's thread for two minutes.",
                hint=f'Set DATABASES[{alias!r}]["OPTIONS"]["connect_timeout"] = 3 (seconds), and '
                '"tcp_user_timeout": 5000 (milliseconds) beside it.',
                id="bamboo_audit.W005",
            )
        )
    return found


def _options(alias: str) -> dict[str, Any]:
    options = connections.databases[alias].get("OPTIONS")
    return dict(options) if isinstance(options, dict) else {}


def _check_engine() -> list[CheckMessage]:
    signals = receivers.signals()
    if not signals:
        return [
            Info(
                "bamboo-pipeline is not installed in this process: it can show what is "
                "recorded, and records nothing.",
                hint='To record, install "bamboo-audit[engine]" where the engine runs.',
                id="bamboo_audit.I001",
            )
        ]
    if not apps.is_installed("pipeline.eri"):
        return [
            Caution(
                "bamboo-pipeline is installed, but pipeline.eri is not in INSTALLED_APPS: "
                "nothing will be recorded here.",
                hint='Add "pipeline", "pipeline.engine", "pipeline.component_framework" and '
                '"pipeline.eri" where the engine runs; ignore this where it does not.',
                id="bamboo_audit.W001",
            )
        ]
    found: list[CheckMessage] = []
    engine_settings = importlib.import_module("pipeline.conf.default_settings")
    if not engine_settings.ENABLE_PIPELINE_EVENT_SIGNALS:
        found.append(
            Error(
                "The engine's event signals are switched off: no event will ever be recorded.",
                hint="Set ENABLE_PIPELINE_EVENT_SIGNALS = True in the settings. The engine reads "
                "it once, when it is imported, so restart every process.",
                id="bamboo_audit.E008",
            )
        )
    for uid, signal in signals.items():
        name = uid.removeprefix("bamboo_audit.")
        order = [lookup_key[0] for (lookup_key, *_rest) in signal.receivers]
        if uid not in order:
            found.append(
                Error(
                    f"Our receiver of {name} is not connected.",
                    hint="Something disconnected it; remove that, or call "
                    "audit.receivers.connect().",
                    id="bamboo_audit.E009",
                )
            )
        elif order.index(uid) > 0:
            found.append(
                Caution(
                    f"{order.index(uid)} other receiver(s) of {name} are called before ours: "
                    "when one of them raises, the event is not recorded.",
                    hint='Move "audit" up in INSTALLED_APPS, before the apps that connect to it.',
                    id="bamboo_audit.W002",
                )
            )
    return found


def check_log(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **_: Any,
) -> list[CheckMessage]:
    """What only the log's database knows: run with ``manage.py check --database ALIAS``."""
    alias = conf.get("DATABASE")
    if (
        conf.get("DELIVERY") == "off"
        or alias not in (databases or ())
        or alias not in connections.databases
        or connections[alias].vendor != "postgresql"
    ):
        return []
    try:
        log = facts.log_facts(alias)
        report = partitions.report(alias) if log.present else None
    except AuditError as error:
        return [
            Caution(
                f"The log's database {alias!r} cannot be asked: {error}".strip(),
                hint="Start it, or correct its entry in DATABASES.",
                id="bamboo_audit.W010",
            )
        ]
    # Warnings, not errors: an error would stop the very migrate that mends it.
    if log.server_version < ddl.OLDEST_SERVER:
        return [
            Caution(
                f"Database {alias!r} is PostgreSQL {log.server_version // 10000}; the log needs "
                "14 or newer.",
                hint="Upgrade it, or point BAMBOO_AUDIT['DATABASE'] at another.",
                id="bamboo_audit.W011",
            )
        ]
    if report is None:
        return [
            Caution(
                f"The log is not in database {alias!r} yet: {_meanwhile()}.",
                hint=f"Run: manage.py migrate bamboo_audit --database {alias} (and before it "
                f"migrate bamboo_audit zero --database {alias}, where it was migrated while the "
                "log was to be elsewhere).",
                id="bamboo_audit.W012",
            )
        ]
    found: list[CheckMessage] = []
    if report.ahead < 1:
        found.append(
            Caution(
                f"No empty partition is ahead of position {report.newest_position:,}.",
                hint="Run manage.py audit_partitions, and let a daily job run it.",
                id="bamboo_audit.W013",
            )
        )
    foreign = [partition.name for partition in report.partitions if partition.low is None]
    if foreign:
        found.append(
            Caution(
                f"The log has a default partition, or one with an open end: {', '.join(foreign)}.",
                hint="Detach it: rows fall into it that belong elsewhere, and no partition can be "
                "made beside it.",
                id="bamboo_audit.W015",
            )
        )
    unguarded = [partition.name for partition in report.partitions if not partition.guarded]
    if not log.guarded or unguarded:
        found.append(
            Caution(
                "The database no longer refuses changes of "
                + (", ".join(unguarded) if log.guarded else "the log")
                + ": its triggers are gone or switched off.",
                hint="Find out who did that and what was changed meanwhile; then ALTER TABLE … "
                "ENABLE ALWAYS TRIGGER bamboo_audit_no_change (and bamboo_audit_no_truncate).",
                id="bamboo_audit.W014",
            )
        )
    return found
