from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import words
from audit.exceptions import AuditError, LogUnavailable
from audit.management.moments import HELP, moment
from audit.redelivery.redeliver import Progress, redeliver
from audit.redelivery.wanted import wanted
from audit.shipping.sidecar import Stop

SHOW_EVERY = 0.2


class Command(BaseCommand):
    help = "Send recorded events again, in the order of the log, to one receiver that you name."

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--receiver", required=True, metavar="PATH", help="such as shop.receivers.on_event")
        add("--since", metavar="TIME", help=f"events from then on: {HELP}")
        add("--until", metavar="TIME", help="events before then")
        many: dict[str, Any] = {"action": "extend", "nargs": "+", "default": []}
        add("--type", metavar="TYPE", dest="types", help="only of these event types", **many)
        add("--pipeline", metavar="ID", dest="ids", help="only of the runs of these ids", **many)
        add("--skip", metavar="POSITION", type=int, help="leave out what is there", **many)
        add("--anew", action="store_true", help="begin again, and not where it ended last")
        add("--json", action="store_true", help="for scripts")

    def handle(
        self,
        *,
        receiver: str,
        since: str | None,
        until: str | None,
        types: list[str],
        ids: list[str],
        skip: list[int],
        anew: bool,
        json: bool,
        **_: Any,
    ) -> None:
        start, end, stop = moment("--since", since), moment("--until", until), Stop()
        try:
            which = wanted(since=start, until=end, event_types=types, ids=ids)
            with _until_told(stop):
                found = redeliver(
                    *(receiver, which), anew=anew, skip=skip, stop=stop, tell=self._show()
                )
        except LogUnavailable as error:
            again = "Run the same command again when it answers: it goes on where it stopped."
            raise CommandError(f"{words.plain(error)} {again}") from error
        except AuditError as error:
            raise CommandError(words.plain(error)) from error
        self.stdout.write(_as_json(found) if json else _as_text(found))
        if not found.is_finished:
            sys.exit(1)

    def _show(self) -> Callable[[Progress], None]:
        """On a terminal, how far it is, now and then."""
        shown_at = float("-inf")

        def tell(found: Progress) -> None:
            nonlocal shown_at
            now = time.monotonic()
            if now - shown_at >= SHOW_EVERY or found.is_finished:
                shown_at = now
                said = f"\rposition {found.position:,} of {found.end:,}"
                self.stderr.write(
                    f"{said}, {found.delivered:,} delivered", str, "\n" if found.is_finished else ""
                )

        return tell if self.stderr.isatty() else lambda _: None


@contextmanager
def _until_told(stop: Stop) -> Iterator[None]:
    """SIGTERM and Ctrl-C end it after the event under way; a second one ends it there and then."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def end(*_: object) -> None:
        stop.set()
        restore()

    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        restore()


def _as_text(found: Progress) -> str:
    said = [f"{found.receiver}: "]
    if found.position == found.start:
        said += [f"nothing new, all is delivered up to position {found.position:,}."]
    else:
        said += [
            f"{found.delivered:,} events delivered, of positions {found.start + 1:,} to "
            f"{found.position:,}."
        ]
    if found.skipped:
        said += [f" Left out: {', '.join(map(str, found.skipped))}."]
    if not found.is_finished:
        said += [f" Ended before position {found.end:,}: the same command goes on from there."]
    return "".join(said)


def _as_json(found: Progress) -> str:
    return json.dumps({**asdict(found), "finished": found.is_finished})
