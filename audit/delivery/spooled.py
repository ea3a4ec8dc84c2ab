"""Delivery "spool": a record goes into this process's segment, gaps before it."""

from __future__ import annotations

from typing import Any, Final

from audit.capture import record, row
from audit.capture.failures import failures
from audit.events import POST_SET_STATE
from audit.shipping.background import background
from audit.spool.segment import FAILED, ROOTLESS
from audit.spool.writer import writer

_BEGAN: Final = frozenset({"pre_execute", "pre_schedule"})
_WENT_WELL: Final = frozenset({"post_execute", "post_schedule"})
_MAX_OPEN: Final = 10_000

_open_calls: dict[str, None] = {}
"""Nodes whose plugin was called and has not answered that it went well."""


def deliver(made: record.Record, data: Any) -> None:
    """Append one record to the spool.

    Raises:
        SpoolFull: there is no room for it.
    """
    if failures.pending:
        tell_gap()
    event_type, ids, _, _ = made
    state = data.get("to_state") if event_type == POST_SET_STATE else None
    flags = 0 if ids.root_pipeline_id else ROOTLESS
    put(event_type, ids.node_id, state, row.rest(made), flags)


def put(event_type: str, node_id: str, to_state: Any, rest: bytes, flags: int = 0) -> None:
    """Append the row of a record; ``to_state``: of a change of state.

    Raises:
        SpoolFull: there is no room for it.
    """
    if event_type == POST_SET_STATE:
        if _failed(node_id, to_state):
            flags |= FAILED
    elif event_type in _BEGAN:
        _began(node_id)
    elif event_type in _WENT_WELL:
        _open_calls.pop(node_id, None)
    writer.append(rest, flags)
    background.ensure()


def not_recorded(event_type: str, node_id: str) -> None:
    """A poll that is only counted tells all the same whether the plugin's call went well."""
    if event_type in _BEGAN:
        _began(node_id)
    elif event_type in _WENT_WELL:
        _open_calls.pop(node_id, None)


def _began(node_id: str) -> None:
    if len(_open_calls) >= _MAX_OPEN:
        _open_calls.clear()
    _open_calls[node_id] = None


def _failed(node_id: str, to_state: Any) -> bool:
    """Whether a node failed with this state, or its error was ignored.

    The latter has no event: the state is FINISHED, and the plugin's last call did not go well.
    Both are in the same process, one right after the other.
    """
    if to_state == "FINISHED":
        return node_id in _open_calls and _open_calls.pop(node_id, True) is None
    if to_state == "FAILED":
        _open_calls.pop(node_id, None)
        return True
    return False


def tell_gap() -> None:
    """What was missed before goes into the spool before what comes next."""
    gap = failures.take()
    if not gap.count:
        return  # another thread has told it
    try:
        writer.append(row.rest(record.of_gap(gap.as_data())))
    except BaseException:
        failures.give_back(gap)
        raise
