"""The settings: one dict ``BAMBOO_AUDIT``, looked up live.

Nothing else in this package reads ``django.conf.settings``. A wrong value never
stops the host: the default is used and ``manage.py check`` names the mistake.
"""

from __future__ import annotations

import copy
import difflib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

from django.conf import settings as django_settings

from audit.exceptions import SoftTimeLimit
from audit.options import ENABLED_VARIABLE, OPTIONS

logger = logging.getLogger("audit")

SETTING: Final = "BAMBOO_AUDIT"
_DEFAULTS: Final[Mapping[str, Any]] = {name: option.default for name, option in OPTIONS.items()}
LOOK_SECONDS = 1.0
"""How often it is looked whether the host's dict was changed in place, or the switch in the
environment: once a second, not once an event."""


class _Snapshot(NamedTuple):
    looked_at: float
    configured: Any
    """The host's own object, by whose identity the rest is known to hold."""
    members: Any
    """A copy of it, to notice what was changed in place."""
    switch: bool | None
    valid: Mapping[str, Any]


_UNSET: Final = object()
_told: Final[dict[str, Any]] = object.__getattribute__(django_settings, "__dict__")
"""Where Django keeps what settings were asked for before: to ask itself takes 0.4 us."""
_snapshot = _Snapshot(float("-inf"), _UNSET, None, None, _DEFAULTS)


def current() -> Mapping[str, Any]:
    """All settings as they are now: the host's where they are valid, else the defaults.

    Another dict in ``settings.BAMBOO_AUDIT`` holds at once, what is changed in it or in the
    environment within a second.
    """
    looked_at, configured, _, _, valid = _snapshot
    known = _told.get(SETTING, _UNSET)
    if known is configured and monotonic() - looked_at < LOOK_SECONDS:
        return valid
    return _look(getattr(django_settings, SETTING, None) if known is _UNSET else known)


def _look(configured: Any) -> Mapping[str, Any]:
    global _snapshot
    _, _, members, switch, valid = _snapshot
    says = _variable_says()
    if (
        valid is _DEFAULTS
        or says is not switch
        or type(configured) is not dict
        or (configured != members)
    ):
        valid, members = _look_through(configured)
        if says is not None:
            valid["ENABLED"] = says
    _snapshot = _Snapshot(monotonic(), configured, members, says, valid)
    return valid


def _look_through(configured: Any) -> tuple[dict[str, Any], Any]:
    """The valid settings, and a copy of what they are from."""
    valid, members = dict(_DEFAULTS), configured
    if isinstance(configured, Mapping):
        given = {name: configured[name] for name in OPTIONS if name in configured}
        valid |= {name: value for name, value in given.items() if OPTIONS[name].accepts(value)}
        members = {
            name: copy.copy(value) if isinstance(value, list | set | dict) else value
            for name, value in configured.items()
        }
    for name, value in valid.items():
        if isinstance(value, list | set | frozenset):
            valid[name] = tuple(value)
    return valid, members


def set_default() -> None:
    """Where the host set nothing, set that: Django answers much faster for what there is."""
    if not hasattr(django_settings, SETTING):
        setattr(django_settings, SETTING, {})


def get(name: str) -> Any:
    """The value of one key, as it is now: the host's if it is valid, else the default."""
    return current()[name]


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
_complained_at = float("-inf")
COMPLAIN_EVERY: Final = 60.0
"""Seconds between two log lines about a callable that raises: it is asked for every event."""


def under_test_runner() -> bool:
    """Whether a test suite runs in this process: then nothing happens behind its back.

    Told by Django's own test environment, which pytest-django sets up as well; a production
    process that merely imports pytest has neither.
    """
    utils = sys.modules.get("django.test.utils")
    if utils is not None and hasattr(utils._TestState, "saved_data"):
        return True
    return "_pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ


def enabled(settings: Mapping[str, Any] | None = None) -> bool:
    """Whether events are recorded now: the environment variable, else ``ENABLED``.

    ``BAMBOO_AUDIT_ENABLED`` is ``0``, ``false``, ``no`` or ``off``, or ``@/path/to/file``:
    then the file's text decides, so that one write switches running processes. A file that
    is missing or unreadable means on. Looked at once a second.
    """
    value = (settings or current())["ENABLED"]
    return value if value is True or value is False else _asked(value)


def _variable_says() -> bool | None:
    """What the environment says, None where it says nothing."""
    variable = os.environ.get(ENABLED_VARIABLE)
    if not variable:
        return None
    if variable[0] == "@":
        try:
            variable = Path(variable[1:]).read_text("utf-8", "replace")
        except OSError:
            return True
    return variable.strip().lower() not in _OFF_WORDS


def _asked(switch: Callable[[], Any]) -> bool:
    try:
        return bool(switch())
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
