"""Whom the server runs as, and the folders that it may use."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from audit.exceptions import PostgresNotStarted

PREFIX: Final = "bamboo-audit-pg-"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as: ourselves, but ``nobody`` for root, whom PostgreSQL refuses."""

    uid: int
    gid: int

    @classmethod
    def for_server(cls) -> Self:
        """The account for a server that this process starts."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise PostgresNotStarted(
                "PostgreSQL refuses to run as root, and there is no user 'nobody' to run it as. "
                "Run as an ordinary user, or set DATABASE_URL."
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid)

    @property
    def is_other(self) -> bool:
        """Whether it is not who we are."""
        return self.uid != os.geteuid()

    def for_subprocess(self) -> dict[str, Any]:
        """What makes ``subprocess`` run as this account."""
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def make_folder(self, folder: Path, *, exist_ok: bool = False) -> None:
        """Make a folder that only this account may enter; one that exists must be like that."""
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if exist_ok and self.owns_alone(folder):
                return
            raise
        if self.is_other:
            os.chown(folder, self.uid, self.gid, follow_symlinks=False)

    def provide(self, folder: Path) -> None:
        """Make a folder for a server where there is none; others may do the same at once.

        It comes to its place with its mode: nobody sees one that the server may not enter yet.
        """
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder.parent))
        self.let_pass(fresh)
        try:
            fresh.rename(folder)
        except OSError:
            fresh.rmdir()
            if not folder.is_dir():
                raise

    def let_pass(self, folder: Path) -> None:
        """Let this account, where it is not ours, through a folder that we made to its data."""
        folder.chmod(0o711 if self.is_other else 0o700)

    def owns_alone(self, folder: Path) -> bool:
        """Whether ``folder`` is one that only this account may enter, and no link to one."""
        about = folder.lstat()
        return (
            stat.S_ISDIR(about.st_mode)
            and about.st_uid == self.uid
            and not stat.S_IMODE(about.st_mode) & 0o077
        )

    def check(self, folder: Path, data: Path) -> None:
        """Refuse a ``folder`` that it cannot reach and ``data`` that is somebody else's."""
        for step in (folder, *folder.parents) if self.is_other else ():
            about = step.stat()
            needed = stat.S_IXUSR if about.st_uid == self.uid else stat.S_IXOTH
            if not about.st_mode & needed:
                raise PostgresNotStarted(
                    "Running as root, PostgreSQL runs as user nobody, who may not enter "
                    f"{step}, so not use {folder}. Choose another folder, or set DATABASE_URL."
                )
        if data.exists() and (owner := data.stat().st_uid) != self.uid:
            raise PostgresNotStarted(
                f"{data} belongs to the user with number {owner}, but PostgreSQL would run as "
                f"{self.uid}. Start it as that user, choose another folder, or set DATABASE_URL."
            )


def sweep(parent: Path) -> None:
    """Remove temporary folders of ours whose owner was killed, once their server has ended."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        try:
            if (
                pid.isdigit()
                and folder.lstat().st_uid == os.geteuid()
                and not is_alive(int(pid))
                and not is_alive(server_pid(folder / "data"))
            ):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # it went meanwhile
            continue


def server_pid(data: Path) -> int:
    """The process that says it serves this data folder; 0 where none does."""
    try:
        first = (data / "postmaster.pid").read_text().split()[:1]
    except FileNotFoundError:
        return 0
    return int(first[0]) if first and first[0].isdigit() else 0


def is_alive(pid: int) -> bool:
    """Whether a process with this number exists; 0 is none."""
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
