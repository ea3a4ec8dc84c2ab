"""Receivers that events are sent to again, and some that none can be sent to."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync

given: list[dict[str, Any]] = []
"""What the receivers here were called with."""


def on_event(**values: Any) -> None:
    given.append(values)


def positions() -> list[int]:
    return [values["event"].position for values in given]


class Trouble:
    """Raises at the events of some positions; the first time only, unless it is ``forever``."""

    def __init__(self) -> None:
        self.at: list[int] = []
        self.error: BaseException = ValueError("no \x1b[31m such\norder \udc80")

    def __call__(self, sender: Any, event: Any, **_: Any) -> None:
        if event.position in self.at:
            raise self.error
        on_event(sender=sender, event=event)


trouble = Trouble()


def send_on(sender: Any, event: Any, signal: Any, **_: Any) -> None:
    """Send the very event on through the signal; also one that came from another process."""
    signal.send(sender=sender, event=event)
    signal.send(sender=sender, event=pickle.loads(pickle.dumps(event)))
    on_event(sender=sender, event=event, signal=signal)


def write_down(event: Any, **_: Any) -> None:
    """Into a file, a line for each event, and then perhaps wait."""
    path = Path(os.environ["AUDIT_TEST_TAKEN"])
    with path.open("a") as file:
        file.write(f"{event.position} {event.data['n']}\n")
    time.sleep(float(os.environ.get("PAUSE", "0")))


class Handler:
    """A class is no receiver."""


async def on_event_async(**_: Any) -> None: ...


class AsyncHandler:
    async def __call__(self, **_: Any) -> None: ...


async_handler = AsyncHandler()
run_async = async_to_sync(on_event_async)


def hides_async(**values: Any) -> Any:
    return on_event_async(**values)


def takes_too_little(event: Any) -> None: ...


number = 42
