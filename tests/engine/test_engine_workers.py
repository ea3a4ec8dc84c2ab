"""Runs by chance whose tasks a real prefork worker of several processes does."""

from __future__ import annotations

import json
import os

import pytest
from lab.hosts import Host, within

from audit.testing.postgres import Server

pytestmark = pytest.mark.timeout(900)
RUNS = int(os.environ.get("AUDIT_TEST_WORKER_RUNS", "16"))
CHILDREN = 3


@pytest.fixture(autouse=True)
def no_tasks_left() -> None:
    """Nothing of the engine runs in this process."""


def test_several_processes_lead_to_the_engines_rows(tmp_path) -> None:
    with Server(durable=False) as server:
        host = Host(tmp_path / "host", server.url)
        surroundings = {
            "DJANGO_SETTINGS_MODULE": "lab.real_settings",
            "AUDIT_TEST_BROKER": str(host.folder),
            "LAB_POLL_SECONDS": "1",
        }
        try:
            host.finish(host.start("-m", "django", "migrate", "-v", "0", **surroundings), 240)
            worker = host.start(
                *("-m", "celery", "-A", "lab.real_celery", "worker", "-P", "prefork"),
                *("-c", str(CHILDREN), "-Q", "er_execute,er_schedule", "-l", "CRITICAL"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
                **surroundings,
            )
            driver = host.start("-m", "lab.real", RUNS, 6, **surroundings)
            found = json.loads(host.finish(driver, 400).splitlines()[-1])
            processes = {book.pid for book in host.books() if book.count}
            worker.terminate()
            for _ in within(20):
                if worker.poll() is not None:
                    break
        finally:
            host.end()
    assert not found["problems"], "\n".join(found["problems"])
    assert found["runs"] == RUNS
    assert found["raced"] < RUNS / 2, found
    assert found["rows"] > RUNS * 5
    assert found["over"] > RUNS / 3
    assert len(processes) > CHILDREN, "the web side and every child of the worker"
