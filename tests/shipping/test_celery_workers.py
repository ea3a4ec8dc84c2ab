"""Real Celery workers, of every pool: what their tasks send is in the log, and once."""

from __future__ import annotations

import time
from importlib.util import find_spec

import pytest

pytest.importorskip("celery")

from celery import Celery
from lab.hosts import children, frozen_server, within
from workers import broker
from workers.at_work import kill_one_at_work

NEEDS_GEVENT = pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
POOLS = ["prefork", "threads", "solo", pytest.param("gevent", marks=NEEDS_GEVENT)]


@pytest.fixture
def sender(host):
    """The host's side that sends tasks."""
    app = Celery("sender", set_as_current=False)
    app.conf.update(broker.settings(host.folder))
    yield app
    app.close()


@pytest.fixture
def worker(host, sender):
    """Start a worker of a pool; it is ready when it has done a task."""

    def start(pool, *words):
        process = host.start(
            *("-m", "celery", "-A", "lab.ordinary_celery", "worker", "-P", pool, "-c", "2"),
            *("-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            *words,
            AUDIT_TEST_BROKER=str(host.folder),
        )
        before = len(host.acknowledged())
        send(sender, 1, 1)
        for _ in within(20):
            if len(host.acknowledged()) > before:
                break
        return process

    return start


def send(sender, tasks, *args):
    return [sender.send_task("lab.ordinary_celery.emit", args) for _ in range(tasks)]


def wait_for(host, count):
    for _ in within(20):
        if len(host.acknowledged()) >= count:
            break


def kill_one_that_writes(host, parent, killed):
    """One that was killed before may still be among the children, and a new one has no writer."""
    pid = None
    for _ in within(20):
        writers = {int(who.partition("-")[0]) for who, _ in host.acknowledged()}
        pid = kill_one_at_work(host.folder, writers.intersection(children(parent)) - killed)
        if pid:
            break
    return pid


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_ships_everything(host, sender, worker, pool):
    process = worker(pool)
    send(sender, 40, 20, 500)
    wait_for(host, 300)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert "bamboo-audit" not in said, said
    assert host.arrived(), "before the worker was gone"
    assert host.check() >= 300
    assert host.ends() == {"closed": 2 if pool == "prefork" else 1}


def test_children_of_prefork_that_are_worn_out_ship_everything(host, sender, worker):
    process = worker("prefork", "--max-tasks-per-child", "3")
    send(sender, 30, 10)
    wait_for(host, 301)
    process.terminate()
    process.communicate(timeout=20)
    assert host.arrived()
    assert host.check() == 301
    assert set(host.ends()) == {"closed"}
    assert host.ends()["closed"] >= 9


def test_a_warm_shutdown_without_a_database_takes_no_longer_than_it_may(
    host, server, sender, worker
):
    process = worker("prefork")
    with frozen_server(server):
        send(sender, 10, 10)
        wait_for(host, 101)
        before = time.monotonic()
        process.terminate()
        process.communicate(timeout=20)
        # Of eight seconds five are Celery's own: it looks at this broker every other second.
        assert time.monotonic() - before < 12.0
    host.ship()
    assert host.check() == 101
    assert set(host.ends()) == {"closed"}


def test_children_and_parents_of_prefork_that_are_killed(host, sender, worker):
    process = worker("prefork")
    send(sender, 40, 50, 500, 0.002)
    killed: set[int] = set()
    for _ in range(3):
        wait_for(host, 100 * (len(killed) + 1))
        killed.add(kill_one_that_writes(host, process.pid, killed))
    wait_for(host, 500)
    process.kill()
    process.communicate(timeout=20)
    host.ship()
    assert host.check() >= 500
    assert host.ends()["died"] >= 3


@NEEDS_GEVENT
def test_shipping_does_not_hold_up_the_hub_of_gevent(host, server, sender, worker):
    """A database that does not answer for a second, in mid-batch or while it is connected to."""
    process = worker("gevent")
    task = sender.send_task("lab.ordinary_celery.late", [2.5])
    time.sleep(0.5)
    with frozen_server(server):
        time.sleep(1.2)
    longest = task.get(timeout=20)
    assert longest < 0.5
    process.terminate()
    process.communicate(timeout=20)
    assert host.arrived()
    assert host.check() > 100
