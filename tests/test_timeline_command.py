"""A run in the terminal."""

from __future__ import annotations

import datetime
import io
import json

import pytest
from django.core.management import CommandError, call_command
from lab.by_hand import WEB, Records
from lab.projected import catch_up
from lab.stored import moment, store

from audit import terminal, timeline

pytestmark = pytest.mark.django_db(databases="__all__")

NOISE = "\x1b[31m\x07 red\r\n[bold]not bold[/bold] 发布 \u202e"


@pytest.fixture
def records():
    found = Records()
    found.start({"task_id": 42})
    found.runs("a")
    found.add("node_execute_fail", "a")
    found.state("a", "FAILED")
    cause = {"actor": "alice", "executor": "admin", "reason": f"the disk {NOISE}"}
    found.add("pre_retry_node", "a", by=WEB, context=cause)
    found.state("a", "READY", "v2", by=WEB)
    found.add("post_retry_node", "a", by=WEB)
    found.runs("a", "v2")
    found.add("node_execute_exception", "a", ex_data=f"{NOISE}\nValueError: no")
    found.state("a", "FAILED", "v2")
    found.state("sub", "RUNNING", loop=1)
    found.state("b", "RUNNING", loop=1)
    found.add("pre_execute", "b")
    found.add("post_execute", "b")
    return found


def shown(*arguments, **options):
    out = io.StringIO()
    call_command("audit_timeline", *arguments, stdout=out, **options)
    return out.getvalue()


def test_it_says_what_happened_in_80_columns(records):
    store(records.all)
    text = shown("run")
    lines = text.splitlines()
    assert max(map(len, lines)) < 80
    assert lines[0].startswith("Release  RUNNING  begun 1 h 00 min ago")
    assert lines == [line.rstrip() for line in lines]
    for part in (
        *("tags     task_id=42", "A ", "└ attempt 1", "└ attempt 2", "FAILED"),
        *("A, attempt 2: ValueError: no", "retry_node A", "done", "alice (executor admin)"),
        *("A failed; waits for a retry or a skip", "verdict  waiting"),
        *("B waits for a callback, or its first poll", "4 nodes were not reached."),
    ):
        assert part in text, text
    order = [next(n for n, line in enumerate(lines) if name in line) for name in ("SubP", "  B ")]
    assert order[1] == order[0] + 1, "what is in a subprocess is beneath it"


def test_nothing_of_it_is_obeyed_by_the_terminal(records):
    store(records.all)
    text = shown("run")
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "[bold]not bold[/bold]" in text.replace("\n", " ") or "[bold]not" in text


def test_it_shows_any_instant(records, settings):
    began = store(records.all)
    failed = next(each for each in records.all if each.event_type == "node_execute_fail")
    text = shown("a", at=moment(began, failed).isoformat())
    assert "as it stood at" in text
    assert "retry_node" not in text
    assert "RUNNING" in text
    settings.TIME_ZONE = "Asia/Shanghai"
    local = (began + datetime.timedelta(hours=8, seconds=1)).replace(tzinfo=None)
    assert "retry_node" in shown("run", at=local.isoformat())


def test_it_is_found_by_a_tag(records):
    store(records.all)
    with pytest.raises(CommandError, match="audit_replay"):
        shown(tag="task_id=42")
    catch_up()
    assert shown(tag="task_id=42").startswith("Release")
    other = [
        each._replace(
            node_id="", writer_id="other", data={"pipeline": {"id": "run2", "name": "Again\x1b"}}
        )
        for each in records.all[:1]
    ]
    store(other, root="run2")
    catch_up()
    with pytest.raises(CommandError, match="Several runs") as raised:
        shown(tag="task_id=42")
    assert "run2" in str(raised.value)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((), {}, "Name a run"),
        (("run",), {"tag": "a=b"}, "not by both"),
        (("",), {}, "no record of ''"),
        ((), {"tag": "a=\0"}, "no text that a tag may have"),
        ((), {"tag": "a=\udcff"}, "no text that a tag may have"),
        (("nobody",), {"at": "9999-12-31T23:59:59-12:00"}, "no such time"),
        (("nobody",), {"at": "0001-01-01T00:00:00+12:00"}, "no such time"),
        ((), {"tag": "a"}, "NAME=VALUE"),
        (("nobody",), {}, "no record of 'nobody'"),
        (("nobody",), {"at": "yesterday"}, "no such time"),
        (("nobody",), {"at": "2026-02-31T00:00:00"}, "no such time"),
    ],
)
def test_a_mistake_is_told(arguments, options, words):
    with pytest.raises(CommandError, match=words):
        shown(*arguments, **options)


def test_json_is_the_whole_timeline(records):
    store(records.all)
    assert json.loads(shown("run", json=True)) == json.loads(
        json.dumps(timeline.load("run").as_dict())
    ) | {"waiting": json.loads(shown("run", json=True))["waiting"]}


def test_an_output_that_takes_no_such_signs_gets_plain_ones(records):
    store(records.all)
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal.show(timeline.load("run"), out)
    out.flush()
    text = out.buffer.getvalue().decode("ascii")
    assert "` attempt 1" in text
    assert "#" in text


def test_states_that_are_inferred_are_said_to_be(records):
    store([each for each in records.all if each.event_type != "post_set_state"])
    assert "States are inferred" in shown("run")
