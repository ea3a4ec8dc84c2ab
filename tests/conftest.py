from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

import audit
from audit import conf, receivers
from audit.capture import ids, record
from audit.capture.failures import failures
from audit.capture.sampling import polls
from audit.capture.writer import writer
from audit.delivery import inline, straight
from audit.log import append

# Whoever runs the suite in a shell's background has SIGINT ignored, and so would all that the
# tests start and end with Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and (
    threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Hostile payloads end up in captured output; xdist cannot send a lone surrogate."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def fresh_recorder(monkeypatch):
    """Each test is a new writer that has seen no tree and failed at nothing."""
    monkeypatch.setattr(conf, "LOOK_SECONDS", 0.0)  # a switch in the environment acts at once
    failures._begin()
    polls._begin()
    writer._begin()
    ids.known_nodes._reset()
    monkeypatch.setattr(receivers, "_left_out", None)
    straight._closed, straight._lane = False, straight._Lane(None, (), {})
    inline.rest.until = 0.0
    yield
    inline.rest.until = 0.0


@pytest.fixture
def log_connection():
    """The connection to the log's database."""
    return connections[conf.get("DATABASE")]


@pytest.fixture
def record_factory():
    """Append one record as the receivers do; answers its position."""

    def append_one(
        event_type: str = "node_enter",
        *,
        run: str = "run-1",
        node: str = "",
        data: Any = None,
        **about: Any,
    ) -> int:
        found = ids.Ids(root_pipeline_id=run, pipeline_id=run, node_id=node)
        with audit.context(**about):
            made = record.make(event_type, {} if data is None else data, found, conf.get("REDACT"))
        return append.append(made, writer.stamp(), using=conf.get("DATABASE"), timeout=5.0)

    return append_one


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a forked child; answers what it answered. One that hangs is killed."""

    def run(function: Callable[[], Any]) -> Any:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            # Newer Pythons warn of forking beside threads: that is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            try:
                os.write(writer, json.dumps(function()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            text = answer.read()
        _, status = os.waitpid(pid, 0)
        assert not os.WIFSIGNALED(status), "the child hung, and was killed"
        assert text, "the child raised"
        return json.loads(text)

    return run


@pytest.fixture
def held() -> Any:
    """Have another thread hold a lock until the test ends."""
    let_go = threading.Event()
    threads = []

    def hold(lock: Any) -> None:
        has_it = threading.Event()

        def keep() -> None:
            with lock:
                has_it.set()
                let_go.wait(30)

        thread = threading.Thread(target=keep)
        thread.start()
        threads.append(thread)
        assert has_it.wait(10)

    yield hold
    let_go.set()
    for thread in threads:
        thread.join()
