"""What recording costs, each figure against a baseline in the same run.

``tox -e bench`` prints a table; ``tox -e bench -- --json`` prints JSON, ``--only capture,ship``
runs a part. Trust the ratios: on a shared machine absolute times drift.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
Figures = Iterator[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--only", default="", help="parts, separated by commas")
    options = parser.parse_args()

    from audit.testing.postgres import Server

    with Server() as server, tempfile.TemporaryDirectory() as spool:
        os.environ["DATABASE_URL"] = server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        sys.path[:0] = [str(TESTS), str(TESTS / "benchmarks")]
        _django(spool)
        import common

        common.server = server
        wanted = [name for name in options.only.split(",") if name]
        scale = 10 if options.quick else 1
        figures = [
            figure
            for name, part in _parts().items()
            if not wanted or name in wanted
            for bench in part
            for figure in bench(scale)
        ]
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        return
    width = max(len(figure["what"]) for figure in figures)
    for figure in figures:
        ratio = f"  {figure['ratio']:.2f}x of {figure['of']}" if "ratio" in figure else ""
        line = f"{figure['what']:<{width}}  {figure['value']:>10,.1f} {figure['unit']:<10}{ratio}"
        sys.stdout.write(line.rstrip() + "\n")


def _django(spool: str) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    logging.disable(logging.ERROR)  # the engine's word on tables that are made just now
    django.setup()
    call_command("migrate", verbosity=0)
    logging.disable(logging.NOTSET)
    # The default, but for a folder that goes with the benchmark, and for catching up in the
    # process that ships, of which the cost is a figure of its own.
    settings.BAMBOO_AUDIT = {"SPOOL_DIR": spool, "CATCH_UP_IN_BACKGROUND": False}


def _parts() -> dict[str, list[Callable[[int], Figures]]]:
    # Imported here: they need a Django that is set up, and the paths from above.
    import capturing
    import folding
    import following
    import replaying
    import shipped
    import stored

    return {
        "capture": [
            capturing.per_event,
            capturing.sizes,
            capturing.busy_loop,
            capturing.beside_a_busy_thread,
            capturing.many_threads,
        ],
        "ship": [shipped.flat_out, shipped.lag, shipped.memory, shipped.outage],
        "engine": [stored.engine_runs],
        "fold": [folding.speed],
        "load": [following.one_run],
        "follow": [following.per_record, following.lag, following.beside_queries],
        "replay": [replaying.rebuild],
        "log": [stored.indexes, stored.partitions],
    }


if __name__ == "__main__":
    main()
