"""A run's timeline for a terminal: reads well at 80 columns, and when it is piped."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from io import StringIO
from typing import IO, Final

from django.utils import timezone
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.fold import waiting
from audit.fold.results import Cause, Intervention, Node
from audit.fold.waiting import Wait
from audit.terminal.bars import BAR, COLOURS, Marks, Scale
from audit.timeline import Timeline
from audit.words import duration, moment, plain

WIDTH: Final = 79
"""Columns where nobody says how many there are: into a pipe or a file."""
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
    waiting.BETWEEN: "is done, or begun; what follows waits for a worker",
}


def show(timeline: Timeline, stream: IO[str]) -> None:
    """Print a run: what it is, its nodes, what people did, what it waits for, the verdict."""
    encoding, is_terminal = getattr(stream, "encoding", None) or "utf-8", stream.isatty()
    text = StringIO()
    console = Console(
        file=text,
        highlight=False,
        force_terminal=is_terminal,
        width=shutil.get_terminal_size().columns if is_terminal else WIDTH,
    )
    marks = Marks(encoding)
    for line in _header(timeline):
        console.print(line)
    console.print(_nodes(timeline, marks))
    unreached = sum(not node.state for node in timeline.nodes.values())
    if unreached:
        were = "node was" if unreached == 1 else "nodes were"
        console.print(Text(f"{unreached} {were} not reached.", style="dim"))
    for line in _errors(timeline):
        console.print(line)
    if timeline.interventions:
        console.print(_interventions(timeline))
    for wait in timeline.waiting():
        console.print(_wait(timeline, wait))
    for line in _verdict(timeline):
        console.print(line)
    # A terminal that has no such letters shows something else for them, and goes on.
    lines = (line.rstrip(" ") for line in text.getvalue().splitlines())
    stream.write("\n".join(lines).encode(encoding, "replace").decode(encoding) + "\n")


def _end(timeline: Timeline) -> datetime.datetime:
    """The run's own, else now: in a run that was revoked nodes may be RUNNING for ever."""
    return timeline.pipeline.finished_at or timeline.now


def _header(timeline: Timeline) -> Iterator[Text]:
    run = timeline.pipeline
    title = Text(plain(run.place.name or "(no name)"), style="bold")
    title.append("  ").append(_state(run.state or "not begun"))
    if run.started_at is not None:
        took = duration(_end(timeline) - run.started_at)
        said = f"took {took}" if run.finished_at is not None else f"begun {took} ago"
        title.append(f"  {said}", style="not bold")
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
    scale = Scale(timeline)
    for node, depth in _reached(timeline):
        name = Text("  " * depth + plain(_name(node)))
        if node.place.node_id == timeline.asked_for:
            name.stylize("bold reverse")
        table.add_row(
            name, _node_state(node), _took(node, timeline), scale.bar(node.attempts, marks)
        )
        for attempt in node.attempts if len(node.attempts) > 1 else ():
            label = f"{'  ' * depth} {marks.branch} attempt {attempt.no}"
            took = duration((attempt.ended_at or _end(timeline)) - attempt.started_at)
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
            inside.setdefault(_shown_parent(timeline, node), []).append(node)
    pending = [(node, 0) for node in _by_time(inside.get(timeline.root_pipeline_id, []))]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        children = inside.pop(node.place.node_id, [])
        pending += [(child, depth + 1) for child in _by_time(children)]


def _shown_parent(timeline: Timeline, node: Node) -> str:
    """The nearest one around it that is shown: of a subprocess records may be missing."""
    seen: set[str] = set()
    parent = node.place.parent_id
    while parent not in seen and parent in timeline.nodes:
        if timeline.nodes[parent].state:
            return parent
        seen.add(parent)
        parent = timeline.nodes[parent].place.parent_id
    return timeline.root_pipeline_id


def _by_time(nodes: list[Node]) -> list[Node]:
    """The last one first, as a stack takes them."""
    return sorted(
        nodes,
        key=lambda node: (node.transitions[0].entered_us, node.transitions[0].cause.position),
        reverse=True,
    )


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
        total += (attempt.ended_at or _end(timeline)) - attempt.started_at
    return duration(total)


def _interventions(timeline: Timeline) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    table.add_column("when", no_wrap=True)
    table.add_column("what", ratio=2)
    table.add_column("outcome", no_wrap=True)
    table.add_column("who and why", ratio=3)
    for each in timeline.interventions:
        table.add_row(
            _when(timeline, each.at),
            Text(f"{each.operation} {_node_name(timeline, each.node_id)}"),
            Text(each.outcome, style="" if each.outcome == "done" else "yellow"),
            Text(_who_and_why(each)),
        )
    return table


def _when(timeline: Timeline, at: datetime.datetime) -> str:
    """The time of day, and the day where that is not the one on which the run began."""
    local, began = timezone.localtime(at), timezone.localtime(timeline.facts.first_at)
    time = f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"
    return time if local.date() == began.date() else f"{local:%m-%d} {time}"


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
        found.append(f"; {wait.polls} poll{'' if wait.polls == 1 else 's'}")
    if wait.last_poll_at is not None:
        found.append(f", the last one at {moment(wait.last_poll_at)[11:]}")
    if wait.next_poll_at is not None:
        found.append(f", the next one at about {moment(wait.next_poll_at)[11:]}")
    if wait.node_id != timeline.root_pipeline_id:
        found.append(f"; node {plain(wait.node_id)}")
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
