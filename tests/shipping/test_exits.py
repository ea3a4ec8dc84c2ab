"""However a process ends: it ships what it has, or leaves it to the next one; and soon."""

from __future__ import annotations

import signal
import time

import pytest
from lab.hosts import frozen_server, stopped

LINGERS = """
def linger():
    while True:
        emit(1, pause=0.001)

threading.Thread(target=linger, daemon=True).start()
"""
WAYS = {
    "to the end": ("emit(100)", 0),
    "sys.exit": ("emit(100); sys.exit(3)", 3),
    "in a function of atexit": ("import atexit; atexit.register(emit, 100)", 0),
    "an exception": ("emit(100); raise ValueError('boom')", 1),
    "beside a thread that goes on": (f"{LINGERS}\nemit(100)", 0),
    "SIGTERM that is handled": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); emit(100);"
        " signal.raise_signal(signal.SIGTERM)",
        7,
    ),
    "Ctrl-C": (
        "signal.signal(signal.SIGINT, signal.default_int_handler); emit(100)\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: sys.exit(1)",
        1,
    ),
}
HARD_WAYS = {
    "os._exit": ("emit(100); os._exit(5)", 5),
    "SIGTERM": ("emit(100); signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
    "at once": ("emit(1); os._exit(0)", 0),
}


@pytest.mark.parametrize(("code", "status"), WAYS.values(), ids=WAYS)
def test_a_process_that_ends_ships_what_it_has(host, code, status):
    process = host.script(code)
    host.finish(process, code=status)
    if "linger" not in code:
        assert host.arrived(), "before the process was gone"
        assert set(host.ends()) == {"closed"}
    host.ship()
    assert host.check() >= 100


def test_a_management_command_ships_what_it_has(host):
    host.finish(host.command("emit_events"))
    assert host.check() == 100
    assert set(host.ends()) == {"closed"}


def test_python_c_ships_what_it_has(host):
    host.finish(host.start("-c", f"import threading\nfrom lab.ordinary import *\n{LINGERS}emit(9)"))
    host.ship()
    assert host.check() >= 9


@pytest.mark.parametrize(("code", "status"), HARD_WAYS.values(), ids=HARD_WAYS)
def test_one_that_is_cut_off_leaves_it_to_the_next(host, code, status):
    host.finish(host.script(code), code=status)
    if "SIGTERM" not in code:
        assert host.acknowledged()
    host.run("emit(1)")
    host.check()
    assert host.ends() == {"died": 1, "closed": 1}


@pytest.mark.parametrize("outage", [stopped, frozen_server])
def test_a_database_that_is_away_keeps_no_process_from_ending(host, server, outage):
    """The time of the exit alone: from the last event to the end of the process."""
    with outage(server):
        process = host.script("emit(500); sys.stdout.write('now\\n'); sys.stdout.flush()")
        assert process.stdout.readline() == "now\n"
        before = time.monotonic()
        process.wait(20)
        assert time.monotonic() - before < 3.5
        host.finish(process)
    host.ship()
    assert host.check() == 500
    assert host.ends() == {"closed": 1}


def test_one_that_is_not_elected_leaves_it_to_the_one_that_is(host):
    elected = host.script("emit(1); sys.stdin.readline(); emit(1)")
    while not host.taken.exists():
        time.sleep(0.02)
    time.sleep(0.3)
    before = time.monotonic()
    host.run("emit(100)")
    assert time.monotonic() - before < 4
    host.finish(elected)
    assert host.check() == 102
    assert host.ends() == {"closed": 2}
