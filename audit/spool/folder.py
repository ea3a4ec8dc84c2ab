"""The spool's folder: where it is, that it is ours alone, and how much is in it."""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.db import connections

from audit import conf
from audit.exceptions import SpoolFull, SpoolUnusable

SEGMENT: Final = ".seg"
SHIPPED: Final = ".done"
"""Suffix of a segment whose records are all in the log; kept a while, to be sent once more."""
DRAFT: Final = ".draft"
"""Suffix of a segment that is being made."""
DRAFT_SECONDS: Final = 60.0
"""Making one takes milliseconds; after so long its writer was killed."""

_NAME: Final = re.compile(
    r"(?P<writer>[0-9a-f]{32})-(?P<sequence>\d{6,})(?:\.seg|-(?P<last>\d+)\.done)"
)
KEEP_SHARE: Final = 4
"""Of ``SPOOL_MAX_BYTES``, one part in so many for shipped segments."""

_REMOTE: Final = ("nfs", "cifs", "smb", "9p", "ceph", "afs", "lustre", "fuse.", "gluster")
_COPIES: Final = ("btrfs", "zfs", "bcachefs")
"""File systems that write a block to another place: one that is allocated may not have one."""


class Found(NamedTuple):
    """One segment's file. ``last``: its last position, where it was shipped."""

    path: Path
    writer_id: uuid.UUID
    sequence: int
    last: int | None
    size: int
    changed_at: float

    @property
    def shipped(self) -> bool:
        return self.last is not None


def place() -> Path:
    """This process's spool folder: below ``SPOOL_DIR``, one for each user and log.

    Two projects on one host may have the same ``SPOOL_DIR``; their records go to two databases.
    """
    configured = conf.get("SPOOL_DIR")
    base = Path(configured) if configured else _default_base()
    log: dict[str, Any] = connections.databases.get(conf.get("DATABASE"), {})
    where = "\0".join(str(log.get(key, "")) for key in ("ENGINE", "HOST", "PORT", "NAME"))
    name = hashlib.sha256(where.encode(errors="replace")).hexdigest()[:12]
    return base / f"bamboo-audit-{os.geteuid()}-{name}"


