"""The straight way of nine events in ten: from the signal to the segment in few steps.

When the engine comes back from a query nothing of ours is in the processor's caches any more, and
each function on the way is felt: 46 to 77 us for a change of state that takes 4 in a loop, and 26
this way. So what a worker's
event and the engine's own change of state share with those before them is looked up here, in few
steps, and whatever is unusual about one (settings, payload, counts that wait) answers False: then
it goes the ordinary way (``delivery.deliver``), which knows every case and fills in what is looked
up here. Both make the same row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from audit import conf
from audit.capture import context, record, redact, row
from audit.capture.failures import failures
from audit.capture.ids import Ids, WorkerIds, known_nodes
from audit.capture.row import JSONB, pack_json, pack_length
from audit.capture.sampling import polls
from audit.delivery import spooled
from audit.events import ENGINE_EVENTS, POST_SET_STATE

_WORKER_IDS: Final = ("root_pipeline_id", "node_id")
_STATE_KEYS: Final = ("node_id", "to_state", "version", "root_id", "parent_id", "loop")
"""The engine's signal, in its order."""
_MAX_STATE: Final = 300
"""Bytes of a change of state as JSON: then none of its ids is one that a column cuts."""


class _Lane(NamedTuple):
    """What holds for one set of settings: the columns of the event types that go this way."""

    settings: object
    secrets: tuple[str, ...]
    names: Mapping[str, bytes]


_lane = _Lane(None, (), {})
_closed = False


def close() -> None:
    """Let everything go the ordinary way in this process from now on."""
    global _closed, _lane
    _closed, _lane = True, _Lane(None, (), {})


def _look(settings: Mapping[str, Any]) -> _Lane:
    """Whether these settings ask for nothing that only the ordinary way does."""
    global _lane
    names: dict[str, bytes] = {}
    secrets = settings["REDACT"]
    plain = settings["DELIVERY"] == "spool" and settings["ENABLED"] is True and not _closed
    if plain and settings["POLL_SAMPLING"] is None:
        left_out = {*settings["EXCLUDE_EVENTS"], *settings["REQUIRE_REASON"]}
        types = [event_type.name for event_type in ENGINE_EVENTS if event_type.ids == _WORKER_IDS]
        if settings["RECORD_STATE_CHANGES"] and redact.tell_nothing(_STATE_KEYS, secrets):
            types.append(POST_SET_STATE)
        for name in types:
            if name not in left_out:
                names[name] = pack_length(len(name)) + name.encode()
    _lane = _Lane(settings, secrets, names)
    return _lane


def worker_event(event_type: Any, data: Any, ids: Ids) -> bool:
    """Record a worker's event that has nothing but its run and node; False where it is unusual.

    Raises:
        as ``delivery.deliver``.
    """
    if type(ids) is not WorkerIds or type(event_type) is not str:
        return False
    settings = conf.current()
    lane = _lane if _lane[0] is settings else _look(settings)
    secrets, names = lane[1], lane[2]
    name = names.get(event_type)
    if name is None or polls.waiting or failures.pending:
        return False
    try:
        about = context.current().encoded.get(None)
        if about is None or about[0] is not secrets or about[1] is not record.process:
            return False
        columns = ids.columns
        if columns is None or columns[0] is not secrets:  # the node's first
            if (encoded := record.flat(data, secrets)) is None:
                return False
            columns = ids.columns = (secrets, row.ids_and_data(ids, encoded))
        said = about[2]
        rest = b"".join((name, columns[1], pack_json(len(said) + 1, JSONB), said))
        spooled.put(event_type, ids[2], None, rest)
    except BaseException as interruption:
        failures.interrupted(event_type, interruption)
        raise
    return True


def state_change(sender: str, values: dict[str, Any]) -> bool:
    """Record a change of state as the engine sends it; False where it is unusual.

    ``sender``: the name of who sent it.

    Raises:
        as ``delivery.deliver``.
    """
    settings = conf.current()
    lane = _lane if _lane[0] is settings else _look(settings)
    secrets, names = lane[1], lane[2]
    name = names.get(POST_SET_STATE)
    if name is None or tuple(values) != _STATE_KEYS or polls.waiting or failures.pending:
        return False
    node, state, version, root_id, parent_id, loop = values.values()
    if not (
        type(node) is type(state) is type(version) is type(root_id) is type(parent_id) is str
        and type(loop) is int
    ):
        return False
    try:
        place = known_nodes.find(node)
        about = context.current().encoded.get(sender)
        if place is None or about is None:
            return False
        if about[0] is not secrets or about[1] is not record.process:
            return False
        if (data := _dumped(values)) is None:
            return False
        run, parent = place
        around = (parent or (node if run == node else "")).encode()
        root, here, mark, said = run.encode(), node.encode(), version.encode(), about[2]
        rest = b"".join(
            (
                *(name, pack_length(len(root)), root, pack_length(len(around)), around),
                *(pack_length(len(here)), here, pack_length(len(mark)), mark),
                *(pack_json(len(data) + 1, JSONB), data, pack_json(len(said) + 1, JSONB), said),
            )
        )
        spooled.put(POST_SET_STATE, node, state, rest)
    except BaseException as interruption:
        failures.interrupted(POST_SET_STATE, interruption)
        raise
    return True


def _dumped(values: dict[str, Any]) -> bytes | None:
    """Texts and a number as JSON; None where it has to spell one of them differently."""
    try:
        data = orjson.dumps(values)
    except (TypeError, ValueError):  # lone surrogates, integers over 64 bit
        return None
    return data if len(data) <= _MAX_STATE and b"\\" not in data else None
