"""Runs by chance whose tasks real workers do, several at once: ``python -m lab.real RUNS SECONDS``.

People meddle for so long, then what the runs wait for is done; at last everything is shipped,
caught up and compared with the engine's rows. Prints what did not agree, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from random import Random

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from pipeline.eri.models import State  # noqa: E402

from lab.chance import People, Pipelines  # noqa: E402
from lab.compare import check, check_rows, raced  # noqa: E402
from lab.projected import catch_up  # noqa: E402
from lab.scenarios import Run  # noqa: E402

QUIET = 3.0
"""Seconds without a change of state after which nothing more is to come."""
MOST = 90.0
TRIES = 3
"""What differs must do so again when nothing happens any more: on a busy machine a worker may
stand still for longer than QUIET, and go on while it is compared."""


def main(count: int, seconds: float) -> None:
    chance = Random(count)
    runs, people = [], []
    for _ in range(count):
        run = Run(Pipelines(chance).tree()).start(work=False, cycle_tolerate=True)
        runs.append(run)
        people.append(People(run, chance))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        chance.choice(people).act()
        time.sleep(0.02)
    problems, together = [], 0
    for _ in range(TRIES):
        settle(people)
        call_command("audit_ship", stdout=sys.stderr)
        catch_up()
        problems, together = compare(runs)
        if not problems:
            break
    print(  # noqa: T201
        json.dumps(
            {
                "runs": count,
                "rows": State.objects.count(),
                "over": sum(run.state("root") == "FINISHED" for run in runs),
                "raced": together,
                "problems": problems,
            }
        )
    )


def compare(runs: list[Run]) -> tuple[list[str], int]:
    """What does not agree with the engine; how many runs have nodes that two changed at once."""
    problems, together = [], 0
    for run in runs:
        try:
            if at_once := raced(run):
                together += 1
                check_rows(run, at_once)
            else:
                check(run)
        except Exception:
            problems.append(traceback.format_exc())
    return problems, together


def settle(people: list[People]) -> None:
    """Until nothing changes any more."""
    known, since, end = "", time.monotonic(), time.monotonic() + MOST
    while time.monotonic() < end and time.monotonic() - since < QUIET:
        for each in people:
            each.settle()
        now = repr(sorted(State.objects.values_list("node_id", "name", "version", "loop")))
        if now != known:
            known, since = now, time.monotonic()
        time.sleep(0.1)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
