"""Shipping by a command instead of a thread of the host's: once, or as a sidecar."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NamedTuple

from audit import conf
from audit.exceptions import AuditError, LogUnavailable
from audit.shipping import report
from audit.shipping.catching import Catching
from audit.shipping.election import SIDECAR, Election
from audit.shipping.pace import Pace
from audit.shipping.shipper import Shipper
from audit.spool import folder
from audit.spool.bell import Bell
from audit.spool.writer import writer

STEP: Final = 0.2
TRIES: Final = 5
"""Other processes look at the sidecar's lock, and each time have it for some microseconds."""


class Drained(NamedTuple):
    """What came of it. ``by``: the process that shipped, where that was another."""

    path: str
    shipped: int
    waiting: int
    by: int | None
    error: str

    def sentence(self) -> str:
        """For people."""
        if self.waiting:
            why = self.error or "There was not enough time: try again, or with --timeout."
            return f"{self.waiting:,} records still wait in {self.path}. {why}"
        how = f"by process {self.by}" if self.by else f"{self.shipped:,} records just now"
        return f"Everything is shipped, {how}: none waits in {self.path}."


def place() -> Path:
    """The spool's folder, made where it is not there.

    Raises:
        SpoolUnusable: it cannot be used.
    """
    path = folder.place()
    folder.ready(path)
    return path


def drain(seconds: float) -> Drained:
    """Ship what the spool holds; where another process is elected, wait for it to do so.

    Raises:
        SpoolUnusable: there is no folder that can be used.
    """
    path, using = place(), conf.get("DATABASE")
    deadline = time.monotonic() + seconds
    election, shipper = Election(path), Shipper(path, using)
    pace, by, error = Pace(), None, ""
    try:
        while True:
            wait = STEP
            if election.stand():
                try:
                    shipper.drain(deadline)
                    # What it told itself meanwhile, of gaps and failures, is shipped as well.
                    writer.close()
                    shipper.drain(deadline)
                    break
                except LogUnavailable as failure:
                    error = str(failure)
                    wait = pace.after_failure(failure)
            else:
                by = Election(path).holder()
                looked_at = time.monotonic()
                if not report.read(using).waiting:
                    break
                # It reads all that waits: that is not to be what the other one waits for.
                wait = max(STEP, 10 * (time.monotonic() - looked_at))
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(wait, left))
        waiting = report.read(using).waiting
        return Drained(str(path), shipper.shipped, waiting, None if election.won else by, error)
    finally:
        shipper.close()
        election.resign()


class Stop:
    """Tells a loop to end, out of a signal handler.

    Not an Event: its lock is not reentrant, and a handler that finds its own thread in ``wait``
    waits for ever.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._bell = Bell()

    def set(self, *_: object) -> None:
        """End the loop; takes what a signal handler is given."""
        self.is_set = True
        self._bell.ring()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is set."""
        if not self.is_set:
            self._bell.wait(seconds)


def follow(stop: Stop) -> int:
    """Ship until ``stop`` is set, and what is there then; answers how many records that was.

    Raises:
        AuditError: another sidecar is there already.
        SpoolUnusable: there is no folder that can be used.
    """
    path, using = place(), conf.get("DATABASE")
    sidecar, election = Election(path, SIDECAR), Election(path)
    for left in reversed(range(TRIES)):
        if sidecar.stand():
            break
        if not left:
            raise AuditError(
                f"Process {sidecar.holder()} ships {path} already. One sidecar is enough."
            )
        stop.wait(STEP)
    shipper, pace, shipped = Shipper(path, using), Pace(), 0
    catching = Catching()
    try:
        while not stop.is_set:
            if not election.stand():  # a process of the host's, until it sees the sidecar
                stop.wait(STEP)
                continue
            try:
                wait = pace.peek(shipper)
                if pace.is_due(shipper):
                    count = shipper.cycle()
                    wait = pace.after(count, shipper)
                    if count:
                        catching.ring()
            except Exception as error:
                wait = pace.after_failure(error)
                shipped += shipper.shipped
                shipper.close()
                shipper = Shipper(path, using)
            stop.wait(wait)
        writer.close()
        try:
            shipper.drain(time.monotonic() + conf.get("FLUSH_INTERVAL") + 2.0)
        except LogUnavailable as error:
            pace.after_failure(error)
        return shipped + shipper.shipped
    finally:
        catching.leave()
        shipper.close()
        election.resign()
        sidecar.resign()
