"""The table of settings: what each key of ``BAMBOO_AUDIT`` is, its default, and what it may be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Final

ENABLED_VARIABLE: Final = "BAMBOO_AUDIT_ENABLED"
DELIVERIES: Final = ("spool", "inline", "off")
TREES: Final = ("full", "outline")

DEFAULT_REDACT: Final = (
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "api_key",
    "authorization",
    "credential",
    "private_key",
    "cookie",
    "passphrase",
    "access_key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One key of ``BAMBOO_AUDIT``: its default, its meaning, and what a value must be."""

    default: Any
    help: str
    accepts: Callable[[Any], bool]
    expects: str


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str | bytes | Mapping)
        and all(isinstance(name, str) and name for name in value)
    )


def _is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    )


def _is_seconds(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    )


def _is_sync_callable(value: Any) -> bool:
    return callable(value) and not iscoroutinefunction(value)


def _is_tags(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and name != ""
        and (_is_sync_callable(where) or (isinstance(where, str) and all(where.split("."))))
        for name, where in value.items()
    )


def _is_absolute(value: Any) -> bool:
    return isinstance(value, str | Path) and Path(value).is_absolute()


OPTIONS: Final[dict[str, Option]] = {
    "ENABLED": Option(
        default=True,
        help="Record events at all. The kill switch: may be a callable, and the environment "
        f"variable {ENABLED_VARIABLE} goes before it.",
        accepts=lambda value: _is_bool(value) or callable(value),
        expects="True, False or a callable without arguments",
    ),
    "DATABASE": Option(
        default="default",
        help="Alias of the PostgreSQL database that holds the log.",
        accepts=lambda value: isinstance(value, str) and value != "",
        expects="the alias of a database in DATABASES",
    ),
    "DELIVERY": Option(
        default="spool",
        help='How records reach the log: "spool" appends to a local file on the calling thread, '
        'and ships from there; "inline" inserts on the calling thread; "off" records nothing.',
        accepts=lambda value: isinstance(value, str) and value in DELIVERIES,
        expects=" or ".join(f'"{name}"' for name in DELIVERIES),
    ),
    "INLINE_TIMEOUT": Option(
        default=2.0,
        help="Seconds that an inline insert may hold up the engine's thread before it is given up.",
        accepts=_is_seconds(0.01, 60),
        expects="a number of seconds from 0.01 to 60",
    ),
    "SPOOL_DIR": Option(
        default=None,
        help="A local folder for the spool, which gets a folder of its own in it; None: "
        "$XDG_STATE_HOME, ~/.local/state, or /var/tmp.",
        accepts=lambda value: value is None or _is_absolute(value),
        expects="None or an absolute path",
    ),
    "SPOOL_MAX_BYTES": Option(
        default=1 << 30,
        help="The most that the spool may take on the disk; beyond it events are counted in a "
        "gap record, not kept.",
        accepts=_is_whole(16 << 20, 1 << 50),
        expects="a whole number of bytes, 16 MiB or more",
    ),
    "SPOOL_SYNC": Option(
        default=False,
        help="Have the disk confirm each record before the engine goes on: what was recorded "
        "survives a power loss. A killed process loses nothing either way.",
        accepts=_is_bool,
        expects="True or False",
    ),
    "FLUSH_INTERVAL": Option(
        default=0.5,
        help="The longest that a record waits in the spool, in seconds, while the log answers; "
        "where many wait they are shipped sooner.",
        accepts=_is_seconds(0.01, 60),
        expects="a number of seconds from 0.01 to 60",
    ),
    "SHIP_IN_BACKGROUND": Option(
        default=True,
        help="Ship from a thread of one of the host's own processes; False leaves it to "
        "manage.py audit_ship --follow.",
        accepts=_is_bool,
        expects="True or False",
    ),
    "CATCH_UP_IN_BACKGROUND": Option(
        default=True,
        help="Catch the projections up after each ship, in a thread of the process that ships, for "
        "a tenth of its time at most; False leaves it to manage.py audit_replay --follow.",
        accepts=_is_bool,
        expects="True or False",
    ),
    "RECORD_STATE_CHANGES": Option(
        default=True,
        help="Record the signal post_set_state beside pipeline_event.",
        accepts=_is_bool,
        expects="True or False",
    ),
    "EXCLUDE_EVENTS": Option(
        default=(),
        help="Event types that are not recorded.",
        accepts=_is_names,
        expects="a list of event types",
    ),
    "MAX_EVENT_BYTES": Option(
        default=4 << 20,
        help="Of an event whose JSON is larger, its ids, its first 64 KB, its length, a digest "
        "and the outline of its tree are kept.",
        accepts=_is_whole(16 << 10, 64 << 20),
        expects="a whole number of bytes from 16 KiB to 64 MiB",
    ),
    "TREES": Option(
        default="full",
        help='What is kept of the tree when a run is prepared: "full": all; "outline": ids, '
        "names, types, components and flows, without inputs, values and the run's data.",
        accepts=lambda value: isinstance(value, str) and value in TREES,
        expects=" or ".join(f'"{name}"' for name in TREES),
    ),
    "POLL_SAMPLING": Option(
        default=None,
        help="Seconds between two recorded polls (pre_schedule, post_schedule) of a node in one "
        "process; those between are counted. None: every poll is recorded.",
        accepts=lambda value: value is None or _is_seconds(0.1, 86_400)(value),
        expects="None or a number of seconds from 0.1 to 86,400",
    ),
    "ACTOR": Option(
        default=None,
        help="Who acts in a request, for AuditContextMiddleware: a callable that takes the request "
        "and answers a name, (actor, executor, source), or a dict of what audit.context takes. "
        "None: the name of the logged-in user.",
        accepts=lambda value: value is None or _is_sync_callable(value),
        expects="None or a callable that takes a request, no coroutine function",
    ),
    "REQUIRE_REASON": Option(
        default=(),
        help="Event types that are to have a reason: records of them without one are marked "
        "reason_missing, and counted by audit_status.",
        accepts=_is_names,
        expects="a list of event types",
    ),
    "RUN_TAGS": Option(
        default={},
        help="Tags of each run, by name: a path into the data of pre_prepare_run_pipeline, such as "
        '"root_pipeline_data.task_id", or a callable that takes that data.',
        accepts=_is_tags,
        expects="a dict of names to dotted paths or callables",
    ),
    "REDACT": Option(
        default=DEFAULT_REDACT,
        help="Values of keys that contain one of these, whatever the case, _, - and spaces, are "
        "replaced before anything is written. Your list replaces the default one.",
        # One of separators only would be a part of every name.
        accepts=lambda value: _is_names(value) and all(name.strip("_- ") for name in value),
        expects="a list of parts of key names",
    ),
    "PROJECTIONS": Option(
        default=(),
        help="Dotted paths of the host's own projections, classes derived from "
        "audit.projections.Projection.",
        accepts=_is_names,
        expects="a list of dotted paths",
    ),
    "PARTITION_SIZE": Option(
        default=10_000_000,
        help="Positions per partition of the log, for partitions made from now on.",
        accepts=_is_whole(1_000, 1_000_000_000),
        expects="a whole number from 1,000 to 1,000,000,000",
    ),
    "PARTITIONS_AHEAD": Option(
        default=2,
        help="Empty partitions to keep ready.",
        accepts=_is_whole(1, 100),
        expects="a whole number from 1 to 100",
    ),
}
