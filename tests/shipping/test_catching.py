"""Nobody runs audit_replay: whoever ships catches the projections up as well."""

from __future__ import annotations

import os
import signal
import time

import pytest
from lab.hosts import Host, frozen, stopped, within

NODES = "SELECT count(*) FROM bamboo_audit_nodetimeline"
POSITION = """
    SELECT c.position, (SELECT max(id) FROM bamboo_audit_pipelineeventrecord)
    FROM bamboo_audit_projectioncheckpoint AS c WHERE name = 'timelines'
"""
SESSIONS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name <> 'bamboo-audit'
      AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
HOLDS = """
from pathlib import Path
from audit.projections import projector

apply = projector._apply

def slowly(*args):
    found = apply(*args)
    if not Path("held").exists():
        Path("held").touch()
        time.sleep(float(os.environ.get("PAUSE", "60")))
    return found

projector._apply = slowly
"""
"""The first batch that is applied stays uncommitted, PAUSE seconds long."""
EACH_A_RUN = """
def runs(first, last):
    for n in range(first, last):
        emit(1, root_pipeline_id=f"run{n}", node_id=f"node{n}")
"""


def caught_up(host, seconds=20):
    """Everything that is in the log is applied."""
    for _ in within(seconds):
        found = host.query(POSITION)
        if found and found[0][0] == found[0][1]:
            return host.query(NODES)[0][0]
    raise AssertionError


def held(host):
    for _ in within(20):
        if (host.folder / "held").exists():
            return


def test_the_tables_follow_the_log(host):
    process = host.script(
        EACH_A_RUN + "runs(0, 300)\nsys.stdin.readline()\nruns(300, 400)\nsys.stdin.readline()"
    )
    assert caught_up(host) == 300
    process.stdin.write("\n")
    process.stdin.flush()
    for _ in within(20):
        if caught_up(host) == 400:
            break
    _, said = process.communicate("\n")
    assert process.returncode == 0
    assert "bamboo-audit" not in said, said


def test_not_where_the_host_does_not_want_it(host):
    host.settings["CATCH_UP_IN_BACKGROUND"] = False
    process = host.script(EACH_A_RUN + "runs(0, 50)\nsys.stdin.readline()")
    for _ in within(20):
        if host.query("SELECT count(*) FROM bamboo_audit_pipelineeventrecord")[0][0] >= 50:
            break
    assert not host.query(SESSIONS)
    assert host.query(POSITION) == []
    host.finish(process)


def test_a_sidecar_does_it_too(host):
    host.settings["SHIP_IN_BACKGROUND"] = False
    sidecar = host.command("audit_ship", "--follow")
    host.run(EACH_A_RUN + "runs(0, 300)")
    assert caught_up(host) == 300
    sidecar.terminate()
    host.finish(sidecar)


def test_two_hosts_leave_it_to_each_other(host, tmp_path):
    other = Host(tmp_path / "other", host.url, beside=host)
    first = host.script(EACH_A_RUN + "runs(0, 200)\nsys.stdin.readline()")
    second = other.script(EACH_A_RUN + "runs(200, 400)\nsys.stdin.readline()")
    try:
        for _ in within(20):
            if caught_up(host) == 400:
                break
        assert host.query("SELECT count(*) FROM bamboo_audit_recordsetaside") == [(0,)]
        for each in (first, second):
            _, said = each.communicate("\n")
            assert "bamboo-audit" not in said, said
    finally:
        other.end()


def test_whoever_stands_still_in_the_middle_holds_nobody_up(host, tmp_path):
    """But for what it has locked, which it keeps until it goes on or ends."""
    other = Host(tmp_path / "other", host.url, beside=host)
    first = host.script(HOLDS + EACH_A_RUN + "runs(0, 100)\nsys.stdin.readline()", PAUSE="0")
    caught_up(host)
    with frozen(first.pid):
        second = other.script(EACH_A_RUN + "runs(100, 200)\nsys.stdin.readline()")
        try:
            for _ in within(20):
                if caught_up(host) == 200:
                    break
        finally:
            other.end()
    assert second.returncode is not None
    host.finish(first)


def test_a_child_of_whoever_is_killed_in_the_middle_keeps_nothing_locked(host):
    """It has its parent's sockets: the server would not see that the parent is gone."""
    parent = host.script(
        HOLDS
        + EACH_A_RUN
        + """
runs(0, 100)
while not Path("held").exists():
    time.sleep(0.01)
if child := os.fork():
    print(child, flush=True)
    time.sleep(60)
for n in range(100, 10_000):
    runs(n, n + 1)
    time.sleep(0.01)
"""
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in within(20):
        if host.query(NODES)[0][0] > 110:
            break
    os.kill(child, signal.SIGKILL)


def test_the_process_ends_though_a_batch_is_under_way(host):
    process = host.script(HOLDS + EACH_A_RUN + "runs(0, 100)\nsys.stdin.readline()")
    held(host)
    host.finish(process, 10)
    replay = host.command("audit_replay")
    host.finish(replay, 60)
    assert host.query(NODES) == [(100,)]


def test_a_database_that_comes_back_is_caught_up(host, server):
    process = host.script(
        EACH_A_RUN + "runs(0, 100)\nsys.stdin.readline()\nruns(100, 200)\nsys.stdin.readline()"
    )
    caught_up(host)
    with stopped(server):
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(1.0)
    for _ in within(40):
        if caught_up(host, 40) == 200:
            break
    host.finish(process)


@pytest.mark.parametrize("projections", [["nowhere.Projection"]])
def test_a_projection_that_is_none_is_told_once(host, projections):
    host.settings["PROJECTIONS"] = projections
    process = host.script("""
for _ in range(20):
    emit(1)
    time.sleep(0.1)
sys.stdin.readline()
""")
    for _ in within(20):
        if host.query("SELECT count(*) FROM bamboo_audit_pipelineeventrecord")[0][0] >= 20:
            break
    _, said = process.communicate("\n")
    assert said.count("does not catch the projections up") == 1, said
    assert "nowhere.Projection" in said
