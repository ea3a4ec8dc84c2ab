"""The shelf: the sources of one spool folder, and where the log has their records."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from audit.exceptions import SpoolCorrupted
from audit.log import ship
from audit.log.link import Link
from audit.shipping import gaps
from audit.shipping.source import Hole, Source, mark_shipped, rename_now
from audit.spool import folder
from audit.spool.reader import Reader
from audit.spool.writer import writer

logger = logging.getLogger("audit")

DISCOVER_EVERY: Final = 0.2
"""Seconds between two looks for new segments."""
TIDY_EVERY: Final = 5.0
"""Seconds between two looks at the age and the size of what was shipped."""
HEARTBEAT: Final = 30.0
"""Seconds between two signs of life of the writers."""
WAITING: Final = 1.0
"""Seconds between two questions to the log, where a writer waits for what another ships."""
MOST_OPEN: Final = 200
"""Segments that are open at once, and no more than two of a writer: a host may have a thousand,
and 1,024 descriptors."""
RESEND_KEEP: Final = 600.0
"""Seconds for which shipped segments are kept: a database that fails over, or is restored to an
earlier time, gets them once more."""


class Shelf:
    """Finds segments and their writers, and puts them away when they are done with.

    ``path``: the spool folder; None is this process's memory only.
    """

    def __init__(self, path: Path | None, link: Link) -> None:
        self.path, self.link = path, link
        self.sources: dict[uuid.UUID, Source] = {}
        self._done: dict[Path, folder.Found] = {}
        self._names: frozenset[str] = frozenset()
        self._tidied_at = float("-inf")
        self._discovered_at = float("-inf")
        self._heartbeat_at = float("-inf")

    @property
    def is_empty(self) -> bool:
        return not self.sources and not self._done

    def close(self) -> None:
        """Let go of all files."""
        for source in self.sources.values():
            for reader in source.readers:
                reader.close()
        self.sources.clear()
        self._names = frozenset()
        self._discovered_at = float("-inf")

    # What is there.

    def discover(self, *, now: bool) -> None:
        """Look for new segments, where that was not done just before, or ``now``."""
        moment = time.monotonic()
        if not now and moment - self._discovered_at < DISCOVER_EVERY:
            return
        self._discovered_at = moment
        # One system call tells most of the time that there is nothing new. Each one gives up
        # the GIL, and beside a thread that computes it takes 5 ms to get it back.
        names = folder.names(self.path) if self.path is not None else frozenset()
        if names != self._names or moment - self._tidied_at >= TIDY_EVERY:
            self._names, self._tidied_at = names, moment
            self._look_through(folder.segments(self.path) if self.path is not None else [])
            for path in folder.drop_old(self._done.values(), RESEND_KEEP):
                self._done.pop(path, None)
        elif len(writer.in_memory):
            self._look_through([])

    def _look_through(self, found: list[folder.Found]) -> None:
        if found:
            self._done = {each.path: each for each in found if each.shipped}
        known = {
            (reader.header.writer_id, reader.header.sequence)
            for source in self.sources.values()
            for reader in source.readers
        }
        # One made beforehand may be removed, and its writer go on in another: it is not counted.
        count = Counter(
            writer_id
            for writer_id, source in self.sources.items()
            for reader in source.readers
            if reader.path is not None and reader.in_use()
        )
        new: list[Reader] = []
        for each in found:  # by writer, oldest first
            if each.shipped or (each.writer_id, each.sequence) in known:
                continue
            if count[each.writer_id] >= 2 or len(known) + len(new) >= MOST_OPEN:
                self._names = frozenset()  # the others when these are done with
                continue
            if (reader := self._open(each)) is not None:
                count[each.writer_id] += 1
                new.append(reader)
        for segment in list(writer.in_memory):
            if (segment.header.writer_id, segment.header.sequence) not in known:
                new.append(Reader.of_memory(segment))
        if new:
            try:
                self._add(new)
            except BaseException:
                self._names = frozenset()  # to be found again
                raise

    def _open(self, found: folder.Found) -> Reader | None:
        try:
            return Reader.of_file(found.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            # Out of descriptors or memory, a disk that does not answer: it may be well, later.
            self._names = frozenset()
            logger.warning("bamboo-audit cannot open the segment %s now: %s", found.path, error)
            return None
        except SpoolCorrupted as error:
            aside = found.path.with_suffix(".bad")
            logger.error(
                "bamboo-audit cannot read the segment %s: %s It is kept as %s; what it held is "
                "told by a gap record.",
                found.path,
                error,
                aside.name,
            )
            with suppress(OSError):
                found.path.rename(aside)
            gaps.tell(found.writer_id, Hole(0, None, "a segment could not be read"))
            return None

    def _add(self, readers: list[Reader]) -> None:
        """Register the writers of new segments, and see how far their records are."""
        headers = {reader.header.writer_id: reader.header for reader in readers}
        unknown = [header for header in headers.values() if header.writer_id not in self.sources]
        spool = str(self.path or "memory")
        try:
            places = ship.register(
                self.link,
                [
                    ship.Registration(
                        header.writer_id,
                        str(header.about.get("host", "")),
                        int(header.about.get("pid", 0)),
                        str(header.about.get("kind", "")),
                        spool,
                        header.about.get("started_at"),
                    )
                    for header in unknown
                ],
            )
        except BaseException:
            for reader in readers:
                reader.close()
            raise
        for reader in readers:
            writer_id = reader.header.writer_id
            source = self.sources.get(writer_id)
            if source is None:
                source = self.sources[writer_id] = Source(writer_id, self._newest, self._elsewhere)
                source.add(reader)
                source.seek(*places[writer_id])
            else:
                source.add(reader)

    def _newest(self, writer_id: uuid.UUID) -> int:
        """The number of a writer's newest segment that is in the folder now, shipped or not."""
        return folder.newest(self.path, writer_id) if self.path is not None else 0

    def _elsewhere(self, writer_id: uuid.UUID, sequence: int) -> bool:
        """Whether a file that is not open here has what comes before a segment."""
        opened = {reader.header.sequence for reader in self.sources[writer_id].readers}
        return any(
            each.writer_id == writer_id and each.sequence < sequence and not each.shipped
            for each in folder.segments(self.path or folder.place())
            if each.sequence not in opened
        )

    def _last_shipped(self, writer_id: uuid.UUID) -> int:
        return max(
            (each.last or 0 for each in self._done.values() if each.writer_id == writer_id),
            default=0,
        )

    # The log went back in time, or was moved on by another shipper.

    def _went_back(self, writer_id: uuid.UUID, place: ship.Place) -> None:
        """Have the log once more what it has lost, from the segments that were kept for that."""
        source = self.sources.get(writer_id)
        if source is None:
            source = self.sources[writer_id] = Source(writer_id, self._newest, self._elsewhere)
        for found in list(self._done.values()):
            if found.writer_id == writer_id and (found.last or 0) > place.position:
                path = found.path.with_name(folder.name_of(writer_id, found.sequence))
                with suppress(FileNotFoundError):
                    rename_now(found.path, path)
                    source.add(Reader.of_file(path))
                self._done.pop(found.path, None)
        if place.position < source.position or source.position == 0:
            logger.warning(
                "bamboo-audit: the log in database %r is at record %d of writer %s and was further "
                "before; what is missing is sent again.",
                self.link.using,
                place.position,
                writer_id,
            )
        source.went_back = True
        source.seek(*place)

    def find_again(self) -> None:
        """Ask the log where every writer is, and begin again from there."""
        places = ship.positions(self.link, self.sources)
        for writer_id, source in list(self.sources.items()):
            place = places.get(writer_id)
            if place is None:
                # Its row is gone: made known again when its segments are found again.
                self._forget(source)
            elif place.position < source.position:
                self._went_back(writer_id, place)
            else:
                source.seek(*place)

    def _forget(self, source: Source) -> None:
        for reader in source.readers:
            reader.close()
        self.sources.pop(source.writer_id, None)
        self._names = frozenset()
        self._discovered_at = float("-inf")

    def heartbeat(self) -> bool:
        """Say that the writers are alive, and see that the log has what it had; whether now."""
        now = time.monotonic()
        waits = any(source.waits for source in self.sources.values())
        if now - self._heartbeat_at < (WAITING if waits else HEARTBEAT):
            return False
        alive = [source for source in self.sources.values() if not source.ended]
        reached = ship.keep_alive(self.link, [source.writer_id for source in alive])
        if (
            any(reached.get(source.writer_id, -1) != source.position for source in alive)
            or self._log_lost_shipped()
        ):
            self.find_again()
        if self.path is not None:
            folder.drop_drafts(self.path)
        self._heartbeat_at = now
        return True

    def doubt(self) -> None:
        """Nobody knows what the log has: it is asked before anything else is sent."""
        self._heartbeat_at = float("-inf")

    def _log_lost_shipped(self) -> bool:
        """Whether a writer that is done with is not where its shipped segments say."""
        done = {each.writer_id for each in self._done.values()} - set(self.sources)
        lost = False
        for writer_id, place in ship.positions(self.link, done).items():
            if self._last_shipped(writer_id) > place.position:
                self._went_back(writer_id, place)
                lost = True
        return lost

    def put_away(self) -> None:
        """Segments and writers whose records are all in the log."""
        for source in list(self.sources.values()):
            if ended := source.ending():
                try:
                    ship.end(self.link, source.writer_id, ended)
                except BaseException:
                    source.ended = ""  # told the next time
                    raise
            for reader in source.finished():
                with suppress(FileNotFoundError):
                    mark_shipped(reader)
                if reader.path is None:
                    writer.let_go((reader.header.writer_id, reader.header.sequence))
                reader.close()
            if source.ended and not source.readers:
                del self.sources[source.writer_id]
