"""Tags that a run is given later: a record of its own, as the log only grows."""

from __future__ import annotations

from typing import Any

from audit import delivery, receivers
from audit.capture.ids import Ids, text_id
from audit.events import RUN_TAGGED
from audit.exceptions import SoftTimeLimit


def tag(root_id: str, /, **tags: Any) -> None:
    """Give a run tags, in the context of the caller; a later tag of a name goes before.

    What keeps it from being recorded is counted and told like an event's, and not raised.

    Raises:
        TypeError: the run's id is no text.
        ValueError: the run's id is empty, or no tag is given.
    """
    if not isinstance(root_id, str):
        raise TypeError(f"root_id must be the id of a run as text, not {root_id!r}")
    if not root_id:
        raise ValueError("root_id is empty: it must be the id of a run")
    if not tags:
        raise ValueError("no tags: give at least one, as in tag(root_id, ticket=7)")
    run = text_id(root_id)
    found = Ids(root_pipeline_id=run, pipeline_id=run)
    try:
        delivery.deliver(RUN_TAGGED, {"tags": tags}, found, None, ())
    except SoftTimeLimit:
        raise
    except Exception as error:
        receivers.report(RUN_TAGGED, found, error)
