"""Runs by chance on the real engine: the timelines are the engine's own rows.

``AUDIT_TEST_RUNS=5000 pytest tests/engine/test_engine_chance.py`` for more of them.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from lab.chance import run_by_chance
from lab.compare import check
from lab.engine import activity, tree_of
from lab.projected import BATCH, catch_up
from lab.scenarios import Run, subprocess
from pipeline.eri.signals import post_set_state

from audit.projections import folds

RUNS = int(os.environ.get("AUDIT_TEST_RUNS", "200"))
TOGETHER = 10
"""Runs of one test."""


@pytest.fixture(params=range(0, RUNS, TOGETHER))
def some_runs(request: pytest.FixtureRequest) -> list[Run]:
    return [run_by_chance(seed) for seed in range(request.param, request.param + TOGETHER)]


def test_the_tables_are_the_engines_rows(some_runs: list[Run], monkeypatch: Any) -> None:
    monkeypatch.setattr(folds, "KEEP_FROM", 30)  # so that the longer ones are kept in between
    monkeypatch.setattr(folds, "FIRST_LAG", 10_000)
    for batch in (17, BATCH):  # and where all is applied, nothing changes
        catch_up(batch)
    for run in some_runs:
        check(run)


def test_a_subprocess_that_is_paused_as_it_ends() -> None:
    """Between the engine's look for a pause and its end: that is done, and no event tells of it."""
    run = Run(tree_of(subprocess("sub", activity("lab_ok", "A"))))

    def pause(node_id: str, to_state: str, **_: object) -> None:
        if run.names.get(node_id) == "sub/end" and to_state == "RUNNING":
            run.call("pause_pipeline", "sub", work=False)

    post_set_state.connect(pause)
    try:
        run.start()
    finally:
        post_set_state.disconnect(pause)
    assert (run.state("sub/end"), run.state("sub")) == ("FINISHED", "SUSPENDED")
    assert run.crashes
    catch_up(BATCH)
    check(run)
