"""Processes that are killed, and processes that fork: each record is in the log, and once."""

from __future__ import annotations

import os
import random
import signal
import time

from lab.hosts import HALF_A_BATCH, within

KILLS = 100
AT_ONCE = 4

ZYGOTE = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    size = int(line)
    pid = os.fork()
    if pid == 0:
        while True:
            emit(10, size=size)
            time.sleep(0.005)
    print(pid, flush=True)
"""


def test_nothing_is_lost_or_doubled_by_a_hundred_kills(host):
    """Of processes that capture and ship, at any instant, the one that is elected or another."""
    mother = host.script(ZYGOTE)
    alive, killed, of_shippers = {}, 0, 0
    while killed < KILLS:
        while len(alive) < AT_ONCE and killed + len(alive) < KILLS:
            mother.stdin.write(f"{random.choice([100, 1_000, 10_000])}\n")
            mother.stdin.flush()
            alive[int(mother.stdout.readline())] = time.monotonic() + random.uniform(0.0, 0.7)
        pid = min(alive, key=alive.__getitem__)
        time.sleep(max(0.0, alive.pop(pid) - time.monotonic()))
        if host.shipper() == pid:
            of_shippers += 1
        os.kill(pid, signal.SIGKILL)
        killed += 1
    host.finish(mother)
    for _ in within(20):  # one that was killed just now may take its time to be gone
        host.ship()
        if set(host.ends()) == {"died"}:
            break

    host.check()
    assert of_shippers >= 3
    assert set(host.ends()) == {"died"}
    assert len(host.books()) >= KILLS / 2  # one that was killed before its first event has none


FORKS = """
import multiprocessing

def child(how):
    emit(50, pause=0.001)
    if how == "hard":
        os._exit(0)
    sys.exit(0)

busy = [threading.Thread(target=emit_for, args=(2.0,), kwargs={"pause": 0.001}) for _ in range(2)]
for thread in busy:
    thread.start()
time.sleep(0.3)
pids = []
for number in range(20):
    pid = os.fork()
    if pid == 0:
        child("hard" if number % 2 else "soft")
    pids.append(pid)
    time.sleep(0.01)
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(emit, [20] * 10, chunksize=1)
for thread in busy:
    thread.join()
"""


def test_forks_beside_threads_that_capture_and_ship(host):
    host.settings["FLUSH_INTERVAL"] = 0.01
    process = host.script(FORKS)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "bamboo-audit" not in said, said
    host.ship()
    assert host.check() > 20 * 50 + 200
    assert len(host.books()) >= 22
    of_parent = [book for book in host.books() if book.pid == process.pid]
    assert len(of_parent) == 1, "the same writer, from the beginning to the end"


def test_a_child_ships_though_its_parent_was_killed_in_mid_copy(host):
    """The child has its parent's sockets: the server would not see that the parent is gone."""
    parent = host.script(
        HALF_A_BATCH
        + """
emit(2_000, size=500)
while not Path("half").exists():
    time.sleep(0.01)
if child := os.fork():
    print(child, flush=True)
emit_for(60, pause=0.002)
""",
        PAUSE="60",
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    host.await_arrival(5)
    os.kill(child, signal.SIGKILL)
    host.ship()
    assert host.check() > 2_000


def test_a_child_is_elected_when_its_parent_is_killed(host):
    parent = host.script("""
emit(10)
time.sleep(0.3)
if child := os.fork():
    print(child, flush=True)
emit_for(60, pause=0.002)
""")
    child = int(parent.stdout.readline())
    for _ in within(10):
        if host.shipper() == parent.pid and len(host.books()) == 2:
            break
    parent.kill()
    parent.wait()
    for _ in within(5):
        if host.shipper() == child:
            break
    host.await_arrival(10)
    for _ in within(10):
        if host.ends()["died"] == 1:
            break
    os.kill(child, signal.SIGKILL)
    host.ship()
    assert host.check() > 10
    assert host.ends() == {"died": 2}
