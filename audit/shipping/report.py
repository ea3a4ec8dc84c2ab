"""What waits in this host's spool, for ``audit_status`` and ``audit_ship``."""

from __future__ import annotations

import datetime
import time
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.capture import row
from audit.exceptions import LogUnavailable, SpoolCorrupted, SpoolUnusable
from audit.log import ship
from audit.log.link import Link
from audit.shipping.election import SIDECAR, Election
from audit.shipping.quarantine import FILE
from audit.spool import folder
from audit.spool.reader import Reader

LEFT_AFTER: Final = 600.0
"""Seconds after which another folder's records count as left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One spool folder. Times are aware, in this host's clock."""

    path: str
    usable: bool
    why_not: str
    bytes: int
    segments: int
    waiting: int
    """Records that are not in the log yet."""
    oldest_at: datetime.datetime | None
    """When the oldest of them occurred."""
    shipper_pid: int | None
    refused_bytes: int
    """Size of the file with the payloads that the database refused."""
    unreadable: int
    """Segments that could not be read, and were set aside."""
    others: list[str]
    """Spool folders beside it that hold segments, of other databases or of an earlier setting."""
    left_behind: list[str]
    """Those of them that dead processes left, long ago, and that nobody ships now."""


def read(using: str) -> Report:
    """Look into the spool; the log is asked how far it has the records, where it answers."""
    path = folder.place()
    found = [each for each in folder.segments(path) if not each.shipped]
    try:
        folder.ready(path)
        why_not = ""
    except SpoolUnusable as error:
        why_not = str(error)
    waiting, oldest = _waiting(using, found)
    shipper = Election(path, SIDECAR).holder() or Election(path).holder()
    refused = path / FILE
    others = _neighbours(path)
    return Report(
        path=str(path),
        usable=not why_not,
        why_not=why_not,
        bytes=sum(each.size for each in folder.segments(path)),
        segments=len(found),
        waiting=waiting,
        oldest_at=oldest,
        shipper_pid=shipper,
        refused_bytes=refused.stat().st_size if refused.exists() else 0,
        unreadable=len(list(path.glob("*.bad"))) if path.is_dir() else 0,
        others=sorted(map(str, others)),
        left_behind=sorted(str(other) for other in others if _is_left_behind(other)),
    )


def _neighbours(path: Path) -> list[Path]:
    prefix = path.name.rpartition("-")[0]
    return [
        other
        for other in path.parent.glob(f"{prefix}-*")
        if other != path and any(not each.shipped for each in folder.segments(other))
    ]


def _is_left_behind(path: Path) -> bool:
    """Not where another project runs, also one that ships by a command now and then."""
    if Election(path, SIDECAR).is_held() or Election(path).is_held():
        return False
    before = time.time() - LEFT_AFTER
    return any(
        not each.shipped and each.changed_at < before and not _lives(each.path)
        for each in folder.segments(path)
    )


def _lives(path: Path) -> bool:
    try:
        with closing(Reader.of_file(path)) as reader:
            return reader.writer_lives()
    except (OSError, SpoolCorrupted):
        return False


def _waiting(using: str, found: list[folder.Found]) -> tuple[int, datetime.datetime | None]:
    """How many records are not in the log, and when the oldest of them occurred."""
    link = Link(using)
    places: dict[uuid.UUID, ship.Place] = {}
    with suppress(LogUnavailable):
        places = ship.positions(link, {each.writer_id for each in found})
    link.close()
    count, oldest = 0, None
    for each in found:
        try:
            reader = Reader.of_file(each.path)
        except (OSError, SpoolCorrupted):
            continue
        place = places.get(each.writer_id)
        position = place.position if place is not None else 0
        while chunk := reader.read(4_096, 8 << 20):
            new = chunk.after(position)
            if new is None:
                continue
            count += len(new.lengths)
            at = datetime.datetime.fromtimestamp(row.occurred_us(new.data) / 1e6, datetime.UTC)
            oldest = at if oldest is None else min(oldest, at)
        reader.close()
    return count, oldest
