"""Send recorded events again, in the order of the log, to one receiver."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from audit import conf
from audit.capture.text import describe
from audit.exceptions import ReceiverFailed, SoftTimeLimit
from audit.log import redeliveries, settled
from audit.log.redeliveries import Recorded, Wanted
from audit.redelivery import receiver
from audit.redelivery.event import SENDER, SIGNAL, ReplayedEvent
from audit.redelivery.hold import Hold
from audit.redelivery.wanted import NOT_SENT, name_of
from audit.shipping.sidecar import Stop

PAGE: Final = 20
"""Events that are read at once: each may take MAX_EVENT_BYTES."""
REACH: Final = 50_000
"""Positions that are looked through at once, where few events are wanted."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a redelivery is."""

    receiver: str
    name: str
    """Of its row in ``ProjectionCheckpoint``."""
    start: int
    """The position that it went on from."""
    position: int
    """The position up to which all is delivered."""
    end: int
    """The position that it is to come to."""
    delivered: int = 0
    skipped: list[int] = field(default_factory=list)
    """Positions that were left out because somebody said so."""

    @property
    def is_finished(self) -> bool:
        return self.position >= self.end


def redeliver(
    path: str,
    wanted: Wanted,
    *,
    anew: bool = False,
    skip: Collection[int] = (),
    stop: Stop | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Send the events that are wanted to the receiver of that dotted path.

    It begins where the same redelivery ended the last time, or ``anew`` at the first position,
    and goes up to the settled head. How far it is, is stored after each event: a process that is
    killed has one event delivered again. ``skip``: positions whose events are left out. It ends
    early when ``stop`` is set, after the event that is under way. ``tell`` is called after each.

    Raises:
        UnknownReceiver: there is no such receiver.
        ReceiverFailed: the receiver raised; what comes before that event is delivered.
        HeadUnsettled: an append does not come to its end.
        LogUnavailable: the log's database cannot be asked.
        AuditError: another process goes on with the same redelivery.
    """
    receive = receiver.load(path)
    using, stop = conf.get("DATABASE"), stop or Stop()
    nodes = redeliveries.nodes_of(using, wanted.roots)
    head, first = settled.head(using), 1
    if wanted.roots:
        first, last = redeliveries.span(using, wanted.roots, nodes)
        head = min(head, last)
    with Hold(using, name_of(path, wanted), anew=anew, stop=stop) as hold:
        start = hold.position
        found = Progress(
            receiver=path,
            name=name_of(path, wanted),
            start=start,
            position=start,
            end=max(start, head),
        )
        if start < first - 1 < head:
            hold.move(first - 1)
        for recorded in _events(using, hold, head, wanted, nodes, stop):
            if recorded is not None:
                if recorded.position in skip:
                    found.skipped.append(recorded.position)
                else:
                    _deliver(path, receive, recorded)
                    found.delivered += 1
                hold.move(recorded.position)
            found.position = hold.position
            tell(found)
            if stop.is_set:
                break
    return found


def _events(
    using: str, hold: Hold, head: int, wanted: Wanted, nodes: Collection[str], stop: Stop
) -> Iterator[Recorded | None]:
    """The events that are wanted, up to the head; None where it went on over a reach of others."""
    while hold.position < head and not stop.is_set:
        until, read = min(hold.position + REACH, head), 0
        page = redeliveries.events(
            *(using, hold.position, until, wanted), nodes=nodes, not_sent=NOT_SENT, most=PAGE
        )
        for read, recorded in enumerate(page, 1):  # noqa: B007
            yield recorded
        if read < PAGE:
            hold.move(until)
            yield None


def _deliver(path: str, receive: Callable[..., Any], recorded: Recorded) -> None:
    """Call the receiver as ``Signal.send`` does, outside of any transaction of ours."""
    try:
        answer = receive(signal=SIGNAL, sender=SENDER, event=ReplayedEvent(recorded))
    except SoftTimeLimit:
        raise
    except Exception as error:
        raise _failed(path, recorded, f"raised {describe(error)}") from error
    if inspect.isawaitable(answer):
        close = getattr(answer, "close", None)
        if close is not None:
            close()  # or Python warns that nobody awaited it
        raise _failed(path, recorded, "answered something to be awaited, which nobody does")


def _failed(path: str, recorded: Recorded, what: str) -> ReceiverFailed:
    return ReceiverFailed(
        f"The receiver {path!r} {what} (for {recorded.event_type} at position "
        f"{recorded.position}). What comes before is delivered. Correct it and go on with the same "
        f"command, without --anew: it begins with that event, or with --skip {recorded.position} "
        "after it."
    )
