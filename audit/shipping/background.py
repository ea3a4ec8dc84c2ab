"""This process's thread beside the engine's: prepares segments, and ships where it is elected.

Every process that captures has one. It is started by the first record, sleeps most of the time,
and touches nothing of the host's: no signal handlers, no connection of Django's for long.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from django.db import connections

from audit import conf
from audit.exceptions import SpoolUnusable
from audit.shipping.catching import Catching
from audit.shipping.election import SIDECAR, Election
from audit.shipping.lookups import FollowUps
from audit.shipping.pace import Pace
from audit.shipping.shipper import Shipper
from audit.spool import folder
from audit.spool.writer import writer

logger = logging.getLogger("audit")

EXIT_SECONDS: Final = 2.0
"""The most that a process which ends waits for its records to be shipped."""
STAND_BY: Final = 0.5
"""Seconds between two tries to be elected."""
CHORES_EVERY: Final = 1.0
LOOK_AT_FOLDER: Final = 5.0
"""Seconds between two looks at whether the folder can be used."""


class Background:
    """The thread, and how it begins and ends."""

    def __init__(self) -> None:
        self.chores: list[Callable[[float], object]] = []
        """Called now and then with ``time.monotonic()``, and with infinity before the last word:
        for what capture has counted and no record has told."""
        self._begin()

    def _begin(self) -> None:
        # Reentrant, as all locks that an event may take: a signal handler may send one in here.
        self._lock = threading.RLock()
        self._chores_at = 0.0
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._stop_at = 0.0
        self._election: Election | None = None
        self._shipper: Shipper | None = None
        self._follow_ups = FollowUps()
        self._catching = Catching()
        self._path: Path | None = None
        self._look_at_path = 0.0
        self._look_at_sidecar = 0.0
        self._sidecar = False

    def ensure(self) -> None:
        """See that the thread runs, where it may. Cheap: it is asked for every record."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        if conf.under_test_runner():
            return
        with self._lock:
            if self._thread is not None or self._stopping:
                return
            thread = threading.Thread(target=self._run, name="bamboo-audit", daemon=True)
            try:
                self._thread = thread
                thread.start()
            except BaseException as error:
                self._thread = None
                # No more threads: the record is in the spool, and the next event tries again.
                if not isinstance(error, RuntimeError):
                    raise

    def stop(self, seconds: float = EXIT_SECONDS) -> None:
        """Close the writer, ship what can be shipped in so many seconds, and end the thread."""
        self._do_chores(math.inf)
        writer.close()
        thread = self._thread
        if thread is None or not thread.is_alive():
            return
        self._stop_at = time.monotonic() + seconds
        self._stopping = True
        self._catching.leave()
        writer.bell.ring()
        thread.join(seconds + 0.5)

    def _do_chores(self, now: float) -> None:
        if now < self._chores_at:
            return
        self._chores_at = now + CHORES_EVERY
        for chore in self.chores:
            try:
                chore(now)
            except Exception:
                logger.exception("bamboo-audit: counts of what was not recorded were not told.")

    def _run(self) -> None:
        try:
            self._loop()
        finally:
            # Whatever ended it, a logging handler of the host's that raises among others: the
            # folder must not stay with a process that does not ship.
            self._thread = None
            self._drop_shipper()
            self._catching.leave()
            if self._election is not None:
                self._election.resign()
            connections.close_all()

    def _loop(self) -> None:
        pace = Pace()
        wait, seen = 0.0, (writer.id, 0)
        while not self._stopping:
            writer.bell.wait(wait)
            try:
                writer.prepare()
                self._do_chores(time.monotonic())
                before, seen = seen, writer.in_use
                wait = pace.rest() or self._turn(pace, look=seen != before)
            except Exception as error:
                wait = pace.after_failure(error)
                self._drop_shipper()
        try:
            self._last_turn()
        except Exception as error:
            pace.after_failure(error)

    def _turn(self, pace: Pace, *, look: bool) -> float:
        """One look; answers how long to wait before the next. ``look``: for a new segment."""
        if not conf.get("SHIP_IN_BACKGROUND"):
            self._drop_shipper()
            self._catching.leave()
            if self._election is not None:
                self._election.resign()  # it may have been on until now
            return STAND_BY
        shipper = self._elected()
        if shipper is None:
            self._catching.leave()
            return STAND_BY
        if not look and not pace.is_due(shipper):
            return pace.peek(shipper)
        shipped = shipper.cycle(look=look)
        if shipped:
            self._catching.ring()
        else:
            # Looked up in the engine's tables, perhaps: those connections are not for keeping.
            connections.close_all()
        shipper.have_it_rung()
        wait = pace.after(shipped, shipper)
        return 0.0 if shipped and shipper.has_many() else wait

    def _elected(self) -> Shipper | None:
        """This process's shipper: of the folder where it is elected, else of its own memory."""
        path = self._folder()
        if path is not None:
            if self._election is None:
                self._election = Election(path)
            if self._may_stand(path) and self._election.stand():
                return self._shipper_of(path)
        if writer.in_memory:
            return self._shipper_of(None)
        self._drop_shipper()
        return None

    def _may_stand(self, path: Path) -> bool:
        """Whether no sidecar ships the folder; looked at now and then, for it takes three calls."""
        now = time.monotonic()
        if now >= self._look_at_sidecar:
            self._look_at_sidecar = now + STAND_BY
            if Election(path, SIDECAR).is_held() and self._election is not None:
                self._election.resign()
                self._sidecar = True
            else:
                self._sidecar = False
        return not self._sidecar

    def _folder(self) -> Path | None:
        """The spool's folder where it can be used; that is looked at now and then."""
        now = time.monotonic()
        if now >= self._look_at_path:
            self._look_at_path = now + LOOK_AT_FOLDER
            self._path = folder.place()
            try:
                folder.ready(self._path)
            except SpoolUnusable:
                self._path = None
        return self._path

    def _shipper_of(self, path: Path | None) -> Shipper:
        using = conf.get("DATABASE")
        shipper = self._shipper
        if shipper is None or shipper.shelf.path != path or shipper.link.using != using:
            self._drop_shipper()
            shipper = self._shipper = Shipper(path, using, self._follow_ups)
        return shipper

    def _drop_shipper(self) -> None:
        shipper, self._shipper = self._shipper, None
        if shipper is not None:
            shipper.close()

    def _last_turn(self) -> None:
        if not conf.get("SHIP_IN_BACKGROUND"):
            return
        shipper = self._elected()
        if shipper is not None:
            shipper.drain(self._stop_at)

    def _after_fork(self) -> None:
        """In the child: no thread runs here, and the parent's election is the parent's."""
        election, shipper, catching = self._election, self._shipper, self._catching
        self._begin()
        catching.leave_to_parent()
        if election is not None:
            election.leave_to_parent()
        if shipper is not None:
            shipper.shelf.close()
            shipper.link.leave_to_parent()


background: Final = Background()
os.register_at_fork(after_in_child=background._after_fork)
atexit.register(background.stop)
