"""Which events somebody asks for, looked at before the first one is sent."""

from __future__ import annotations

import datetime
import difflib
import hashlib
import json
from collections.abc import Iterable
from typing import Final

from audit import conf, timeline
from audit.events import ENGINE_EVENTS, OTHER_EVENTS
from audit.exceptions import AuditError
from audit.log import redeliveries
from audit.log.redeliveries import PREFIX, Wanted

NOT_SENT: Final = tuple(event_type.name for event_type in OTHER_EVENTS)
"""Records that are no ``pipeline_event``: the recorder's own, and the engine's other signal."""
_SENT: Final = tuple(event_type.name for event_type in ENGINE_EVENTS)


def wanted(
    *,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
    event_types: Iterable[str] = (),
    ids: Iterable[str] = (),
) -> Wanted:
    """Events from ``since`` to ``until`` (exclusive), of some types, of some runs.

    ``ids``: of runs, or of subprocesses or nodes of theirs. Both times are aware.

    Raises:
        AuditError: nothing can be of that type or of that time.
        NotRecorded: the log has nothing of an id.
        LogUnavailable: the log's database cannot be asked.
    """
    if since is not None and until is not None and since >= until:
        raise AuditError(
            f"Nothing is since {since} and before {until}: the first of the two is to be earlier."
        )
    types = sorted(set(event_types))
    for name in types:
        _check_type(name)
    roots = {timeline.find_root(each) for each in ids}
    return Wanted(since, until, tuple(types), tuple(sorted(roots)))


def _check_type(name: str) -> None:
    if name in _SENT:
        return
    if name in NOT_SENT:
        raise AuditError(
            f"Event type {name!r} is not one that pipeline_event sends, so its receivers are never "
            f"given it. They are given: {', '.join(_SENT)}."
        )
    # Of an engine newer than this vocabulary, perhaps.
    if name.isprintable() and redeliveries.is_recorded(conf.get("DATABASE"), name):
        return
    near = difflib.get_close_matches(name, _SENT, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    raise AuditError(
        f"The log has no event of type {name!r}, and the engine sends none.{meant} It sends: "
        f"{', '.join(_SENT)}."
    )


def name_of(path: str, of: Wanted) -> str:
    """Under which it is kept how far a redelivery is: the same receiver and the same events."""
    said = json.dumps(
        [
            [at and at.astimezone(datetime.UTC).isoformat() for at in (of.since, of.until)],
            of.event_types,
            of.roots,
        ]
    )
    return f"{PREFIX}{path}:{hashlib.sha256(said.encode()).hexdigest()[:12]}"
