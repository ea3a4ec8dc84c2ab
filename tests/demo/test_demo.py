"""The demo as a stranger starts it: a process of its own, its words, its database, its pages."""

from __future__ import annotations

import contextlib
import http.cookiejar
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from audit.testing.postgres import Server

pytest.importorskip("pipeline")
pytestmark = pytest.mark.engine

MANAGE = Path(__file__).parents[2] / "demo" / "manage.py"
RUNS = {
    "Release 5.1 to staging": "FINISHED",
    "Release 5.1 to all regions": "FINISHED",
    "Release 5.1 to Asia": "FINISHED",
    "Hotfix 5.1.1: disk is full": "FINISHED",
    "Hotfix 5.1.2: cache is down": "FINISHED",
    "Release 5.2 around a sale": "FINISHED",
    "Release 5.3, canary first": "FINISHED",
    "Release 5.4, withdrawn": "REVOKED",
}
PATIENCE = 60


def environment(**changes: str) -> dict[str, str]:
    """Ours without what would lead the demo to the suite's settings or database."""
    ours = {"DATABASE_URL", "DEMO_DATA", "DJANGO_SETTINGS_MODULE", "PYTHONWARNINGS"}
    return {key: value for key, value in os.environ.items() if key not in ours} | changes


def run_demo(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, MANAGE, *arguments],
        cwd="/",
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """An empty PostgreSQL for the demo."""
    with Server(durable=False) as server:
        yield server


@pytest.fixture(scope="module")
def data_folder() -> Iterator[Path]:
    """A place for DEMO_DATA. Root's server is somebody else's, who must be able to enter it."""
    folder = Path(tempfile.mkdtemp(prefix="bamboo-audit-demo-"))
    folder.chmod(0o711)
    yield folder / "data of the demo"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def first(server: Server, data_folder: Path) -> subprocess.CompletedProcess[str]:
    """The demo on an empty database."""
    return run_demo("demo", "--no-serve", DATABASE_URL=server.url, DEMO_DATA=str(data_folder))


def table_of(output: str) -> dict[str, tuple[str, int]]:
    """State and number of records of each run, as the table has them."""
    found = re.findall(r"^(\w.{28}).{22}(\w+) +(\d+)$", output, re.MULTILINE)
    return {name.strip(): (state, int(count)) for name, state, count in found}


def test_it_ends_well_and_says_nothing_beside_its_report(first):
    assert first.returncode == 0
    assert first.stderr == ""
    assert max(map(len, first.stdout.splitlines())) < 80


def test_every_run_is_named_with_its_final_state(first):
    assert {name: state for name, (state, _) in table_of(first.stdout).items()} == RUNS


@pytest.mark.parametrize(
    "line",
    [
        "alice retried Deploy to Shanghai: freed the disk of sh-web-2",
        "carol skipped Warm the cache: the cache fills itself within an hour",
        "bob paused the run: flash sale until ten o'clock",
        "alice resumed the run: the sale is over",
        "carol paused Roll out in Virginia: Virginia counts its stock",
        "carol resumed Roll out in Virginia: stock is counted",
        "dave called back Wait for sign-off: no errors in Frankfurt for an hour",
        "dave revoked the run: 5.4 loses shopping carts",
    ],
)
def test_interventions_are_told_with_actor_and_reason(first, line):
    assert f"\n    {line}\n" in first.stdout


def test_the_retried_run_is_shown_record_by_record(first):
    shown = re.findall(r"^ +\d+\.\d{3}  (\w+) +(.*)$", first.stdout, re.MULTILINE)
    at = shown.index(("pre_retry_node", "Deploy to Shanghai          alice"))
    assert shown[at - 1] == ("post_set_state", "Deploy to Shanghai          FAILED")
    assert shown[at + 1] == ("post_set_state", "Deploy to Shanghai          READY")
    assert len(shown) == table_of(first.stdout)["Hotfix 5.1.1: disk is full"][1]


def test_the_shops_own_projection_tells_how_often_plugins_fail(first):
    lines = first.stdout.partition("Plugins, by a projection")[2].splitlines()
    found = {words[0]: (words[1], words[2]) for line in lines if len(words := line.split()) == 8}
    assert found["release_deploy"] == ("6", "17")
    assert found["release_warm_cache"] == ("2", "50")
    assert found["release_sign_off"] == ("1", "0")


def test_what_it_shows_is_in_the_database(first, server):
    with psycopg.connect(server.url) as connection:
        counts = dict(
            connection.execute(
                """
                SELECT prepared.data -> 'pipeline' ->> 'name', count(*)
                FROM bamboo_audit_pipelineeventrecord AS prepared
                JOIN bamboo_audit_pipelineeventrecord AS record USING (root_pipeline_id)
                WHERE prepared.event_type = 'pre_prepare_run_pipeline'
                GROUP BY prepared.id
                """
            ).fetchall()
        )
        total = connection.execute(
            "SELECT count(*) FROM bamboo_audit_pipelineeventrecord"
        ).fetchone()
    assert counts == {name: count for name, (_, count) in table_of(first.stdout).items()}
    assert total == (sum(counts.values()),)  # so none is without its run


