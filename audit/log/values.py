"""Values as PostgreSQL reads them, for rows that are written by the thousand.

Columns are put into words here, many rows at once, and not by the driver value by value.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from audit.fold.clock import as_time

NULL: Final = secrets.token_hex(8)
"""Stands for NULL among texts. No record can have it: it is another one in each process."""

_SECOND: Final = 1_000_000
_known: dict[int, str] = {}
"""Seconds as text: a run's times share most of theirs."""
_MOST_KNOWN: Final = 20_000
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def time_text(us: int | None) -> str:
    """A time, from microseconds since the epoch, UTC."""
    if us is None:
        return NULL
    second, rest = divmod(us, _SECOND)
    text = _known.get(second)
    if text is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        text = _known[second] = as_time(second * _SECOND).strftime("%Y-%m-%d %H:%M:%S").zfill(19)
    return f"{text}.{rest:06d}+00"


def interval_text(us: int) -> str:
    """A length of time, in microseconds."""
    return f"{us} microseconds"


def list_text(values: Iterable[str]) -> str:
    """A list of texts."""
    escaped = (value.replace("\\", r"\\").replace('"', r"\"") for value in values)
    return "{" + ",".join([f'"{value}"' for value in escaped]) + "}"


def as_object(columns: Sequence[str], row: Sequence[Any]) -> bytes:
    """A row as a JSON object.

    Raises:
        TypeError: JSON does not take a value.
    """
    values = [None if value == NULL else value for value in row]
    return orjson.dumps(dict(zip(columns, values, strict=True)))


def as_line(row: Sequence[Any]) -> str:
    """A row as a line of COPY that has ``NULL`` for its NULL; lists and mappings as JSON.

    Raises:
        TypeError: JSON does not take a value.
    """
    return "\t".join(map(_field, row)) + "\n"


def as_lines(rows: Sequence[Sequence[Any]]) -> str:
    """The same of many rows of one table without lists and mappings, a row and not a value at once.

    Only where a value needs to be escaped, which shows in all of them together, it is done value
    by value.
    """
    if not rows:
        return ""
    line = "\t".join(["%s"] * len(rows[0])) + "\n"
    text = "".join([line % row for row in rows])
    tabs = (len(rows[0]) - 1) * len(rows)
    if (
        text.count("\n") == len(rows)
        and text.count("\t") == tabs
        and "\\" not in text
        and "\r" not in text
    ):
        return text
    return "".join(map(as_line, rows))


def _field(value: Any) -> str:
    if isinstance(value, dict | list):
        value = orjson.dumps(value).decode()
    return str(value).translate(_ESCAPES)
