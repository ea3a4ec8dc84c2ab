"""A real web server, its reloads and its end: what requests send is in the log, and once."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from http.client import HTTPConnection, HTTPException

import pytest

pytest.importorskip("gunicorn")

from lab.hosts import children, within


class Connection(HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


@pytest.fixture
def server_process(host):
    def start(*words):
        process = host.start(
            *("-m", "gunicorn", "lab.ordinary_web:application", "--workers", "2"),
            *("--bind", f"unix:{host.folder / 'http'}", "--log-level", "error", *words),
        )
        for _ in within(20):
            if (host.folder / "http").exists() and len(children(process.pid)) == 2:
                break
        return process

    return start


@pytest.fixture
def clients(host):
    """Two of them, which ask all the time."""
    stop = threading.Event()
    answers = []

    def ask():
        while not stop.is_set():
            connection = Connection(host.folder / "http")
            try:
                connection.request("GET", "/emit")
                answers.append(connection.getresponse().status)
            except (OSError, HTTPException):
                time.sleep(0.05)  # between two workers, or after the last
            finally:
                connection.close()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield answers
    stop.set()
    for thread in threads:
        thread.join()


def wait_for(answers, count):
    wanted = len(answers) + count
    for _ in within(20):
        if len(answers) >= wanted:
            break


@pytest.mark.parametrize("words", [(), ("--preload",)], ids=["each", "preload"])
def test_reloads_and_a_graceful_end(host, server_process, clients, words):
    process = server_process(*words)
    wait_for(clients, 50)
    for _ in range(2):
        before = set(children(process.pid))
        process.send_signal(signal.SIGHUP)
        for _ in within(20):
            if len(children(process.pid)) == 2 and not before & set(children(process.pid)):
                break
        wait_for(clients, 50)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert "bamboo-audit" not in said, said
    assert set(clients) == {200}
    assert host.arrived(), "before the server was gone"
    assert host.check() >= 3 * len(clients)
    assert set(host.ends()) == {"closed"}
    assert host.ends()["closed"] >= 3


def test_workers_that_are_killed(host, server_process, clients):
    process = server_process()
    for _ in range(3):
        wait_for(clients, 30)
        os.kill(children(process.pid)[0], signal.SIGKILL)
    wait_for(clients, 30)
    process.terminate()
    process.communicate(timeout=20)
    host.ship()
    assert host.check() >= 3 * len(clients)
