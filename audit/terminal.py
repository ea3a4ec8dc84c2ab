"""A run's timeline for a terminal: reads well at 80 columns, and when it is piped."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import IO, Final

from django.utils import timezone
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.fold import waiting
from audit.fold.results import EXECUTING, Attempt, Cause, Intervention, Node
from audit.fold.waiting import Wait
from audit.timeline import Timeline
from audit.words import duration, moment, plain

WIDTH: Final = 79
"""Columns where nobody says how many there are: into a pipe or a file."""
BAR: Final = 22
COLOURS: Final = {
    "FINISHED": "green",
    "FAILED": "red",
    "REVOKED": "magenta",
    "RUNNING": "cyan",
    "SUSPENDED": "yellow",
    "complete": "green",
    "running": "cyan",
    "waiting": "yellow",
    "incomplete": "red",
    "suspect": "red",
}
WHY: Final = {
    waiting.EXECUTING: "is executing",
    waiting.POLLING: "is polled",
    waiting.SCHEDULED: "waits for a callback, or its first poll",
    waiting.CALLBACK: "waits for a callback",
    waiting.CALLED_BACK: "was called back; waits for a worker",
    waiting.PAUSED: "is paused",
    waiting.CONVERGING: "waits for its other branches",
    waiting.FAILURE: "failed; waits for a retry or a skip",
    waiting.READY_TO_RUN: "is ready; waits for a worker",
    waiting.HAND_OVER: "was begun, and never given to a worker",
    waiting.BETWEEN: "has no node under way; the next one waits for a worker",
}


class Marks:
    """Signs for bars and branches; plain ones where the output cannot take others."""

    def __init__(self, encoding: str) -> None:
        try:
            "█░·└".encode(encoding)
            self.work, self.wait, self.none, self.branch = "█", "░", "·", "└"
        except (UnicodeEncodeError, LookupError):
            self.work, self.wait, self.none, self.branch = "#", "-", ".", "`"


def show(timeline: Timeline, stream: IO[str]) -> None:
    """Print a run: what it is, its nodes, what people did, what it waits for, the verdict."""
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else WIDTH)
    marks = Marks(getattr(stream, "encoding", None) or "utf-8")
    for line in _header(timeline):
        console.print(line)
    console.print(_nodes(timeline, marks))
    unreached = sum(not node.state for node in timeline.nodes.values())
    if unreached:
        console.print(Text(f"{unreached} nodes were not reached.", style="dim"))
    for line in _errors(timeline):
        console.print(line)
    if timeline.interventions:
        console.print(_interventions(timeline))
    for wait in timeline.waiting():
        console.print(_wait(timeline, wait))
    for line in _verdict(timeline):
        console.print(line)


def _header(timeline: Timeline) -> Iterator[Text]:
    run = timeline.pipeline
    title = Text(plain(run.place.name or "(no name)"), style="bold")
    title.append("  ").append(_state(run.state or "not begun"))
    if run.started_at is not None:
        end = run.finished_at or timeline.now
        verb = "took" if run.finished_at is not None else "for"
        title.append(f"  {verb} {duration(end - run.started_at)}", style="not bold")
    yield title
    yield Text(f"run      {plain(timeline.root_pipeline_id)}")
    if timeline.tags:
        tags = "  ".join(f"{plain(key)}={plain(value)}" for key, value in timeline.tags.items())
        yield Text(f"tags     {tags}")
    zone = f"{timezone.localtime(timeline.now):%Z}"
    if run.started_at is not None:
        yield Text(f"started  {moment(run.started_at)} {zone}{_who(timeline._run.start)}")
    if run.finished_at is not None:
        yield Text(f"finished {moment(run.finished_at)} {zone}")
    if timeline.at is not None:
        yield Text(f"shown    as it stood at {moment(timeline.at)} {zone}", style="yellow")


def _who(cause: Cause | None) -> str:
    if cause is None:
        return ""
    said = f" by {plain(cause.actor)}" if cause.actor else ""
    if cause.executor and cause.executor != cause.actor:
        said += f" (executor {plain(cause.executor)})"
    return said + (f": {plain(cause.reason)}" if cause.reason else "")


def _nodes(timeline: Timeline, marks: Marks) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    table.add_column("node", ratio=1, overflow="ellipsis", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("", width=BAR, no_wrap=True)
    scale = _Scale(timeline)
    for node, depth in _reached(timeline):
        name = Text("  " * depth + plain(_name(node)))
        if node.place.node_id == timeline.asked_for:
            name.stylize("bold reverse")
        table.add_row(
            name, _node_state(node), _took(node, timeline), scale.bar(node.attempts, marks)
        )
        for attempt in node.attempts if len(node.attempts) > 1 else ():
            label = f"{'  ' * depth} {marks.branch} attempt {attempt.no}"
            took = duration((attempt.ended_at or timeline.now) - attempt.started_at)
            bar = scale.bar((attempt,), marks)
            table.add_row(Text(label, style="dim"), _state(attempt.state), took, bar)
    return table


def _errors(timeline: Timeline) -> Iterator[Text]:
    """The last line of every error: of a traceback it is the one that says what happened."""
    for node, _ in _reached(timeline):
        for attempt in node.attempts:
            if lines := attempt.error.strip().splitlines():
                ignored = ", ignored" if attempt.error_ignored else ""
                where = f"{plain(_name(node))}, attempt {attempt.no}{ignored}: "
                yield Text(where).append(plain(lines[-1]), style="red")


def _reached(timeline: Timeline) -> Iterator[tuple[Node, int]]:
    """The nodes in the order in which they began, each subprocess's after it, with their depth."""
    inside: dict[str, list[Node]] = {}
    for node in timeline.nodes.values():
        if node is not timeline.pipeline and node.state:
            parent = node.place.parent_id
            known = parent if parent in timeline.nodes else timeline.root_pipeline_id
            inside.setdefault(known, []).append(node)
    pending = [(node, 0) for node in _by_time(inside.get(timeline.root_pipeline_id, []))]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        children = inside.pop(node.place.node_id, [])
        pending += [(child, depth + 1) for child in _by_time(children)]


