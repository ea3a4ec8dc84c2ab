"""What a record does not say itself: its run, and why a node failed. Asked while shipping."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from django.db import Error

from audit import conf, engine
from audit.capture import record, row
from audit.capture.ids import Ids, known_nodes
from audit.events import NODE_FAILURE_DETAIL
from audit.exceptions import AuditError
from audit.log import ship
from audit.log.link import Link
from audit.spool.segment import FAILED, ROOTLESS
from audit.spool.writer import writer

logger = logging.getLogger("audit")

ASK_AFTER: Final = (1.0, 5.0, 30.0)
"""Seconds after a failure was shipped: the engine stores its text after it has set the state."""
MAX_TEXT: Final = 65_536
"""Characters of an error text that are kept."""
MAX_WAITING: Final = 10_000
AT_ONCE: Final = 100


class _Failure(NamedTuple):
    due: float
    tries: int
    ids: Ids


class FollowUps:
    """Runs for records that have none, and error texts for nodes that failed."""

    def __init__(self) -> None:
        self._waiting: deque[_Failure] = deque(maxlen=MAX_WAITING)

    def look(self, link: Link, flags: Sequence[int], rows: list[bytes]) -> list[bytes]:
        """The rows with the runs of those that had none, where anybody knows; notes failures."""
        rootless = []
        for index, said in enumerate(flags):
            if said & ROOTLESS:
                rootless.append(index)
            if said & FAILED:
                self._await(row.parse(rows[index]).record.ids)
        if rootless:
            self._fill_in(link, rootless, rows)
        return rows

    def _fill_in(self, link: Link, rootless: Iterable[int], rows: list[bytes]) -> None:
        parsed = {index: row.parse(rows[index]) for index in rootless}
        asked = {
            index: ids.node_id or ids.pipeline_id
            for index, each in parsed.items()
            if (ids := each.record.ids).node_id or ids.pipeline_id
        }
        known = _roots(link, set(asked.values()))
        for index, of in asked.items():
            if root := known.get(of):
                found = parsed[index]
                ids = found.record.ids._replace(root_pipeline_id=root)
                rows[index] = row.build(found._replace(record=found.record._replace(ids=ids)))

    def _await(self, ids: Ids) -> None:
        self._waiting.append(_Failure(time.monotonic() + ASK_AFTER[0], 1, ids))

    def tell(self, *, now: bool = False) -> int:
        """Record the error texts that are due, or all of them ``now``; answers how many."""
        moment = time.monotonic()
        due: list[_Failure] = []
        while self._waiting and (now or self._waiting[0].due <= moment) and len(due) < AT_ONCE:
            due.append(self._waiting.popleft())
        if not due:
            return 0
        try:
            found = engine.failures({(each.ids.node_id, each.ids.node_version) for each in due})
        except Error as error:
            logger.warning("bamboo-audit could not ask the engine why nodes failed: %s", error)
            found = {}
        told = 0
        for each in due:
            known = found.get((each.ids.node_id, each.ids.node_version))
            if known is not None:
                self._record(each.ids, known)
                told += 1
            elif each.tries < len(ASK_AFTER) and not now:
                again = moment + ASK_AFTER[each.tries]
                self._waiting.append(_Failure(again, each.tries + 1, each.ids))
        return told

    def _record(self, ids: Ids, failure: engine.Failure) -> None:
        data = {
            "root_pipeline_id": ids.root_pipeline_id,
            "node_id": ids.node_id,
            "version": ids.node_version,
            "ex_data": failure.text[:MAX_TEXT],
            "characters": len(failure.text),
            "source": failure.source,
        }
        made = record.make(NODE_FAILURE_DETAIL, data, ids, conf.get("REDACT"), with_context=False)
        try:
            writer.append(row.rest(made))
        except AuditError as error:
            logger.warning("bamboo-audit could not keep why a node failed: %s", error)


def _roots(link: Link, ids: set[str]) -> dict[str, str]:
    """The runs of nodes and pipelines: from memory, else from the log, else from the engine."""
    found = {each: place.root for each in ids if (place := known_nodes.find(each)) is not None}
    if unknown := ids - set(found):
        found |= ship.roots(link, sorted(unknown))
    if unknown := ids - set(found):
        try:
            found |= engine.roots(unknown)
        except Error as error:
            logger.warning("bamboo-audit could not ask the engine for runs of nodes: %s", error)
    return found