def test_operations_have_their_actor_and_workers_have_none(first, server):
    with psycopg.connect(server.url) as connection:
        found = connection.execute(
            """
            SELECT event_type, context ->> 'actor', context ->> 'reason'
            FROM bamboo_audit_pipelineeventrecord
            WHERE event_type IN ('pre_retry_node', 'post_revoke_pipeline', 'node_execute_exception')
               OR (event_type = 'node_finish' AND context ? 'actor')
            ORDER BY occurred_at
            """
        ).fetchall()
    assert found == [
        ("pre_retry_node", "alice", "freed the disk of sh-web-2"),
        ("node_execute_exception", None, None),
        ("post_revoke_pipeline", "dave", "5.4 loses shopping carts"),
    ]


def test_the_token_of_the_registry_is_not_in_the_log(first, server):
    with psycopg.connect(server.url) as connection:
        found = connection.execute(
            """
            SELECT DISTINCT
                jsonb_path_query(data, '$.pipeline.activities.*.component.inputs.registry_token')
            FROM bamboo_audit_pipelineeventrecord
            WHERE event_type = 'pre_prepare_run_pipeline'
            """
        ).fetchall()
    assert found == [("[redacted]",)]


def test_a_second_start_adds_to_the_log(first, server, data_folder):
    again = run_demo("demo", "--no-serve", DATABASE_URL=server.url, DEMO_DATA=str(data_folder))
    assert again.returncode == 0
    assert table_of(again.stdout) == table_of(first.stdout)
    records = sum(count for _, count in table_of(again.stdout).values())
    assert f"\n{2 * records} records of 16 runs:\n" in again.stdout


def test_a_port_in_use_is_said_before_anything_else_is_done(server, data_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_demo(
            "demo", "--port", str(port), DATABASE_URL=server.url, DEMO_DATA=str(data_folder)
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"Port {port} cannot be used (Address already in use)" in ended.stderr
    assert f"--port {port + 1}" in ended.stderr


def test_a_database_that_is_away_is_said_in_a_line_and_not_by_a_traceback(tmp_path):
    url = f"postgresql://postgres@/postgres?host={tmp_path}"
    ended = run_demo("demo", "--no-serve", DATABASE_URL=url, DEMO_DATA=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "CommandError: PostgreSQL, the one that DATABASE_URL names, cannot be used: "
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_where_the_server_may_not_go_the_data_are_temporary(tmp_path):
    tmp_path.chmod(0o700)
    ended = run_demo("demo", "--no-serve", DEMO_DATA=str(tmp_path / "data"))
    assert ended.returncode == 0
    assert "So a temporary PostgreSQL is used" in ended.stderr
    assert "temporary, gone with this process" in ended.stdout
    assert {name: state for name, (state, _) in table_of(ended.stdout).items()} == RUNS


class Demo:
    """A serving demo, what it has said, and a browser."""

    def __init__(self, port: int, folder: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, MANAGE, "demo", "--port", str(port)],
            cwd="/",
            env=environment(DEMO_DATA=str(folder)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.browser = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def read_until(self, words: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if words in line:
                return self.said
        raise AssertionError(f"it ended without saying {words!r}:\n{self.said}")

    def open(self, path: str, form: dict[str, str] | None = None) -> str:
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(
            urllib.parse.urljoin(self.base, path), data, {"Referer": self.base}
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.browser.open(request, timeout=PATIENCE) as answer:
                    return str(answer.read().decode())
            except urllib.error.HTTPError:
                raise
            except urllib.error.URLError:  # it is said a moment before it is served
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def log_in(self, name: str, password: str) -> str:
        page = self.open("/")
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        return self.open("/admin/login/", {**hidden, "username": name, "password": password})


@pytest.fixture
def serving(data_folder: Path) -> Iterator[Demo]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    demo = Demo(port, data_folder)
    yield demo
    demo.process.kill()
    demo.process.communicate()


def is_running(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_it_serves_the_log_and_leaves_nothing_behind(serving, data_folder):
    said = serving.read_until("Ctrl-C")
    postgres = int((data_folder / "data/postmaster.pid").read_text().split()[0])
    assert is_running(postgres)

    status = run_demo("audit_status", DEMO_DATA=str(data_folder))
    assert (status.returncode, status.stderr) == (0, "")

    name, password = re.search(r"Log in +(\w+), password (\w+)", said).groups()
    records = urllib.parse.urlsplit(re.search(r"Records +(http\S+)", said)[1]).path
    assert "Log in" in serving.log_in(name, "wrong")
    assert "Log in" not in serving.log_in(name, password)
    page = serving.open(records)
    assert "post_revoke_pipeline" in page
    assert "5.4 loses shopping carts" in page
    page = serving.open(f"{records}?event_type=post_revoke_pipeline")
    record = re.search(rf'href="({records}\d+/change/[^"]*)"', page)[1]
    assert "post_revoke_pipeline" in serving.open(record.replace("&amp;", "&"))
    assert "body" in serving.open("/static/admin/css/base.css")

    serving.process.send_signal(signal.SIGINT)
    rest, _ = serving.process.communicate(timeout=PATIENCE)
    assert serving.process.returncode == 0
    assert rest.strip() == ""  # ends quietly
    assert not is_running(postgres)


def test_ctrl_c_in_the_middle_is_quiet_too(serving, data_folder):
    serving.read_until("Running 8 pipelines")
    postgres = int((data_folder / "data/postmaster.pid").read_text().split()[0])
    serving.process.send_signal(signal.SIGINT)
    rest, _ = serving.process.communicate(timeout=PATIENCE)
    assert serving.process.returncode == 130
    assert "Traceback" not in rest
    assert not is_running(postgres)
