"""What tasks inherit, by real workers in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("celery")

from celery import chain, chord
from celery.states import READY_STATES
from kombu.exceptions import DecodeError
from lab.hosts import within

import audit
from audit.capture import context
from workers import app as host

TESTS = Path(__file__).resolve().parents[1]
POOLS = ["prefork", "threads", "solo", "gevent"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """The broker of all the workers: the app keeps to the first it is given."""
    made: Path = tmp_path_factory.mktemp("broker")
    host.configure(made)
    return made


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """A worker of this pool, working."""
    if request.param == "gevent" and find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    path = [str(Path(audit.__file__).parents[1]), str(TESTS), os.environ.get("PYTHONPATH", "")]
    log = folder / f"{request.param}.log"
    with log.open("wb") as out:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "workers.host", "worker"),
                *("-P", request.param, "-c", "2", "-l", "INFO"),
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ],
            env={**os.environ, host.FOLDER: str(folder), "PYTHONPATH": os.pathsep.join(path)},
            stdout=out,
            stderr=out,
            cwd=folder,
            start_new_session=True,
        )
    try:
        for _ in within(30):
            if b" ready." in log.read_bytes():
                break
        yield str(request.param)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)  # its children, too
        worker.wait()
        text = log.read_text("utf-8", "replace")
        assert "bamboo-audit:" not in text, text


def result(task_id: str) -> Any:
    """What a task answered, or raises what it raised."""
    ready = False
    for _ in within(15):
        with suppress(DecodeError, ValueError):  # it is being written
            ready = host.app.backend.get_task_meta(task_id)["status"] in READY_STATES
        if ready:
            break
    return host.app.AsyncResult(task_id).get(timeout=20)


def answered(sent: Any) -> Any:
    return result(sent.id)


def own(found: dict[str, Any]) -> set[str]:
    return {"actor", "reason", "source"} & found.keys()


def test_a_task_inherits_from_whoever_sent_it(pool):
    with audit.context(actor="alice", executor="admin", reason="why", source="page", ticket=7):
        sent = host.look.delay()
    found = answered(sent)

    assert found["inherited"] == {
        "actor": "alice",
        "executor": "admin",
        "reason": "why",
        "source": "page",
        "ticket": 7,
    }
    assert own(found) == set(), "that is not the worker's own doing"
    assert found["kind"] == "task"
    assert found["task"] == {"id": sent.id, "name": "workers.app.look"}
    assert found["pid"] != os.getpid()


def test_a_task_that_nobody_sent_inherits_nothing(pool):
    found = answered(host.look.delay())
    assert "inherited" not in found
    assert found["task"]["name"] == "workers.app.look"


def test_secrets_are_not_carried(pool):
    with audit.context(actor="alice", api_token="s3cret", login={"password": "s3cret"}):
        found = answered(host.look.delay())
    assert found["inherited"]["api_token"] == "[redacted]"
    assert found["inherited"]["login"] == {"password": "[redacted]"}


def test_it_is_carried_on(pool):
    with audit.context(actor="alice"):
        sent = host.relay.delay(3)
    ids = [sent.id]
    while "further" in (found := result(ids[-1])):
        assert found["inherited"] == {"actor": "alice"}
        ids.append(found["further"])
    assert found["inherited"] == {"actor": "alice"}
    assert len(ids) == 4
    assert found["task"]["id"] == ids[-1]


def test_what_a_task_does_of_its_own_is_its_own(pool):
    with audit.context(actor="alice", reason="why"):
        first, second = answered(host.act.delay("job"))
    assert (first["actor"], first["inherited"]) == ("job", {"actor": "alice", "reason": "why"})
    assert second["actor"] == "job"
    further = result(first["further"])
    assert further["inherited"] == {"actor": "job", "reason": "why"}
    assert own(further) == set()


def test_links_chains_and_chords_carry_on(pool):
    with audit.context(actor="alice"):
        chained = chain(host.look.si(), host.look.si(), host.look.si()).delay()
    found = [answered(each) for each in (chained, chained.parent, chained.parent.parent)]
    with audit.context(actor="bob"):
        found.append(answered(chord([host.look.si()] * 2, host.look.si()).delay()))
    actors = [each["inherited"]["actor"] for each in found]
    assert actors == ["alice", "alice", "alice", "bob"]


def test_a_retry_carries_on(pool):
    with audit.context(actor="alice"):
        assert answered(host.again.delay())["inherited"] == {"actor": "alice"}


def test_eager_tasks_inherit_from_their_caller_and_give_back(pool):
    with audit.context(actor="alice", reason="why"):
        found = answered(host.eager.delay())
    said = [(each.get("actor"), each["inherited"]["actor"]) for each in found]
    assert said == [
        (None, "caller"),
        (None, "middle"),
        ("middle", "caller"),
        ("caller", "alice"),
    ]
    assert all(each["inherited"]["reason"] == "why" for each in found)
    names = [each["task"]["name"].rpartition(".")[2] for each in found]
    assert names == ["look", "look", "nested", "eager"]


@pytest.mark.parametrize("how", ["raise", "exit", "soft limit", "kill"])
def test_a_task_that_dies_leaves_nothing_behind(pool, how):
    if pool != "prefork" and how in ("exit", "kill", "soft limit"):
        pytest.skip("ends the whole worker, or has no such limit")
    with audit.context(actor="alice"):
        died = [host.die.delay(how) for _ in range(2)]
        if how == "raise":
            for each in died:
                with pytest.raises(ValueError, match="boom"):
                    answered(each)
    time.sleep(0.2)
    for _ in range(6):
        found = answered(host.look.delay())
        assert own(found) == set()
        assert "inherited" not in found


def test_many_at_once_do_not_see_each_others(pool):
    sent = []
    for number in range(40):
        with audit.context(actor=f"user {number}"):
            sent.append(host.act.delay(f"job {number}"))
    for number, each in enumerate(sent):
        for found in answered(each):
            assert found["actor"] == f"job {number}"
            assert found["inherited"]["actor"] == f"user {number}"


def test_the_sender_is_left_as_it_was(pool):
    with audit.context(actor="alice"):
        before = context.current()
        host.look.delay()
        assert context.current() is before
    assert context.current() is context.NOTHING
