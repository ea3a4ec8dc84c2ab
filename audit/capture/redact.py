"""Secrets stay out: values of telling keys are replaced before anything is written.

Works on encoded JSON: one search over the text tells whether any pattern occurs at all, and
only then is it taken apart. Reaches into strings that are JSON themselves (the engine keeps
plugin inputs that way), and into values that say of themselves that they are a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final

import orjson

REDACTED: Final = "[redacted]"
MAX_PATHS: Final = 50

_TYPE_KEYS: Final = ("custom_type", "type")
_TYPED: Final = "password"


@lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...]) -> re.Pattern[bytes]:
    words = sorted({*(name.lower() for name in names), _TYPED})
    # A word outside ASCII, or with a quote or backslash in it, stands escaped in JSON text:
    # look for it both ways.
    spellings = {word.encode() for word in words} | {orjson.dumps(word)[1:-1] for word in words}
    return re.compile(
        b"|".join(re.escape(spelling) for spelling in sorted(spellings)), re.IGNORECASE
    )


def redact(encoded: bytes, names: Collection[str]) -> tuple[bytes, list[str]]:
    """``encoded`` JSON with the secrets of telling keys replaced, and the paths of those.

    ``names`` are parts of key names, in any case.
    """
    wanted = tuple(names)
    if not _pattern(wanted).search(encoded):
        return encoded, []
    redactor = _Redactor(tuple(name.lower() for name in wanted))
    clean = redactor.value(orjson.loads(encoded), "$")
    if not redactor.paths:
        return encoded, []
    return orjson.dumps(clean), redactor.paths[:MAX_PATHS]


class _Redactor:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.paths: list[str] = []

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            typed = any(
                isinstance(value.get(key), str) and value[key].lower() == _TYPED
                for key in _TYPE_KEYS
            )
            return {
                key: self.secret(item, f"{path}.{key}")
                if (typed and key == "value") or self.tells(key)
                else self.value(item, f"{path}.{key}")
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.value(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, str) and value[:1] in ("{", "["):
            return self.json_text(value, path)
        return value

    def tells(self, key: str) -> bool:
        key = key.lower()
        return any(name in key for name in self.names)

    def secret(self, value: Any, path: str) -> Any:
        # Nothing, true and false are no secrets, and readers want to tell them apart.
        if value is None or isinstance(value, bool) or value == "":
            return value
        self.paths.append(path)
        return REDACTED

    def json_text(self, text: str, path: str) -> str:
        try:
            inner = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        found = len(self.paths)
        clean = self.value(inner, path)
        return orjson.dumps(clean).decode() if len(self.paths) > found else text
