"""Which runs a rebuild is of."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from audit.exceptions import RebuildRefused
from audit.log import runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which runs: these, those of which anything was recorded in a time, or all. Aware times."""

    pipelines: tuple[str, ...] = ()
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    """Exclusive."""

    @property
    def is_all(self) -> bool:
        return not self.pipelines and self.since is None and self.until is None

    def as_json(self) -> dict[str, Any]:
        """The same for the same selection."""
        times = (self.since, self.until)
        since, until = (None if each is None else each.isoformat() for each in times)
        return {"pipelines": sorted(self.pipelines), "since": since, "until": until}

    def roots(self, using: str) -> set[str] | None:
        """Their ids; None: all.

        Raises:
            RebuildRefused: nothing is known of one.
        """
        if self.is_all:
            return None
        found: set[str] | None = None
        if self.pipelines:
            found = {_root(using, each) for each in self.pipelines}
        if self.since is not None or self.until is not None:
            within = runs.between(using, self.since, self.until)
            found = within if found is None else found & within
        return found


def _root(using: str, any_id: str) -> str:
    root = runs.find_root(using, any_id)
    if root is None:
        raise RebuildRefused(
            f"The log has no record of {any_id!r}: give the id of a run, or of one of its nodes."
        )
    return root
