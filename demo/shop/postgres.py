"""Where the demo's PostgreSQL is: what DATABASE_URL names, else a server of its own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from audit.exceptions import PostgresNotStarted
from audit.testing.postgres import URL_VARIABLE, ensure


@dataclass(frozen=True, slots=True)
class Found:
    """A running server: its address, where that is in words, and whether it outlives the demo."""

    url: str
    where: str
    lasting: bool


def find(folder: Path) -> Found:
    """The server that the demo uses, started if need be; its data stay in ``folder``."""
    if URL_VARIABLE in os.environ:
        return Found(ensure(), f"the one that {URL_VARIABLE} names", lasting=True)
    try:
        if not (folder / "data" / "PG_VERSION").exists():
            _say(f"Making a PostgreSQL database in {shown(folder)} (the first time only) ...")
        return Found(ensure(folder), f"{shown(folder)}, kept for the next start", lasting=True)
    except (PostgresNotStarted, OSError) as error:
        # For example a checkout in /root: root's server runs as nobody, who may not go there.
        found = Found(ensure(), "temporary, gone with this process", lasting=False)
        _say(f"{error}\nSo a temporary PostgreSQL is used: what is recorded goes when it ends.")
        return found


def shown(path: Path) -> str:
    """``path`` as a reader in the current folder would write it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _say(text: str) -> None:
    # Settings are read before any command may speak, and stdout may be somebody's JSON.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
