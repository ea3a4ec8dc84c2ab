from __future__ import annotations

import json
import signal
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.exceptions import AuditError
from audit.shipping import sidecar


class Command(BaseCommand):
    help = "Ship what this host's spool holds. Exits 1 when something is left."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--follow",
            action="store_true",
            help="go on until SIGTERM or Ctrl-C; no other process of this host ships meanwhile",
        )
        parser.add_argument(
            "--timeout", type=float, default=60.0, help="seconds to try (default: 60)"
        )
        parser.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *, follow: bool, timeout: float, json: bool, **_: Any) -> None:
        try:
            if follow:
                self._follow()
                return
            result = sidecar.drain(timeout)
        except AuditError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(_as_json(result) if json else result.sentence())
        if result.waiting:
            sys.exit(1)

    def _follow(self) -> None:
        stop = sidecar.Stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop.set)
        self.stdout.write(f"Shipping {sidecar.place()} until SIGTERM or Ctrl-C.")
        self.stdout.flush()  # for who reads a pipe: nothing more is said until the end
        shipped = sidecar.follow(stop)
        self.stdout.write(f"{shipped:,} records shipped.")


def _as_json(result: sidecar.Drained) -> str:
    return json.dumps(result._asdict())
