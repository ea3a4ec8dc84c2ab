from __future__ import annotations

import pytest
from django.db import connections

from audit import conf, receivers
from audit.capture import ids
from audit.capture.failures import failures
from audit.capture.writer import writer


@pytest.fixture(autouse=True)
def fresh_recorder():
    """Each test is a new writer that has seen no tree and failed at nothing."""
    failures._begin()
    writer._begin()
    ids.known_nodes._reset()
    receivers._rest.until = 0.0
    yield
    receivers._rest.until = 0.0


@pytest.fixture
def log_connection():
    """The connection to the log's database."""
    return connections[conf.get("DATABASE")]
