"""Tags: what a host calls a run by, such as its own number of the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audit.capture import hosts
from audit.capture.encode import Note
from audit.capture.text import describe
from audit.exceptions import SoftTimeLimit


def of_run(data: Any, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[Note]]:
    """The tags of a run (``RUN_TAGS``), and a note for each that could not be found out."""
    tags, notes = {}, []
    for name, where in wanted.items():
        try:
            value = _at(data, where) if isinstance(where, str) else hosts.ask(where, data)
        except SoftTimeLimit:
            raise
        except Exception as error:
            notes.append({"path": f"context.tags.{name}", "was": "unreadable"})
            notes[-1]["lost"] = describe(error)
        else:
            if value is not None:
                tags[name] = value
    return tags, notes


def _at(data: Any, path: str) -> Any:
    """The value at a dotted path of keys and list indexes; None where there is nothing."""
    for step in path.split("."):
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, Sequence) and not isinstance(data, str | bytes) and step.isdecimal():
            data = data[int(step)] if int(step) < len(data) else None
        else:
            return None
    return data
