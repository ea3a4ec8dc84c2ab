"""``audit_redeliver`` as a process of its own, where the engine is not installed: killed, ended."""

from __future__ import annotations

import json
import os
import signal

from lab.hosts import stopped, within

RECEIVER = "lab.redelivered.write_down"


def redeliverer(host, given, pause=0.0):
    return host.start(
        *("-m", "django", "audit_redeliver", "--receiver", RECEIVER, "--json"),
        PAUSE=str(pause),
        AUDIT_TEST_TAKEN=str(given),
    )


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def numbers(path):
    return [int(line.split()[1]) for line in lines(path)]


def test_after_kill_9_at_most_one_event_comes_again(host):
    host.run("emit(60)")
    host.ship()
    given = host.folder / "given"
    process = redeliverer(host, given, 0.02)
    for _ in within(40):
        if len(lines(given)) >= 15:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process = redeliverer(host, given)
    told = json.loads(host.finish(process, 60))
    assert told["finished"] is True
    found = numbers(given)
    assert found == sorted(found)
    assert sorted({*found}) == list(range(1, 61)), "none is missing"
    assert len(found) - 60 <= 1, "the one under way"
    assert 0 < told["start"] < told["end"]
    assert told["delivered"] < 60 - 13
    ((stored,),) = host.query("SELECT count(*) FROM bamboo_audit_pipelineeventrecord")
    assert stored == 60


def test_sigterm_ends_it_after_the_event_under_way(host):
    host.run("emit(40)")
    host.ship()
    given = host.folder / "given"
    process = redeliverer(host, given, 0.1)
    for _ in within(40):
        if len(lines(given)) >= 3:
            break
    process.send_signal(signal.SIGTERM)
    told = json.loads(host.finish(process, code=1))
    assert told["finished"] is False
    assert told["delivered"] == len(lines(given)) < 40
    # It has let go: nobody waits for it.
    process = redeliverer(host, given)
    assert json.loads(host.finish(process))["finished"] is True
    assert numbers(given) == list(range(1, 41))


def test_a_second_process_is_refused_meanwhile(host):
    host.run("emit(40)")
    host.ship()
    given = host.folder / "given"
    first = redeliverer(host, given, 0.2)
    for _ in within(40):
        if lines(given):
            break
    second = redeliverer(host, given)
    _, err = second.communicate(timeout=40)
    assert second.returncode == 1
    assert f"Another process goes on with redeliver:{RECEIVER}:" in err
    assert first.poll() is None, "the first goes on"
    first.send_signal(signal.SIGINT)
    host.finish(first, code=1)
    assert numbers(given) == list(range(1, len(lines(given)) + 1))


def test_a_database_that_goes_away_ends_it_and_one_event_may_come_again(host, server):
    host.run("emit(40)")
    host.ship()
    given = host.folder / "given"
    process = redeliverer(host, given, 0.1)
    for _ in within(40):
        if len(lines(given)) >= 3:
            break
    with stopped(server):
        _, err = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "cannot be reached" in err
    assert "Run the same command again" in err
    assert json.loads(host.finish(redeliverer(host, given), 60))["finished"] is True
    found = numbers(given)
    assert sorted({*found}) == list(range(1, 41))
    assert len(found) - 40 <= 1, "the one under way"
