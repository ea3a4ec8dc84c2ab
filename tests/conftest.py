from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from django.db import connections

import audit
from audit import conf, delivery
from audit.capture import ids, record
from audit.capture.failures import failures
from audit.capture.writer import writer
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
def fresh_recorder():
    """Each test is a new writer that has seen no tree and failed at nothing."""
    failures._begin()
    writer._begin()
    ids.known_nodes._reset()
    delivery.rest.until = 0.0
    yield
    delivery.rest.until = 0.0


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
            made = record.make(
                event_type,
                {} if data is None else data,
                ids=found,
                stamp=writer.stamp(),
                secrets=conf.get("REDACT"),
            )
        return append.append(made, using=conf.get("DATABASE"), timeout=5.0)

    return append_one
