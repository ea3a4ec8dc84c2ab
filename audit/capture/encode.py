"""Any Python object to JSON that jsonb accepts; what JSON cannot hold is kept and named.

orjson does the work. What it refuses, and what it or jsonb would change silently (NaN becomes
null, a NUL character aborts the insert), goes once more through ``_Plain``, which writes:

===================================  ===========================================
NUL character in a string            ``␀`` (U+2400)
lone surrogate in a string           ``\\udc80``, as text
NaN, infinities                      ``"NaN"``, ``"Infinity"``, ``"-Infinity"``
integer over 64 bit                  its digits as a string (hexadecimal past 4,000 digits)
set, frozenset                       a list, sorted where it can be
namedtuple, dataclass                an object with its fields
bytes                                text if UTF-8, else ``base64:…``
datetime, date, time                 ISO 8601
Decimal, path, lazy translation      its ``str()``
exception                            ``Type: message``
a key that is not a string           JSON's spelling, or its ``repr()``; ``~2`` where taken
a container inside itself            ``[cycle]``
anything deeper than 200 levels      ``[nested deeper than 200 levels]``
any other object                     its ``repr()``, cut at 1,000 characters
===================================  ===========================================

Each change is answered as a note ``{"path": "$.a[0]", "was": "bytes"}``. Tuples, enum members,
UUIDs and subclasses of JSON's types go without one: what JSON makes of them is no surprise.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import math
import os
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import orjson
from django.utils.functional import Promise

from audit.capture.text import clean_text, describe, exact, type_name
from audit.exceptions import SoftTimeLimit

MAX_DEPTH: Final = 200  # orjson refuses more than 254
MAX_NOTES: Final = 50
MAX_PATH: Final = 300  # a path is made for every value: a long key would make that quadratic
MAX_REPR: Final = 1_000

# Subclasses and datetimes are not left to orjson, which would change them without a word.
_OPTIONS: Final = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)

Note = dict[str, Any]

_CONTAINERS: Final = (Mapping, list, tuple, set, frozenset)


def encode(value: Any) -> tuple[bytes, list[Note]]:
    """``value`` as JSON text that jsonb accepts, and a note for each thing that was changed.

    Raises nothing but what the interpreter itself may (``MemoryError``): an object that
    fights back is recorded as a note without its content.
    """
    encoded = _faithfully(value)
    if encoded is not None:
        return encoded, []
    plain = _Plain()
    try:
        return orjson.dumps(plain.value(value, "$", 0)), plain.all_notes()
    except SoftTimeLimit:
        raise
    except Exception as error:  # not even ``_Plain`` could: no case of this is known
        return b"null", [{"path": "$", "was": type_name(value), "lost": describe(error)}]


def _faithfully(value: Any) -> bytes | None:
    """``value`` by orjson alone, or None where that fails or would change something."""
    try:
        encoded = orjson.dumps(value, option=_OPTIONS)
        if b"\\u0000" in encoded or (b"null" in encoded and _has_silent_null(value)):
            return None
    except SoftTimeLimit:
        raise
    except Exception:  # TypeError, RecursionError, or the object's own
        return None
    return encoded


def _has_silent_null(value: Any) -> bool:
    """Whether a NaN or infinity hides in what orjson accepted (it writes them as null)."""
    todo = [value]
    while todo:
        item = todo.pop()
        if type(item) is float:
            if not math.isfinite(item):
                return True
        elif type(item) is dict:
            todo.extend(item.values())
        elif type(item) is list or type(item) is tuple:
            todo.extend(item)
        elif isinstance(item, enum.Enum):
            todo.append(item.value)
    return False


def _named_fields(value: Any) -> dict[str, Any] | None:
    """A namedtuple or dataclass by its names, which may tell that a field is a secret."""
    kind = type(value)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, value, strict=False))
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(kind)}
    return None


class _Plain:
    """One pass that makes plain JSON values and remembers what it had to change."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.changed = 0
        self.inside: set[int] = set()

    def all_notes(self) -> list[Note]:
        if self.changed > len(self.notes):
            return [*self.notes, {"path": "…", "more": self.changed - len(self.notes)}]
        return self.notes

    def note(self, path: str, was: str) -> None:
        self.changed += 1
        if len(self.notes) < MAX_NOTES:
            short = path if len(path) <= MAX_PATH else path[:MAX_PATH] + "…"
            self.notes.append({"path": clean_text(short), "was": was})

    def value(self, value: Any, path: str, depth: int) -> Any:
        try:
            if value is None or value is True or value is False:
                return value
            # Before str and int: members may be those as well.
            if isinstance(value, enum.Enum):
                return self.value(value.value, path, depth + 1)
            if isinstance(value, str):
                return self.text(value, path)
            if isinstance(value, int):
                return self.integer(value, path)
            if isinstance(value, float):
                return self.floating(value, path)
            if isinstance(value, _CONTAINERS) or dataclasses.is_dataclass(type(value)):
                return self.container(value, path, depth)
            return self.scalar(value, path)
        except SoftTimeLimit:
            raise
        except Exception:  # an object that fights back, or too little stack left
            self.note(path, type_name(value))
            return self.repr(value)

    def text(self, value: str, path: str) -> str:
        plain = exact(value)
        clean = clean_text(plain)
        if clean != plain:
            self.note(path, "text with NUL or lone surrogates")
        return clean

    def integer(self, value: int, path: str) -> int | str:
        value = int.__int__(value if issubclass(type(value), int) else int(value))
        if -(2**63) <= value < 2**64:
            return value
        self.note(path, "int")
        # Python refuses to spell an int of more than 4,300 digits in decimal.
        return str(value) if value.bit_length() < 13_000 else hex(value)

    def floating(self, value: float, path: str) -> float | str:
        value = float.__float__(value if issubclass(type(value), float) else float(value))
        if math.isfinite(value):
            return value
        self.note(path, "float")
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    # Loops, not comprehensions: these frames are stacked 200 deep on the host's own.
    def container(self, value: Any, path: str, depth: int) -> Any:
        if id(value) in self.inside:
            self.note(path, "cycle")
            return "[cycle]"
        if depth >= MAX_DEPTH:
            self.note(path, type_name(value))
            return f"[nested deeper than {MAX_DEPTH} levels]"
        self.inside.add(id(value))
        try:
            fields = _named_fields(value)
            if fields is not None:
                self.note(path, type_name(value))
                return self.mapping(fields, path, depth)
            if isinstance(value, Mapping):
                return self.mapping(value, path, depth)
            items = self.sorted(value, path) if isinstance(value, set | frozenset) else list(value)
            for index, item in enumerate(items):
                items[index] = self.value(item, f"{path}[{index}]"[: MAX_PATH + 1], depth + 1)
            return items
        finally:
            self.inside.discard(id(value))

    def mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        twins: Counter[str] = Counter()
        for key, item in list(value.items()):
            name = self.key(key, path)
            if name in plain:
                first = name
                while name in plain:
                    twins[first] += 1
                    name = f"{first}~{twins[first] + 1}"
                self.note(f"{path}.{name}", "key that is there twice")
            plain[name] = self.value(item, f"{path}.{name}"[: MAX_PATH + 1], depth + 1)
        return plain

    def sorted(self, value: Any, path: str) -> list[Any]:
        self.note(path, "set")
        items = list(value)
        try:
            items.sort()
        except SoftTimeLimit:
            raise
        except Exception:
            items.sort(key=lambda item: (type_name(item), self.repr(item)))
        return items

    def key(self, key: Any, path: str) -> str:
        if issubclass(type(key), str) and not isinstance(key, enum.Enum):
            return self.text(key, path)
        self.note(path, f"key of type {type_name(key)}")
        if issubclass(type(key), tuple | frozenset):
            return self.repr(key)
        # A pass of its own: the note above says all about it.
        plain = _Plain().value(key, path, 0)
        return plain if isinstance(plain, str) else orjson.dumps(plain).decode()

    def scalar(self, value: Any, path: str) -> str:
        if not isinstance(value, uuid.UUID):
            self.note(path, type_name(value))
        try:
            match value:
                case bytes() | bytearray() | memoryview():
                    return self.binary(bytes(value))
                case datetime.datetime() | datetime.date() | datetime.time():
                    return clean_text(value.isoformat())
                case decimal.Decimal() | uuid.UUID() | os.PathLike() | Promise():
                    return clean_text(str(value))
                case BaseException():
                    return clean_text(describe(value))
        except SoftTimeLimit:
            raise
        except Exception:  # an object that fights back
            return self.repr(value)
        return self.repr(value)

    @staticmethod
    def binary(value: bytes) -> str:
        try:
            return clean_text(value.decode("utf-8"))
        except UnicodeDecodeError:
            return "base64:" + base64.b64encode(value).decode("ascii")

    @staticmethod
    def repr(value: Any) -> str:
        try:
            if any(kind.__module__.startswith("django.db.") for kind in type(value).__mro__):
                # Its repr may ask the database, on the engine's connection, in its transaction.
                return f"<{type_name(value)}>"
            text = exact(repr(value))
        except SoftTimeLimit:
            raise
        except Exception as error:
            text = f"<{type_name(value)}, whose repr raised {type_name(error)}>"
        return clean_text(text if len(text) <= MAX_REPR else text[:MAX_REPR] + "…")
