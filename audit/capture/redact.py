"""Secrets stay out: values of telling keys are replaced before anything is written.

Works on encoded JSON: one search over the text tells whether any pattern can occur at all, and
only then is it taken apart. Reaches into strings that are JSON themselves (the engine keeps
plugin inputs that way), and into values that say of themselves that they are a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

import orjson

REDACTED: Final = "[redacted]"
MAX_PATHS: Final = 50
MAX_PATH: Final = 300

_TYPE_KEYS: Final = ("custom_type", "type")
_NAME_KEYS: Final = ("name", "key")
_TYPED: Final = "password"
_JSON_BEGINS: Final = ("{", "[", '"')
_PLAIN_RUN: Final = re.compile(r"[a-z0-9_. -]+")


@lru_cache(maxsize=8)
def _needles(names: tuple[str, ...]) -> tuple[bytes, ...]:
    """What JSON text in small letters holds one of if any name can be a part of a key in it."""
    words = {*map(_bare, names), _TYPED}
    # JSON inside a JSON string may spell any letter as an escape, which is itself escaped there.
    needles = {rb"\\u00" if all(map(str.isascii, words)) else rb"\\u"}
    for word in words:
        if runs := _PLAIN_RUN.findall(word):
            # Quotes, backslashes and the like are spelled differently at each depth.
            needles.add(max(runs, key=len).encode())
        elif word.isascii() or word != word.upper():
            needles.add(b"")  # nothing that can be looked for: take every text apart
        else:
            needles.add(word.encode())
    return tuple(sorted(needles))


_quiet: dict[tuple[Any, ...], tuple[str, ...]] = {}
_MAX_QUIET: Final = 1_024
_MAX_QUIET_KEY: Final = 255


def tell_nothing(keys: tuple[Any, ...], names: tuple[str, ...]) -> bool:
    """Whether none of a flat object's keys can tell of a secret in it, or is odd or long itself.

    Remembered: the engine's payloads have few shapes.
    """
    if _quiet.get(keys) is names:
        return True
    redactor = _Redactor(tuple(map(_bare, names)))
    for key in keys:
        if type(key) is not str or len(key) > _MAX_QUIET_KEY:
            return False
        if key in _TYPE_KEYS or key in _NAME_KEYS or redactor.tells(key):
            return False
    if len(_quiet) >= _MAX_QUIET:
        _quiet.clear()
    _quiet[keys] = names
    return True


def redact(encoded: bytes, names: Collection[str]) -> tuple[bytes, list[str]]:
    """``encoded`` JSON with the secrets of telling keys replaced, and the paths of those.

    ``names`` are parts of key names, in any case.
    """
    wanted = tuple(names)
    small = encoded.lower().translate(None, b"-_ ")
    # Neither any() nor one regular expression: those take twice and twenty times as long.
    for needle in _needles(wanted):
        if needle in small:
            break
    else:
        return encoded, []
    redactor = _Redactor(tuple(map(_bare, wanted)))
    clean = redactor.value(orjson.loads(encoded), "$")
    if not redactor.paths:
        return encoded, []
    return orjson.dumps(clean), redactor.paths[:MAX_PATHS]


def _bare(name: str) -> str:
    """Without case and separators: api_key, apiKey, API-Key and "Api Key" are one name."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


class _Redactor:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.paths: list[str] = []

    def value(self, value: Any, path: str) -> Any:
        try:
            if isinstance(value, dict):
                return self.mapping(value, path)
            if isinstance(value, list):
                return self.sequence(value, path)
            if isinstance(value, str) and value.lstrip()[:1] in _JSON_BEGINS:
                return self.json_text(value, path)
        except RecursionError:  # too deep for the stack that is left: nobody can tell
            return self.hide(path)
        return value

    def sequence(self, value: list[Any], path: str) -> list[Any]:
        # Headers and the like, as pairs: [["Authorization", "…"], …].
        pairs = all(
            isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in value
        )
        clean = []
        for index, item in enumerate(value):
            here = f"{path}[{index}]"[: MAX_PATH + 1]
            if pairs and self.tells(item[0]):
                clean.append([item[0], self.secret(item[1], f"{here}[1]")])
            else:
                clean.append(self.value(item, here))
        return clean

    def mapping(self, value: dict[str, Any], path: str) -> dict[str, Any]:
        types = (value.get(key) for key in _TYPE_KEYS)
        typed = any(isinstance(name, str) and name.lower() == _TYPED for name in types)
        # Headers and the like, as objects: {"name": "Authorization", "value": "…"}.
        names = (value.get(key) for key in _NAME_KEYS)
        typed = typed or any(isinstance(name, str) and self.tells(name) for name in names)
        clean = {}
        for key, item in value.items():
            telling = (typed and key == "value") or self.tells(key)
            clean[key] = (self.secret if telling else self.value)(
                item, f"{path}.{key}"[: MAX_PATH + 1]
            )
        return clean

    def tells(self, key: str) -> bool:
        key = _bare(key)
        return any(name in key for name in self.names)

    def secret(self, value: Any, path: str) -> Any:
        # Nothing, true and false are no secrets, and readers want to tell them apart.
        if value is None or isinstance(value, bool) or value == "":
            return value
        return self.hide(path)

    def hide(self, path: str) -> str:
        self.paths.append(path if len(path) <= MAX_PATH else path[:MAX_PATH] + "…")
        return REDACTED

    def json_text(self, text: str, path: str) -> str:
        found = len(self.paths)
        try:
            # Not orjson: it takes no NaN, lone surrogate or raw line end, and rounds long integers.
            inner = json.loads(text, strict=False, object_pairs_hook=_with_twins)
        except json.JSONDecodeError:
            return text
        except ValueError:  # an integer that Python refuses to read
            return self.hide(path)
        clean = self.value(inner, path)
        if len(self.paths) == found:
            return text
        # A lone surrogate must stay an escape: the text goes into JSON once more.
        return json.dumps(clean, ensure_ascii="\\ud" in text.lower(), separators=(",", ":"))


def _with_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object with all its members, also where a key is there twice: one may be secret."""
    members = dict(pairs)
    if len(members) < len(pairs):
        members = {}
        for index, (key, value) in enumerate(pairs):
            while key in members:
                key = f"{key}~{index}"
            members[key] = value
    return members
