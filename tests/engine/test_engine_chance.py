"""Runs by chance on the real engine: the timelines are the engine's own rows.

``AUDIT_TEST_RUNS=5000 pytest tests/engine/test_engine_chance.py`` for more of them.
"""

from __future__ import annotations

import os

import pytest
from lab.chance import run_by_chance
from lab.compare import check
from lab.projected import BATCH, catch_up
from lab.scenarios import Run

RUNS = int(os.environ.get("AUDIT_TEST_RUNS", "200"))
TOGETHER = 10
"""Runs of one test."""


@pytest.fixture(params=range(0, RUNS, TOGETHER))
def some_runs(request: pytest.FixtureRequest) -> list[Run]:
    return [run_by_chance(seed) for seed in range(request.param, request.param + TOGETHER)]


def test_the_tables_are_the_engines_rows(some_runs: list[Run]) -> None:
    for batch in (17, BATCH):  # and where all is applied, nothing changes
        catch_up(batch)
    for run in some_runs:
        check(run)
