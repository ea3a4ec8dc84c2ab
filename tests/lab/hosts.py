"""A host of a test's own: ordinary processes with one spool folder, and a database for their log.

Nothing ships in the background of a test suite's own process, so these are processes of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

import audit
from audit.shipping.election import Election
from audit.testing.folders import server_pid
from audit.testing.postgres import Server

TESTS = Path(__file__).resolve().parents[1]
IMPORTS = [str(Path(audit.__file__).parents[1]), str(TESTS)]


HALF_A_BATCH = """
from pathlib import Path
from audit.log import link

copy = link._copy

class Slow:
    def __init__(self, pgconn):
        self.pgconn = pgconn

    def __getattr__(self, name):
        return getattr(self.pgconn, name)

    def put_copy_data(self, rows):
        half = len(rows) // 2
        self.pgconn.put_copy_data(rows[:half])
        while self.pgconn.flush():
            time.sleep(0.001)
        Path("half").write_text(str(self.pgconn.backend_pid))
        time.sleep(float(os.environ.get("PAUSE", "0.5")))
        self.pgconn.put_copy_data(rows[half:])

def copy_in_halves(pgconn, statements, rows):
    slow = pgconn if Path("half").exists() else Slow(pgconn)
    copy(slow, statements, [b"".join(rows)])

link._copy = copy_in_halves
"""
"""The first batch stands still in its middle, PAUSE seconds long."""


def within(seconds: float) -> Iterator[None]:
    """Look again and again, for so long; raises where nobody was content by then.

    Three times as long, in truth: a machine that others use may stand still for a while.
    """
    end = time.monotonic() + 3 * seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    raise AssertionError(f"not within {3 * seconds:g} seconds")


class Book(NamedTuple):
    """A writer's row, and what the log has of it."""

    writer_id: str
    pid: int
    position: int
    missing: int
    ended: str
    count: int
    distinct: int
    last: int


