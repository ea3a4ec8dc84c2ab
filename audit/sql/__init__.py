"""SQL as files: each query has a name and a sentence that says what it does."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

FILES = ("queries.sql", "timelines.sql", "projections.sql", "rebuild.sql", "redelivery.sql")
"""The files of named queries: of the log, of what is read from it, of how far that is, of how
it is made anew, and of what is sent again."""
_HEADER = re.compile(r"^-- (?P<name>\w+) --$", re.MULTILINE)


def read(file_name: str) -> str:
    """The text of one SQL file of this package."""
    return (files(__name__) / file_name).read_text("utf-8")


@cache
def queries() -> dict[str, str]:
    """The named queries of all files, without their headers."""
    text = "\n".join(read(name) for name in FILES)
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    return {
        header["name"]: text[header.end() : end].strip()
        for header, end in zip(headers, ends, strict=True)
    }
