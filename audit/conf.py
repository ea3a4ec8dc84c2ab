"""The settings: one dict ``BAMBOO_AUDIT``, looked up live, defaults and types here.

Nothing else in this package reads ``django.conf.settings``. A wrong value never
stops the host: the default is used and ``manage.py check`` names the mistake.
"""

from __future__ import annotations

import difflib
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings as django_settings

from audit.exceptions import SoftTimeLimit

logger = logging.getLogger("audit")

SETTING: Final = "BAMBOO_AUDIT"
ENABLED_VARIABLE: Final = "BAMBOO_AUDIT_ENABLED"
DELIVERIES: Final = ("inline", "off")

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
        default="inline",
        help='How records reach the log: "inline" inserts on the calling thread; '
        '"off" records nothing.',
        accepts=lambda value: isinstance(value, str) and value in DELIVERIES,
        expects=" or ".join(f'"{name}"' for name in DELIVERIES),
    ),
    "INLINE_TIMEOUT": Option(
        default=2.0,
        help="Seconds that an inline insert may hold up the engine's thread before it is given up.",
        accepts=lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 0.01 <= value <= 60
        ),
        expects="a number of seconds from 0.01 to 60",
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
    "REDACT": Option(
        default=DEFAULT_REDACT,
        help="Values of keys that contain one of these, whatever the case, _, - and spaces, are "
        "replaced before anything is written. Your list replaces the default one.",
        # One of separators only would be a part of every name.
        accepts=lambda value: _is_names(value) and all(name.strip("_- ") for name in value),
        expects="a list of parts of key names",
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


def _configured() -> Mapping[str, Any]:
    configured = getattr(django_settings, SETTING, None)
    return configured if isinstance(configured, Mapping) else {}


def get(name: str) -> Any:
    """The value of one key, as it is now: the host's if it is valid, else the default."""
    option = OPTIONS[name]
    value = _configured().get(name, option.default)
    return value if value is option.default or option.accepts(value) else option.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing that is wrong in ``BAMBOO_AUDIT``, for ``manage.py check``."""

    kind: str
    message: str
    hint: str


def mistakes() -> list[Mistake]:
    """What is wrong in the host's ``BAMBOO_AUDIT``."""
    configured = getattr(django_settings, SETTING, None)
    if configured is None:
        return []
    if not isinstance(configured, Mapping):
        return [
            Mistake(
                kind="not_a_dict",
                message=f"{SETTING} is a {type(configured).__name__}, so all of it is ignored.",
                hint=f'Make it a dict, for example {SETTING} = {{"DATABASE": "audit"}}.',
            )
        ]
    found = []
    for name, value in configured.items():
        option = OPTIONS.get(name)
        if option is None:
            near = difflib.get_close_matches(str(name).upper(), OPTIONS, n=1)
            hint = f'Did you mean "{near[0]}"?' if near else f"Known keys: {', '.join(OPTIONS)}."
            found.append(
                Mistake(
                    kind="unknown_key",
                    message=f"{SETTING} has the unknown key {name!r}, which is ignored.",
                    hint=hint,
                )
            )
        elif not option.accepts(value):
            found.append(
                Mistake(
                    kind="wrong_value",
                    message=f"{SETTING}[{name!r}] is {value!r}, so its default is used: "
                    f"{option.default!r}.",
                    hint=f"It must be {option.expects}.",
                )
            )
    return found


_OFF_WORDS: Final = frozenset({"0", "false", "no", "off"})
_switch_file_seen: tuple[str, float, bool] = ("", 0.0, True)
_complained_at = float("-inf")
COMPLAIN_EVERY: Final = 60.0
"""Seconds between two log lines about a callable that raises: it is asked for every event."""
SWITCH_FILE_SECONDS: Final = 1.0
"""How long an answer from a switch file is believed: one ``open`` a second, not one an event."""


def enabled() -> bool:
    """Whether events are recorded now: the environment variable, else ``ENABLED``.

    ``BAMBOO_AUDIT_ENABLED`` is ``0``, ``false``, ``no`` or ``off``, or ``@/path/to/file``:
    then the file's text decides, read at most once a second, so that one write switches
    running processes. A file that is missing or unreadable means on.
    """
    variable = os.environ.get(ENABLED_VARIABLE)
    if variable:
        if variable[0] == "@":
            return _switch_file_says(variable[1:])
        return variable.strip().lower() not in _OFF_WORDS
    value = get("ENABLED")
    if not callable(value):
        return bool(value)
    try:
        return bool(value())
    except SoftTimeLimit:
        raise
    except Exception:
        # A broken switch must not lose records: they are on unless it says off.
        _complain()
        return True


def _complain() -> None:
    global _complained_at
    now = time.monotonic()
    if now - _complained_at >= COMPLAIN_EVERY:
        _complained_at = now
        logger.exception(
            "bamboo-audit: BAMBOO_AUDIT['ENABLED'] raised; recording goes on. Mend it."
        )


def _switch_file_says(path: str) -> bool:
    global _switch_file_seen
    seen_path, seen_at, answer = _switch_file_seen
    now = time.monotonic()
    if seen_path == path and now - seen_at < SWITCH_FILE_SECONDS:
        return answer
    try:
        answer = Path(path).read_text("utf-8", "replace").strip().lower() not in _OFF_WORDS
    except OSError:
        answer = True
    _switch_file_seen = (path, now, answer)
    return answer