def _default_base() -> Path:
    """A place that survives a restart of the machine, where there is one.

    In a test suite a place that goes with the process: no host ships what its tests recorded.
    """
    if conf.under_test_runner():
        return _for_tests()
    state = os.environ.get("XDG_STATE_HOME")
    if state and Path(state).is_absolute():
        return Path(state)
    home = Path.home() if os.environ.get("HOME") else None
    if home is not None and home != Path("/") and os.access(home, os.W_OK | os.X_OK):
        return home / ".local" / "state"
    lasting = Path("/var/tmp")  # noqa: S108 - checked below to be ours alone
    return lasting if os.access(lasting, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


@cache
def _for_tests() -> Path:
    base = Path(tempfile.mkdtemp(prefix="bamboo-audit-tests-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    return base


def ready(path: Path) -> bool:
    """Make the folder, and check that it is ours alone; answers whether files may be mapped.

    Raises:
        SpoolUnusable: it cannot be used, and why.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise SpoolUnusable(f"The spool folder {path} cannot be made: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode):
        raise SpoolUnusable(f"The spool folder {path} is a link or a file, and must be a folder.")
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SpoolUnusable(
            f"The spool folder {path} is open to others (owner {found.st_uid}, mode "
            f"{stat.S_IMODE(found.st_mode):o}). Remove it, or chmod 700 it and give it to the "
            f"user with id {os.geteuid()}."
        )
    kind = file_system(path)
    if kind.startswith(_REMOTE):
        raise SpoolUnusable(
            f"The spool folder {path} is on {kind}, where locks and mapped files cannot be "
            "relied on. Set BAMBOO_AUDIT['SPOOL_DIR'] to a local disk."
        )
    return hasattr(os, "posix_fallocate") and not kind.startswith(_COPIES)


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that ``path`` is on, "" where it cannot be known."""
    if sys.platform != "linux":
        return ""
    best, kind = -1, ""
    try:
        device = path.stat().st_dev
        for line in mounts.read_text("utf-8", "replace").splitlines():
            fields, _, of = line.partition(" - ")
            _, _, number, _, where, *_ = fields.split(" ")
            major, _, minor = number.partition(":")
            if os.makedev(int(major), int(minor)) == device and len(where) > best:
                best, kind = len(where), of.split(" ")[0]
        if best < 0:
            # Of a file in btrfs and the like, stat tells another device than the mount has.
            for line in mounts.read_text("utf-8", "replace").splitlines():
                fields, _, of = line.partition(" - ")
                where = fields.split(" ")[4]
                if path.is_relative_to(where) and len(where) > best:
                    best, kind = len(where), of.split(" ")[0]
    except (OSError, ValueError):
        return ""
    return kind


def name_of(writer_id: uuid.UUID, sequence: int, last: int | None = None) -> str:
    """The name of a segment's file; ``last`` is its last position, once it was shipped."""
    stem = f"{writer_id.hex}-{sequence:06d}"
    return f"{stem}{SEGMENT}" if last is None else f"{stem}-{last}{SHIPPED}"


def names(path: Path) -> frozenset[str]:
    """The names of whatever is in a folder."""
    try:
        return frozenset(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def newest(path: Path, writer_id: uuid.UUID) -> int:
    """The number of a writer's newest segment, shipped or not; 0 where there is none."""
    begin = f"{writer_id.hex}-"
    found = (_NAME.fullmatch(name) for name in names(path) if name.startswith(begin))
    return max((int(match["sequence"]) for match in found if match is not None), default=0)


def segments(path: Path) -> list[Found]:
    """The segments in a folder, oldest first by writer; what is none of ours is passed over."""
    found = []
    try:
        names = os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        file = path / name
        try:
            about = file.lstat()
        except FileNotFoundError:  # shipped or removed meanwhile
            continue
        found.append(
            Found(
                file,
                uuid.UUID(hex=match["writer"]),
                int(match["sequence"]),
                int(match["last"]) if match["last"] else None,
                about.st_size,
                about.st_mtime,
            )
        )
    return sorted(found, key=lambda each: (each.writer_id, each.sequence))


def drop_shipped(path: Path) -> int:
    """Remove the segments whose records are in the log; answers how many bytes that frees."""
    shipped = [each for each in segments(path) if each.shipped]
    for each in shipped:
        each.path.unlink(missing_ok=True)
    return sum(each.size for each in shipped)


def drop_drafts(path: Path) -> None:
    """Remove what is left of segments whose writers were killed while they made them."""
    for draft in path.glob(f"*{DRAFT}"):
        with suppress(FileNotFoundError):
            if time.time() - draft.lstat().st_mtime > DRAFT_SECONDS:
                draft.unlink()


def drop_old(found: Iterable[Found], keep: float) -> list[Path]:
    """Remove shipped segments that were kept for so many seconds, or take too much room."""
    oldest_first = sorted(found, key=lambda each: each.changed_at)
    total, removed = sum(each.size for each in oldest_first), []
    for each in oldest_first:
        old = time.time() - each.changed_at > keep
        if not old and total <= conf.get("SPOOL_MAX_BYTES") // KEEP_SHARE:
            break
        each.path.unlink(missing_ok=True)
        removed.append(each.path)
        total -= each.size
    return removed


def make_room(path: Path, wanted: int) -> None:
    """See that ``wanted`` more bytes stay within ``SPOOL_MAX_BYTES``.

    Shipped segments go first.

    Raises:
        SpoolFull: there is no room, since what is there was not shipped yet.
    """
    limit = conf.get("SPOOL_MAX_BYTES")
    found = segments(path)
    room = limit - sum(each.size for each in found)
    for each in sorted(found, key=lambda each: each.changed_at):
        if room >= wanted:
            return
        if each.shipped:
            each.path.unlink(missing_ok=True)
            room += each.size
    if room < wanted:
        raise SpoolFull(
            f"The spool {path} is full: {limit:,} bytes (SPOOL_MAX_BYTES) are waiting to be "
            "shipped. See why with manage.py audit_status."
        )