class Host:
    """Its processes find modules and settings by the environment, so that any command is theirs."""

    def __init__(self, folder: Path, url: str, beside: Host | None = None) -> None:
        self.folder, self.url = folder, url
        folder.mkdir(exist_ok=True)
        self.spool_dir = folder / "spool"
        self.taken = (beside or self).folder / "taken"
        self.settings: dict[str, Any] = {"SPOOL_DIR": str(self.spool_dir)}
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def spool(self) -> Path:
        """The folder of the segments."""
        (found,) = self.spool_dir.glob("bamboo-audit-*")
        return found

    def shipper(self) -> int | None:
        """The process that ships."""
        if not any(self.spool_dir.glob("bamboo-audit-*")):
            return None
        return Election(self.spool).holder()

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join([*IMPORTS, os.environ.get("PYTHONPATH", "")]),
            "DJANGO_SETTINGS_MODULE": "lab.ordinary_settings",
            "AUDIT_TEST_LOG": self.url,
            "AUDIT_TEST_SETTINGS": json.dumps(self.settings),
            "AUDIT_TEST_TAKEN": str(self.taken),
            **more,
        }

    @property
    def name(self) -> str:
        """Of the database."""
        return str(conninfo_to_dict(self.url)["dbname"])

    # Its processes.

    def start(self, *command: Any, **more: str) -> subprocess.Popen[str]:
        """Start ``python command…``, in a group of its own, which ends with the test."""
        process = subprocess.Popen(
            [sys.executable, *(str(word) for word in command)],
            env=self.environment(**more),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def script(self, code: str, **more: str) -> subprocess.Popen[str]:
        """Start a script that may use everything of ``lab.ordinary``."""
        file = self.folder / f"script{len(self.processes)}.py"
        file.write_text(f"from lab.ordinary import *\nimport signal, sys, threading\n{code}")
        return self.start(file, **more)

    def run(self, code: str, seconds: float = 20.0) -> str:
        """Run a script to its end; answers what it printed."""
        return self.finish(self.script(code), seconds)

    def command(self, *words: Any) -> subprocess.Popen[str]:
        """Start a management command."""
        return self.start("-m", "django", *words)

    def finish(self, process: subprocess.Popen[str], seconds: float = 20.0, code: int = 0) -> str:
        """Wait for a process that is to end with this code; answers what it printed."""
        out, err = process.communicate(timeout=seconds)
        assert process.returncode == code, (process.returncode, out, err)
        return out

    def ship(self) -> dict[str, Any]:
        """``manage.py audit_ship``: all is shipped, or this fails."""
        found: dict[str, Any] = json.loads(self.finish(self.command("audit_ship", "--json"), 60))
        return found

    def end(self) -> None:
        """Nothing of it goes on."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()

    # Its log.

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def acknowledged(self) -> set[tuple[str, int]]:
        """Who sent which number, as far as a receiver has returned."""
        lines = self.taken.read_text("ascii").splitlines() if self.taken.exists() else []
        return {(who, int(number)) for who, number in (line.split() for line in lines)}

    def stored(self) -> Counter[tuple[str, int]]:
        """What of it is in the log."""
        found = self.query(
            "SELECT data ->> 'who', (data ->> 'n')::integer FROM bamboo_audit_pipelineeventrecord"
            " WHERE event_type = 'node_enter'"
        )
        return Counter(found)

    def books(self) -> list[Book]:
        found = self.query(
            "SELECT w.writer_id::text, w.pid, w.position, w.missing, w.ended,"
            " count(r.id), count(DISTINCT r.writer_position), coalesce(max(r.writer_position), 0)"
            " FROM bamboo_audit_spoolwriter w"
            " LEFT JOIN bamboo_audit_pipelineeventrecord r USING (writer_id) GROUP BY w.writer_id"
        )
        return [Book(*row) for row in found]

    def gaps(self) -> list[dict[str, Any]]:
        found = self.query(
            "SELECT data FROM bamboo_audit_pipelineeventrecord WHERE event_type = 'gap' ORDER BY id"
        )
        return [data for (data,) in found]

    def arrived(self) -> bool:
        """Whether all that was acknowledged is in the log."""
        return self.acknowledged() <= self.stored().keys()

    def await_arrival(self, seconds: float) -> None:
        """Wait until all that was acknowledged by now is in the log, while more may be sent."""
        for _ in within(seconds):
            if taken := self.acknowledged():
                break
        for _ in within(seconds):
            if taken <= self.stored().keys():
                break

    def settle(self) -> None:
        """Wait until nothing more arrives."""
        before = -1
        for _ in within(20):
            now = sum(self.stored().values())
            if now == before:
                break
            before = now
            time.sleep(0.5)

    def check(self, *, ended: bool = True) -> int:
        """Nothing was lost, nothing is there twice; answers how many records there are."""
        taken, stored = self.acknowledged(), self.stored()
        lost = sorted(taken - stored.keys())
        twice = sorted(each for each, count in stored.items() if count > 1)
        assert not lost, f"{len(lost)} of {len(taken)} were lost: {lost[:5]}"
        assert not twice, f"{len(twice)} are there twice: {twice[:5]}"
        # Killed after an event was appended and before it was said: one for each process.
        more = Counter(who for who, _ in stored.keys() - taken)
        assert all(count == 1 for count in more.values()), more
        for book in self.books():
            assert book.position == book.count == book.distinct == book.last, book
            assert book.missing == 0, book
            assert not ended or book.ended in ("closed", "died"), book
        assert self.gaps() == []
        sys.stdout.write(f"{len(taken)} taken, {len(stored)} stored, {dict(self.ends())}\n")
        return len(stored)

    def ends(self) -> Counter[str]:
        """How its writers ended."""
        return Counter(book.ended for book in self.books())


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """These processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server is away."""
    server.interrupt()
    try:
        yield
    finally:
        server.start()


@contextmanager
def frozen_server(server: Server) -> Iterator[None]:
    """The server takes connections, and answers none."""
    first = server_pid(server.data)
    with frozen(first), frozen(*children(first)):
        yield


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found
