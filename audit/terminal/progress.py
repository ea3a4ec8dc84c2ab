"""How far something long is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from typing import IO, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

LINE_EVERY: Final = 10.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Tells of records that are done, with how many a second, and the time left."""

    def __init__(self, stream: IO[str], *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._began: tuple[float, int] | None = None
        self._said_at = time.monotonic()
        self._bar: Bar | None = None
        self._task = TaskID(0)
        if stream.isatty() and not quiet:
            self._bar = Bar(
                TextColumn("records"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(file=getattr(stream, "_out", stream)),  # Django's ends each line
            )
            self._task = self._bar.add_task("records", total=None, rate="")
            self._bar.start()

    def tell(self, done: int, of: int) -> None:
        """So many are done. What was done before the first call counts for no rate."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        since, before = self._began
        rate = (done - before) / max(now - since, 0.001)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=of, rate=f"{rate:,.0f}/s")
        elif not self._quiet and now - self._said_at >= LINE_EVERY:
            self._said_at = now
            left = f", {(of - done) / rate:,.0f} s left" if rate else ""
            self._stream.write(f"{done:,} of {of:,} records, {rate:,.0f} a second{left}\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self._bar is not None:
            self._bar.stop()
