"""Write ``audit/testing/sample.jsonl``: records of real runs, for ``ProjectionContract``.

``python tests/lab/sample.py``: for when the engine's events have changed.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import orjson

TESTS = Path(__file__).resolve().parents[1]
TARGET = TESTS.parent / "audit" / "testing" / "sample.jsonl"
RUNS = 5
"""By chance, but always the same: with failures, retries, skips, polls, callbacks, pauses."""


def main() -> None:
    from audit.testing.postgres import Server

    with Server(durable=False) as server:
        os.environ["DATABASE_URL"] = server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        sys.path.insert(0, str(TESTS))
        import django
        from django.conf import settings
        from django.core.management import call_command

        logging.disable(logging.CRITICAL)
        django.setup()
        call_command("migrate", verbosity=0)
        settings.BAMBOO_AUDIT = {"DELIVERY": "inline", "TREES": "outline"}
        from audit.models import PipelineEventRecord
        from lab.chance import run_by_chance

        roots = [run_by_chance(seed).root for seed in range(RUNS)]
        found = PipelineEventRecord.objects.filter(root_pipeline_id__in=roots).order_by("pk")
        began = min(record.occurred_at for record in found)
        lines = [
            orjson.dumps(
                {
                    "after": round((record.occurred_at - began).total_seconds() * 1_000_000),
                    "event_type": record.event_type,
                    "root_pipeline_id": record.root_pipeline_id,
                    "pipeline_id": record.pipeline_id,
                    "node_id": record.node_id,
                    "node_version": record.node_version,
                    # The tree is in the run's first record.
                    "data": {k: v for k, v in record.data.items() if not _is_told(record, k)},
                    "context": {
                        key: value
                        for key, value in record.context.items()
                        if key not in ("host", "pid")
                    },
                }
            )
            for record in found
        ]
        text = b"\n".join(lines) + b"\n"
        for path in (sys.prefix, str(TESTS.parent)):  # tracebacks name files
            text = text.replace(path.encode(), b"/srv/app")
        TARGET.write_bytes(text)


def _is_told(record: Any, key: str) -> bool:
    return record.event_type == "post_prepare_run_pipeline" and key in ("pipeline", "left_out")


if __name__ == "__main__":
    main()
