"""Text that PostgreSQL and JSON take, out of objects that may fight back."""

from __future__ import annotations

import traceback
from typing import Any

from audit.exceptions import SoftTimeLimit


def describe(error: BaseException) -> str:
    """``Type: message`` of an exception, also of one whose ``str`` raises."""
    try:
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