def _by_time(nodes: list[Node]) -> list[Node]:
    """The last one first, as a stack takes them."""
    return sorted(
        nodes,
        key=lambda node: (node.transitions[0].entered_us, node.transitions[0].cause.position),
        reverse=True,
    )


class _Scale:
    """From the run's first record to its end, or to now, as columns of a bar."""

    def __init__(self, timeline: Timeline) -> None:
        self.start = timeline.facts.first_at
        over = timeline.pipeline.finished_at is not None
        ends = [timeline.pipeline.finished_at]
        ends += [each.ended_at for node in timeline.nodes.values() for each in node.attempts]
        known = [each for each in ends if each is not None]
        self.end = max(known, default=self.start) if over else timeline.now
        self.span = max(self.end - self.start, datetime.timedelta(microseconds=1))

    def bar(self, attempts: tuple[Attempt, ...], marks: Marks) -> Text:
        cells = [(" ", "")] * BAR
        for attempt in attempts:
            colour = COLOURS.get(attempt.state, "")
            self._fill(cells, attempt.started_at, attempt.ended_at, marks.work, colour)
            for phase in attempt.phases:
                if phase.kind != EXECUTING:
                    self._fill(cells, phase.started_at, phase.ended_at, marks.wait, colour)
        found = Text()
        for sign, colour in cells:
            found.append(sign, style=colour)
        found.rstrip()
        return found

    def _fill(
        self,
        cells: list[tuple[str, str]],
        start: datetime.datetime,
        end: datetime.datetime | None,
        sign: str,
        colour: str,
    ) -> None:
        first = self._column(start)
        for column in range(first, max(self._column(end or self.end), first) + 1):
            cells[column] = sign, colour

    def _column(self, at: datetime.datetime) -> int:
        part = (at - self.start) / self.span
        return min(max(int(part * BAR), 0), BAR - 1)


def _name(node: Node) -> str:
    place = node.place
    return place.name or place.component_code or place.node_type or place.node_id


def _node_state(node: Node) -> Text:
    found = _state(node.state)
    if node.skip:
        found.append(" skipped", style="yellow")
    if node.error_ignored:
        found.append(" error ignored", style="yellow")
    return found


def _state(state: str) -> Text:
    return Text(plain(state), style=COLOURS.get(state, ""))


def _took(node: Node, timeline: Timeline) -> str:
    if not node.attempts:
        return ""
    total = datetime.timedelta()
    for attempt in node.attempts:
        total += (attempt.ended_at or timeline.now) - attempt.started_at
    return duration(total)


def _interventions(timeline: Timeline) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    table.add_column("when", no_wrap=True)
    table.add_column("what", ratio=2)
    table.add_column("outcome", no_wrap=True)
    table.add_column("who and why", ratio=3)
    for each in timeline.interventions:
        table.add_row(
            f"{timezone.localtime(each.at):%H:%M:%S}",
            Text(f"{each.operation} {_node_name(timeline, each.node_id)}"),
            Text(each.outcome, style="" if each.outcome == "done" else "yellow"),
            Text(_who_and_why(each)),
        )
    return table


def _who_and_why(intervention: Intervention) -> str:
    return _who(intervention.cause).removeprefix(" by ").lstrip() or "nobody said"


def _node_name(timeline: Timeline, node_id: str) -> str:
    node = timeline.nodes.get(node_id)
    return plain(_name(node) if node is not None else node_id)


def _wait(timeline: Timeline, wait: Wait) -> Text:
    name = _node_name(timeline, wait.node_id)
    since = duration(max(timeline.now - wait.since, datetime.timedelta()))
    found = Text(f"{name} {WHY[wait.why]}, since {moment(wait.since)} ({since})", style="yellow")
    if wait.cause is not None and (who := _who(wait.cause)):
        found.append(who)
    if wait.on:
        found.append(": " + ", ".join(_node_name(timeline, each) for each in wait.on))
    if wait.polls:
        found.append(f"; {wait.polls} polls")
    if wait.next_poll_at is not None:
        found.append(f", the next one at about {moment(wait.next_poll_at)[11:]}")
    return found


def _verdict(timeline: Timeline) -> Iterator[Text]:
    verdict = timeline.verdict()
    yield Text("verdict  ").append(verdict.kind, style=COLOURS[verdict.kind])
    for reason in verdict.reasons:
        names = ", ".join(_node_name(timeline, each) for each in reason.nodes[:5])
        more = f" ({names})" if names else ""
        records = ", ".join(str(each) for each in reason.positions[:5])
        more += f" (records {records})" if records else ""
        yield Text(f"         {reason.text}{more}")
    if not timeline.facts.states_recorded:
        yield Text("         States are inferred: changes of state were not recorded.")
