"""The command: once, or as a sidecar, beside the host's own shippers."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time

import pytest
from lab.hosts import stopped, within

from audit.shipping import sidecar
from audit.shipping.background import background
from audit.shipping.election import LOCK, SIDECAR, Election


def follower(host):
    """A sidecar that ships."""
    process = host.command("audit_ship", "--follow")
    assert "until SIGTERM" in process.stdout.readline()
    for _ in within(5):
        if host.shipper() == process.pid:
            break
    return process


def test_it_ships_what_processes_without_a_database_left(host, server):
    with stopped(server):
        host.run("emit(300)")
        refused = host.command("audit_ship", "--timeout", "0.5", "--json")
        found = json.loads(host.finish(refused, code=1))
        assert (found["shipped"], found["waiting"]) == (0, 300)
        assert "cannot be reached" in found["error"]
        said = host.finish(host.command("audit_ship", "--timeout", "0.1"), code=1)
        assert said.startswith("300 records still wait in ")
    said = host.finish(host.command("audit_ship"))
    assert said.startswith("Everything is shipped, 300 records just now: none waits in ")
    again = host.ship()
    assert (again["shipped"], again["waiting"], again["by"]) == (0, 0, None)
    assert host.check() == 300


def test_beside_a_shipper_that_lives_it_waits_for_that_one(host):
    host.settings["FLUSH_INTERVAL"] = 3.0
    alive = host.script("""
emit(10)
time.sleep(0.5)
emit(100)  # which it does not look for yet
print("now", flush=True)
sys.stdin.readline()
""")
    alive.stdout.readline()
    found = host.ship()
    assert (found["waiting"], found["by"], found["shipped"]) == (0, alive.pid, 0)
    assert host.arrived()
    host.finish(alive)
    assert host.check() == 110


@pytest.mark.parametrize("with_shippers", [True, False])
def test_a_sidecar_takes_over_and_is_taken_over_from(host, with_shippers):
    host.settings["SHIP_IN_BACKGROUND"] = with_shippers
    alive = host.script("emit_for(60, pause=0.005)")
    for _ in within(10):
        if not with_shippers or host.shipper() == alive.pid:
            break
    first = follower(host)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    if with_shippers:
        for _ in within(5):
            if host.shipper() == alive.pid:
                break
    second = follower(host)
    alive.kill()
    alive.communicate()
    for _ in within(5):
        if host.ends() == {"died": 1}:
            break
    second.terminate()
    assert host.finish(second).strip().endswith("records shipped.")
    assert host.check() > 10
    assert not Election(host.spool).is_held()
    assert not Election(host.spool, SIDECAR).is_held()


def test_a_sidecar_that_is_asked_to_end_ships_what_is_there(host):
    host.run("emit(1)")
    follows = follower(host)
    host.settings["SHIP_IN_BACKGROUND"] = False
    alive = host.script("emit(3_000); sys.stdout.write('now\\n'); sys.stdout.flush(); emit_for(60)")
    alive.stdout.readline()
    alive.kill()
    alive.communicate()
    follows.terminate()
    host.finish(follows)
    assert host.arrived()
    host.ship()
    assert host.check() > 3_000


def test_one_sidecar_is_enough(host):
    host.run("emit(1)")
    first = follower(host)
    second = host.command("audit_ship", "--follow")
    _, said = second.communicate(timeout=20)
    assert second.returncode == 1
    assert f"Process {first.pid} ships {host.spool} already. One sidecar is enough." in said
    assert "Traceback" not in said
    first.send_signal(signal.SIGINT)
    host.finish(first)


def test_who_looks_whether_there_is_a_sidecar_is_not_taken_for_one(spool_dir):
    """Every process of the host looks, many times a second."""
    looks = os.open(spool_dir / SIDECAR, os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(looks, fcntl.LOCK_SH)
    stop = threading.Event()
    threading.Timer(0.3, os.close, [looks]).start()
    threading.Timer(0.6, stop.set).start()
    assert sidecar.follow(stop) == 0


def test_a_fork_while_somebody_looks_leaves_no_lock_behind(spool_dir, monkeypatch):
    """The child has the file open for as long as it lives, as ``dup`` has here."""
    flock, copies = fcntl.flock, []

    def and_fork(fd, how):
        flock(fd, how)
        copies.append(os.dup(fd))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", and_fork)
        assert not Election(spool_dir, SIDECAR).is_held()
        elected = Election(spool_dir)
        assert elected.stand()
        elected.resign()
    try:
        for name in (SIDECAR, LOCK):
            other = Election(spool_dir, name)
            assert other.stand()
            other.resign()
    finally:
        for copy in copies:
            os.close(copy)


def test_a_child_of_a_moment_when_its_parent_is_elected_is_not_elected_for_it(spool_dir):
    parent = os.fork()
    if not parent:
        try:
            _be_elected_while_another_thread_forks(spool_dir)
        finally:
            os._exit(0)
    os.waitpid(parent, 0)
    for _ in within(4):
        if not Election(spool_dir).is_held():
            break


def _be_elected_while_another_thread_forks(path):
    flock = fcntl.flock

    def fork():
        if not os.fork():
            time.sleep(10)
            os._exit(0)

    def and_let_a_thread_fork(fd, how):
        flock(fd, how)
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join(0.3)

    fcntl.flock = and_let_a_thread_fork
    background._election = Election(path)
    background._election.stand()
