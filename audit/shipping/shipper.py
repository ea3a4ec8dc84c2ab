"""One shipper: what its spool holds goes into the log, in batches, each exactly once."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Final, NamedTuple

from audit.capture import row
from audit.exceptions import FenceMoved, RecordRefused
from audit.log import ship
from audit.log.link import Link
from audit.shipping import gaps, quarantine
from audit.shipping.caretaker import Caretaker
from audit.shipping.clock import Clock
from audit.shipping.lookups import FollowUps
from audit.shipping.shelf import Shelf
from audit.shipping.source import Source
from audit.spool.reader import Chunk
from audit.spool.writer import NEVER, writer

BATCH_ROWS: Final = 4_000
BATCH_BYTES: Final = 8 << 20
WORTH_IT: Final = 280
"""Records for which a batch does not wait. At 10,000 events a second that is 28 ms; at some
hundred a second FLUSH_INTERVAL decides, because each batch is a commit that the disk confirms,
and where the engine's database is on the same server its commits wait for that."""
_BEGIN: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)


class Batch(NamedTuple):
    """What goes into the log in one transaction. ``rows``: pieces of one row or of many."""

    rows: list[bytes]
    steps: list[ship.Step]
    sources: list[Source]
    chunks: list[Chunk]

    @property
    def records(self) -> int:
        """How many records that is."""
        return sum(len(chunk.lengths) for chunk in self.chunks)


class Shipper:
    """Ships one spool folder (None: only this process's memory). Not for two threads at once."""

    def __init__(self, path: Path | None, using: str, follow_ups: FollowUps | None = None) -> None:
        self.link = Link(using)
        self.clock = Clock()
        self.shelf = Shelf(path, self.link)
        self.follow_ups = follow_ups or FollowUps()
        self.caretaker = Caretaker(self.link)
        self.shipped = 0
        """Records shipped so far."""
        self._turn = 0

    def cycle(self, *, look: bool = False) -> int:
        """Ship what is there, one batch at most; answers how many records that was.

        ``look``: for new segments now.

        Raises:
            LogUnavailable: try again later; nothing is lost.
        """
        self.shelf.discover(now=look)
        if self.shelf.is_empty:
            return 0
        if self.shelf.heartbeat():
            self.clock.measure(self.link)
        batch = self._gather()
        if batch.steps and not self._send(batch):
            return 0
        self.shelf.put_away()
        self.follow_ups.tell()
        self.caretaker.look()
        return batch.records

    def drain(self, deadline: float) -> bool:
        """Ship until nothing waits, or until ``deadline`` (``time.monotonic()``); whether all was.

        Raises:
            LogUnavailable: as ``cycle``.
        """
        while True:
            looked = not self.has_more()
            shipped = self.cycle(look=looked)
            # A gap that was told just now is in a segment that has to be found first.
            nothing = looked and not shipped and not self.has_more()
            if nothing and not self.follow_ups.tell(now=True):
                return True
            if time.monotonic() > deadline:
                return False
            if not shipped:
                time.sleep(0.01)  # waiting for what another ships, or is being written

    def has_more(self) -> bool:
        """Whether something waits: looks at memory only."""
        return any(source.has_more() for source in self.shelf.sources.values())

    def has_many(self) -> bool:
        """Whether so much waits that it is worth a transaction now: looks at memory only."""
        sources = self.shelf.sources
        mine = sources.get(writer.id)
        if mine is not None and writer.position - mine.position >= WORTH_IT:
            return True  # in whichever of its segments
        share = max(WORTH_IT // max(len(sources), 1), 1)
        return any(source.has_more(share) for source in sources.values())

    def have_it_rung(self) -> None:
        """Have this process's writer say when so much of it waits: then nobody has to look.

        Not where so much waits already, or each event would ring: then ``has_many`` says so.
        """
        source = self.shelf.sources.get(writer.id)
        if source is not None:
            at = source.position + WORTH_IT
            writer.ring_at = at if at > writer.position else NEVER

    def is_rung(self) -> bool:
        """Whether whoever may have much for it will wake it, so that nobody has to look."""
        known = writer.id in self.shelf.sources
        return known and writer.position < writer.ring_at < NEVER and not self.has_others()

    def has_others(self) -> bool:
        """Whether it ships for other processes, which cannot wake it."""
        return bool(self.shelf.sources.keys() - {writer.id})

    def close(self) -> None:
        """Let go of files and connection."""
        self.shelf.close()
        self.link.close()

    def _gather(self) -> Batch:
        batch = Batch([], [], [], [])
        left, room = BATCH_ROWS, BATCH_BYTES
        # Another one first each time, so that a busy writer does not keep the others waiting.
        order = list(self.shelf.sources.values())
        self._turn += 1
        turn = self._turn % max(len(order), 1)
        for source in order[turn:] + order[:turn]:
            if left <= 0 or room <= 0:
                break
            chunks, holes = source.read(left, room)
            for hole in holes:
                gaps.tell(source.writer_id, hole)
            if source.reached == source.position:
                continue
            count = sum(len(chunk.lengths) for chunk in chunks)
            left -= count
            room -= sum(len(chunk.data) for chunk in chunks)
            for chunk in chunks:
                batch.rows.extend(self._rows(source, chunk))
            batch.chunks.extend(chunks)
            batch.sources.append(source)
            batch.steps.append(
                ship.Step(
                    source.writer_id,
                    source.position,
                    source.reached,
                    source.reached - source.position - count,
                    source.last_at if chunks else None,
                )
            )
        return batch

    def _rows(self, source: Source, chunk: Chunk) -> list[bytes]:
        """A chunk's rows in the database's time, which never goes back within a writer.

        In one piece where nothing is to be changed: within a chunk times do not go back.
        """
        behind, latest = self.clock.behind, _microseconds(source.last_at)
        asked = any(chunk.flags)
        if not behind and not asked and row.occurred_us(chunk.data) >= latest:
            last = row.occurred_us(chunk.data[-chunk.lengths[-1] :])
            source.last_at = _moment(last)
            return [chunk.data]
        rows = []
        for each in chunk.rows():
            said = row.occurred_us(each)
            latest = max(said + behind, latest)
            rows.append(each if latest == said else row.at_time(each, latest))
        source.last_at = _moment(latest)
        return self.follow_ups.look(self.link, chunk.flags, rows) if asked else rows

    def _send(self, batch: Batch) -> bool:
        """Whether it is in the log now; not where a writer was elsewhere: then ask again."""
        try:
            ship.append(self.link, batch.rows, batch.steps)
        except FenceMoved:
            for source in batch.sources:
                source.undo()
            self.shelf.find_again()
            return False
        except RecordRefused as error:
            try:
                rows = [each for piece in batch.rows for each in row.split(piece)]
                quarantine.append(self.link, rows, batch.steps, error, self.shelf.path)
            except BaseException:
                self._undo(batch)
                raise
        except BaseException:
            self._undo(batch)
            raise
        for source in batch.sources:
            source.keep()
        self.shipped += batch.records
        return True

    def _undo(self, batch: Batch) -> None:
        """Not in the log, or nobody knows: the next time the log is asked where everybody is."""
        for source in batch.sources:
            source.undo()
        self.shelf.doubt()


def _microseconds(moment: datetime.datetime) -> int:
    if moment.year == 1:
        return 0
    return (moment - _BEGIN) // datetime.timedelta(microseconds=1)


def _moment(us: int) -> datetime.datetime:
    return _BEGIN + datetime.timedelta(microseconds=us)
