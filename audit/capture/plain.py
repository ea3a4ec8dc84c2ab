"""The slow way to JSON: what JSON cannot hold is kept in a readable form, and named.

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
what is beyond the limits            ``[…5,000 more]``
===================================  ===========================================

Each change is answered as a note ``{"path": "$.a[0]", "was": "bytes"}``. Tuples, enum members,
UUIDs and subclasses of JSON's types go without one: what JSON makes of them is no surprise.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import orjson
from django.utils.functional import Promise

from audit.capture.text import clean_text, describe, exact, of_bytes, short_repr, type_name
from audit.exceptions import SoftTimeLimit

MAX_DEPTH: Final = 200  # orjson refuses more than 254
MAX_NOTES: Final = 50
MAX_PATH: Final = 300  # a path is made for every value: a long key would make that quadratic
MAX_SORTED: Final = 10_000  # members that have to be asked for their repr, at 4 us each

Note = dict[str, Any]

_CONTAINERS: Final = (Mapping, list, tuple, set, frozenset)
_AT_ONCE: Final = (dict.items, collections.OrderedDict.items)
"""These are copied without the interpreter running in between: no other thread interferes."""
_JSON_BEGINS: Final = ("{", "[", '"')


def _named_fields(value: Any) -> dict[str, Any] | None:
    """A namedtuple or dataclass by its names, which may tell that a field is a secret."""
    kind = type(value)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return dict(zip(kind._fields, value, strict=False))
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(kind)}
    return None


def _length(value: Any) -> int | None:
    """How many members, past whatever a subclass answers; None where that cannot be known."""
    for kind in (dict, list, tuple, set, frozenset):
        if issubclass(type(value), kind):
            return kind.__len__(value)
    return None


class Plain:
    """One pass that makes plain JSON values and remembers what it had to change.

    ``values`` and ``size`` (characters of text) are what it may write; past them it only marks
    what there is more of.
    """

    def __init__(self, values: int, size: int) -> None:
        self.values = values
        self.size = size
        self.whole = True
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
        self.values -= 1
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
            return self.spend(short_repr(value))

    def spend(self, text: str) -> str:
        self.size -= len(text)
        return text

    def is_full(self) -> bool:
        return self.values <= 0 or self.size <= 0

    def members_left_out(self, value: Any, index: int, path: str) -> str:
        length = _length(value)
        # A subclass may answer others than it has.
        return self.left_out(length - index if length and length > index else None, path)

    def left_out(self, number: int | None, path: str, what: str = "") -> str:
        """The mark of what is beyond the limits, and its note."""
        self.whole = False
        more = "more" if number is None else f"{number:,} more"
        self.note(path, f"{more}{what}")
        return f"[…{more}{what}]"

    def text(self, value: str, path: str) -> str:
        plain = exact(value)
        if len(plain) > self.size:
            return self.beginning(plain, path)
        clean = clean_text(plain)
        if clean != plain:
            self.note(path, "text with NUL or lone surrogates")
        return self.spend(clean)

    def beginning(self, text: str, path: str) -> str:
        kept = max(self.size, 0)
        # Half a JSON text cannot be taken apart any more: a secret in it would not be found.
        if text[:1_000].lstrip()[:1] in ("", *_JSON_BEGINS):
            kept = 0
        self.size = 0
        mark = self.left_out(len(text) - kept, path, " characters")
        return clean_text(text[:kept]) + mark

    def integer(self, value: int, path: str) -> int | str:
        value = int.__int__(value if issubclass(type(value), int) else int(value))
        if -(2**63) <= value < 2**64:
            return value
        bits = value.bit_length()
        if bits > self.size:
            return self.left_out(bits, path, " bits")
        self.note(path, "int")
        # Python refuses to spell an int of more than 4,300 digits in decimal.
        return self.spend(str(value) if bits < 13_000 else hex(value))

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
            items: Iterable[Any] = value
            if isinstance(value, set | frozenset):
                items = self.sorted(value, path)
            plain: list[Any] = []
            for index, item in enumerate(items):
                if self.is_full():
                    plain.append(self.members_left_out(value, index, path))
                    break
                plain.append(self.value(item, f"{path}[{index}]"[: MAX_PATH + 1], depth + 1))
            return plain
        finally:
            self.inside.discard(id(value))

    def mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        twins: Counter[str] = Counter()
        pairs: Iterable[tuple[Any, Any]] = value.items()
        if getattr(type(value), "items", None) in _AT_ONCE:
            pairs = list(islice(pairs, max(self.values, 0) + 1))
        for index, (key, item) in enumerate(pairs):
            if self.is_full():
                name = self.free("…", plain, twins)
                plain[name] = self.members_left_out(value, index, path)
                break
            name = self.key(key, path)
            if name in plain:
                name = self.free(name, plain, twins)
                self.note(f"{path}.{name}", "key that is there twice")
            plain[name] = self.value(item, f"{path}.{name}"[: MAX_PATH + 1], depth + 1)
        return plain

    @staticmethod
    def free(first: str, plain: dict[str, Any], twins: Counter[str]) -> str:
        name = first
        while name in plain:
            twins[first] += 1
            name = f"{first}~{twins[first] + 1}"
        return name

    def sorted(self, value: Any, path: str) -> list[Any]:
        self.note(path, "set")
        items = list(islice(value, max(self.values, 0) + 1))
        try:
            items.sort()
        except SoftTimeLimit:
            raise
        except Exception:
            if len(items) <= MAX_SORTED:
                items.sort(key=lambda item: (type_name(item), short_repr(item)))
        return items

    def key(self, key: Any, path: str) -> str:
        if issubclass(type(key), str) and not isinstance(key, enum.Enum):
            return self.text(key, path)
        self.note(path, f"key of type {type_name(key)}")
        if issubclass(type(key), tuple | frozenset):
            return self.spend(short_repr(key))
        # A pass of its own: the note above says all about it.
        inner = Plain(self.values, self.size)
        plain = inner.value(key, path, 0)
        self.values, self.size = inner.values, inner.size
        self.whole = self.whole and inner.whole
        return plain if isinstance(plain, str) else orjson.dumps(plain).decode()

    def scalar(self, value: Any, path: str) -> str:
        if not isinstance(value, uuid.UUID):
            self.note(path, type_name(value))
        text = None
        try:
            match value:
                case bytes() | bytearray() | memoryview():
                    return self.binary(memoryview(value), path)
                case datetime.datetime() | datetime.date() | datetime.time():
                    text = clean_text(value.isoformat())
                case decimal.Decimal() | uuid.UUID() | os.PathLike() | Promise():
                    text = exact(str(value))
                case BaseException():
                    text = describe(value)
        except SoftTimeLimit:
            raise
        except Exception:  # an object that fights back
            text = None
        if text is None:
            text = short_repr(value)
        if len(text) > self.size:
            return self.beginning(text, path)
        return self.spend(clean_text(text))

    def binary(self, value: memoryview, path: str) -> str:
        if value.nbytes > self.size:
            self.size = 0
            return self.left_out(value.nbytes, path, " bytes")
        return self.spend(clean_text(of_bytes(value.tobytes())))
