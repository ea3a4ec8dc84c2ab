"""Text that PostgreSQL and JSON take, out of objects that may fight back."""

from __future__ import annotations

import array
import base64
import collections
import traceback
from itertools import chain, islice
from typing import Any, Final

from audit.exceptions import SoftTimeLimit

MAX_REPR: Final = 1_000
_MAX_WALKED: Final = 100_000
_MAX_MESSAGE: Final = 4 << 20
_MAX_LEVELS: Final = 1_000

_TEXTS: Final = (str, bytes, bytearray, array.array)
_WALKED: Final[tuple[type, ...]] = (
    *(list, tuple, set, frozenset, collections.deque, collections.UserList),
    *(type({}.keys()), type({}.values()), type({}.items())),
)


def describe(error: BaseException) -> str:
    """``Type: message`` of an exception, also of one whose ``str`` raises."""
    try:
        if is_long(error.args, _MAX_MESSAGE):
            return f"{type_name(error)}: [too long]"
        return "".join(traceback.format_exception_only(error)).strip()
    except SoftTimeLimit:
        raise
    except Exception:
        return type_name(error)


def type_name(value: Any) -> str:
    """The name of the value's type, whatever its metaclass answers."""
    return str(type.__dict__["__name__"].__get__(type(value)))


def clean_text(text: str) -> str:
    """``text`` without what PostgreSQL refuses in a string: NUL and lone surrogates."""
    text = exact(text)
    if "\0" in text:
        text = text.replace("\0", "␀")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode()
    return text


def exact(text: Any) -> str:
    """A plain ``str``: a subclass may override anything (``str()`` of an enum is its name)."""
    # What only claims to be one is a proxy, such as SimpleLazyObject.
    return str.__str__(text if issubclass(type(text), str) else str(text))


def short_repr(value: Any) -> str:
    """The ``repr()`` of any object, cut; only its type where that would ask a database."""
    try:
        if any(kind.__module__.startswith("django.db.") for kind in type(value).__mro__):
            # Its repr may ask the database, on the engine's connection, in its transaction.
            return f"<{type_name(value)}>"
        if is_long(value):
            return f"<{type_name(value)}, too long for a repr>"
        text = exact(repr(value))
    except SoftTimeLimit:
        raise
    except Exception as error:
        text = f"<{type_name(value)}, whose repr raised {type_name(error)}>"
    return clean_text(text if len(text) <= MAX_REPR else text[:MAX_REPR] + "…")


def is_long(value: Any, most: int = _MAX_WALKED) -> bool:
    """Whether the ``repr()`` of Python's own containers and texts would take long to make.

    What the objects of others answer cannot be known before they are asked.
    """
    left, level = most, [value]
    for _ in range(_MAX_LEVELS):
        inner: list[Any] = []
        for item in level:
            kind = type(item)  # what only claims to be one has a repr of its own
            if issubclass(kind, _TEXTS):
                left -= len(item)
            elif issubclass(kind, dict):
                inner.append(chain.from_iterable(dict.items(item)))
            elif issubclass(kind, _WALKED):
                inner.append(item)
        level = list(islice(chain.from_iterable(inner), max(left, 0) + 1))
        left -= len(level)
        if left < 0:
            return True
        if not level:
            return False
    return False


def of_bytes(value: bytes) -> str:
    """Bytes as text: as they are where they are UTF-8, else in base64."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode("ascii")
