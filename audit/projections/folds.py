"""Folds of long runs that go on where they were, so that a batch costs what its records cost.

Records of one run come late as a rule: of two processes that serve it each ships for itself. So a
fold is kept up to an instant some time before the run's newest record, and what occurred after that
is read and applied once more with each batch, to a fork. Where a record is older than that, the run
is folded again as a whole, and from then on kept further back.

Records never change, so what is kept is right whoever else catches up in between: he need only be
asked for the runs that he had records of.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final, NamedTuple

from audit.events import POST_PREPARE, PRE_PREPARE
from audit.fold import RunTimeline, fold, is_state_change
from audit.fold.record import Record, in_order
from audit.fold.results import Node
from audit.fold.run import RunBuilder
from audit.log import checkpoints, shards
from audit.log.checkpoints import Touched

KEEP_FROM: Final = 500
"""Records; a shorter run is folded as a whole in less time than keeping it takes."""
MOST: Final = 200_000
"""Records of all runs that are kept, but for the one that was folded last."""
FIRST_LAG: Final = 200_000
MOST_LAG: Final = 30_000_000
"""Microseconds that a fold is kept behind its run's newest record."""
FAR: Final = 50_000
"""Positions by which somebody else may have gone further without our beginning anew."""
_PREPARE: Final = frozenset({PRE_PREPARE, POST_PREPARE})


class News(NamedTuple):
    """The timeline of a run, and what has to be written of it."""

    run: RunTimeline
    nodes: frozenset[str] | None = None
    """The nodes that may be other than they were; None: all. Of a refused operation it is known
    only when its process goes on; that is in no row of its node."""
    memo: dict[str, Any] | None = None
    """What was noted of nodes that are as they were; notes are kept until the node changes."""
    since: int = 0
    """What was over by then is as it was, of these nodes too; in microseconds."""


class _Kept:
    """One run: its fold up to an instant."""

    def __init__(self, root: str, lag: int) -> None:
        self.lag = lag
        self.size = 0
        self.edge = self.newest = 0
        """Up to when it is folded, and its newest record: microseconds."""
        self._builder = RunBuilder(root)
        self._low = 0
        """No record after the edge is at a lower position."""
        self._known: dict[str, Node] = {}
        self._memo: dict[str, Any] = {}

    def begin(self, records: Iterable[Record], until: int) -> RunTimeline | None:
        """Fold it as a whole; None where it cannot be kept."""
        ordered = [each for each in in_order(records) if each.position <= until]
        if not ordered:
            return None
        done, rest = self._parted(ordered)
        if _PREPARE.intersection(each.event_type for each in rest):
            return None
        if not any(map(is_state_change, done)):
            return None  # states are inferred, from all records at once
        self._builder.apply(done)
        run = self._forked(done, rest, until).run
        # A run that never came to be is judged as a whole.
        return run if run.facts.handed_over or not run.facts.started else None

    def go_on(self, using: str, until: int) -> News | None:
        """With the records up to a position; None where they reach back too far."""
        root, since = self._builder.root, self.edge
        ordered = in_order(
            shards.records_since(using, root, self.edge, self._low, until, self._known)
        )
        if _PREPARE.intersection(each.event_type for each in ordered):
            return None
        done, rest = self._parted(ordered)
        if done:
            self._builder.apply(done)
        return self._forked(done, rest, until)._replace(since=since)

    def _parted(self, ordered: list[Record]) -> tuple[list[Record], list[Record]]:
        """What is old enough to be kept, and the rest."""
        if ordered:
            self.newest = max(self.newest, ordered[-1].at)
            self.edge = max(self.edge, self.newest - self.lag)
        split = len(ordered)
        while split and ordered[split - 1].at > self.edge:
            split -= 1
        return ordered[:split], ordered[split:]

    def _forked(self, done: list[Record], rest: list[Record], until: int) -> News:
        named = _named(rest)
        fork = self._builder.fork(named)
        if rest:
            fork.apply(rest)
        changed = frozenset(named | _named(done))
        for each in changed:
            self._known.pop(each, None)
            self._memo.pop(each, None)
        run = fork.result(self._known)
        self._known = {**run.nodes}
        self.size += len(done)
        self._low = min((each.position for each in rest), default=until + 1)
        return News(run, changed, self._memo)


class Folds:
    """Those of one projection in this process."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        """The one that was used last is the last."""
        self._lags: dict[str, int] = {}
        self._position: int | None = None
        """Of no later records anything is known; None: in the middle of a batch, or it failed."""

    def begin(self, using: str, after: int, until: int, touched: dict[str, Touched]) -> None:
        """Before the runs of a batch: let go of those that it reaches back to."""
        position, self._position = self._position, None
        if position is None or not position <= after <= position + FAR:
            self._kept.clear()
        elif position < after and self._kept:
            self._look(checkpoints.touched_runs(using, position, after))
        self._look(touched)

    def end(self, until: int) -> None:
        """All runs of the batch were folded."""
        self._position = until

    def forget(self, root: str) -> None:
        """Fold it as a whole the next time."""
        self._kept.pop(root, None)

    def has(self, root: str) -> bool:
        """Whether a run is gone on with, and not folded as a whole."""
        return root in self._kept

    def go_on(self, using: str, root: str, until: int) -> News | None:
        """The timeline of a run that is kept."""
        kept = self._kept.pop(root)
        news = kept.go_on(using, until)
        if news is None:
            return self.whole(root, shards.records(using, [root])[root], until)
        self._keep(root, kept)
        return news

    def whole(self, root: str, records: list[Record], until: int) -> News | None:
        """The timeline of a run from all of its records; None where there are none."""
        if len(records) >= KEEP_FROM:
            kept = _Kept(root, self._lags.get(root, FIRST_LAG))
            begun = kept.begin(records, until)
            if begun is not None:
                self._keep(root, kept)
                return News(begun)
        run = fold(root, records)
        return None if run is None else News(run)

    def _look(self, touched: dict[str, Touched]) -> None:
        for root, found in touched.items():
            kept = self._kept.get(root)
            if kept is None or not (found.rootless or (found.first_at or kept.newest) <= kept.edge):
                continue
            self.forget(root)
            if found.first_at is not None:
                late = kept.newest - found.first_at
                self._lags[root] = min(max(2 * late, kept.lag), MOST_LAG)

    def _keep(self, root: str, kept: _Kept) -> None:
        self._kept[root] = kept
        size = sum(each.size for each in self._kept.values())
        while size > MOST and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            size -= self._kept.pop(oldest).size
            self._lags.pop(oldest, None)


_ABOUT: Final = attrgetter("node_id", "pipeline_id")


def _named(records: Iterable[Record]) -> set[str]:
    """The nodes and pipelines that records name."""
    return {each for about in map(_ABOUT, records) for each in about if each}
