"""What the engine really sent, and what was written of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from pipeline.eri.imp.hooks import PipelineEvent
from pipeline.eri.signals import pipeline_event, post_set_state

from audit import conf
from audit.capture.writer import writer
from audit.events import POST_SET_STATE
from audit.models import PipelineEventRecord


@dataclass(frozen=True)
class Seen:
    """One signal as it was carried, whatever becomes of its data later."""

    event_type: str
    data: Any
    sender: Any
    in_transaction: bool
    """Whether what is recorded of it shares the fate of a transaction of the engine's."""


@dataclass
class Spy:
    """Everything that is sent while it listens, in order."""

    seen: list[Seen] = field(default_factory=list)

    def on_event(self, sender: Any, event: Any, **_: Any) -> None:
        self.see(event.event_type, event.data, sender)

    def on_state(self, sender: Any, **values: Any) -> None:
        values.pop("signal")
        self.see(POST_SET_STATE, values, sender)

    def see(self, event_type: str, data: Any, sender: Any) -> None:
        log = conf.get("DATABASE")
        in_transaction = log in connections and connections[log].in_atomic_block
        self.seen.append(Seen(event_type, copy.deepcopy(data), sender, in_transaction))

    def types(self) -> list[str]:
        return [seen.event_type for seen in self.seen]

    @contextmanager
    def listening(self) -> Iterator[None]:
        with connected(self.on_event, self.on_state):
            yield


def told(signal: Any, names: dict[str, str] | None = None) -> tuple[str, ...]:
    """A signal or a record, short enough to compare; with ``names`` between runs, too."""
    node = signal.data.get("node_id", "")
    name = names[node] if names and node else node
    return signal.event_type, signal.data.get("to_state", ""), name


@contextmanager
def connected(on_event: Any, on_state: Any) -> Iterator[None]:
    """Two more receivers of the engine's signals, after all that are connected now."""
    pipeline_event.connect(on_event, weak=False)
    post_set_state.connect(on_state, weak=False)
    try:
        yield
    finally:
        pipeline_event.disconnect(on_event)
        post_set_state.disconnect(on_state)


def send(event_type: Any, data: Any) -> None:
    """Send a ``pipeline_event`` as the engine does."""
    pipeline_event.send(sender=None, event=PipelineEvent(event_type, data))


def written() -> list[PipelineEventRecord]:
    """The records of this test, in the order in which they were stored.

    Each test is a writer of its own.
    """
    return list(PipelineEventRecord.objects.filter(writer_id=writer._id).order_by("id"))
