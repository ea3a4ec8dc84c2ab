"""A disk that is full: the host's work goes on, and what was not kept is counted."""

from __future__ import annotations

import subprocess

import pytest
from lab.hosts import stopped, within

from audit.shipping.election import LOCK

EVENTS = 12_000
SIZE = 5_000
MUCH = f"""
import resource
from audit.spool import writer as writers
from audit.spool.writer import writer

writers.RETRY_FOLDER = 0.2

def kilobytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def say(*words):
    print(*words, flush=True)
    sys.stdin.readline()

emit(10)
before = kilobytes()
slowest = emit({EVENTS}, size={SIZE})
say(slowest, kilobytes() - before)
emit(10)
say()
time.sleep(0.3)
emit(100, size={SIZE})
say(writer.complaint or "on the disk")
"""
LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 19, resource.RLIM_INFINITY))
"""


@pytest.fixture
def small_disk(host):
    """The spool on a file system of 12 MB."""
    host.spool_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(host.spool_dir)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a small disk")
    yield host.spool_dir
    host.end()
    subprocess.run(["umount", str(host.spool_dir)], check=True)


def go_through(host, server, code):
    """Much more than there is room for, without a database; then with it."""
    process = host.script(code)
    with stopped(server):
        slowest, grown = process.stdout.readline().split()
        assert float(slowest) < 0.5
        # 16 MB of records at most, and some of the shipper's.
        assert int(grown) < 40_000
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
    for _ in within(10):
        if host.stored():
            break
    host.settle()
    process.stdin.write("\n")
    process.stdin.flush()
    where = process.stdout.readline().strip()
    host.finish(process)
    stored = host.stored()
    assert set(stored.values()) == {1}
    assert len(stored) * SIZE > 14 << 20, "what there was room for was kept"
    missed = sum(gap["count"] for gap in host.gaps())
    assert missed == EVENTS + 120 - len(stored)
    assert missed > EVENTS // 2
    assert {reason for gap in host.gaps() for reason in gap["reasons"]} == {"SpoolFull"}
    for book in host.books():
        assert (book.missing, book.ended) == (0, "closed")
        assert book.position == book.count == book.distinct
    return where


def test_a_full_disk(host, server, small_disk):
    assert go_through(host, server, MUCH) == "on the disk"


def test_a_limit_on_the_size_of_files(host, server):
    go_through(host, server, LIMIT + MUCH)


def test_a_process_that_begins_on_a_full_disk_ships_what_is_there(host, server, small_disk):
    with stopped(server):
        host.run("emit(100); time.sleep(0.2); os._exit(0)")
    (host.spool / LOCK).unlink()
    rest = small_disk / "rest"
    with rest.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1_024)
        except OSError:
            pass
    process = host.script("emit(1); sys.stdin.readline()")
    for _ in within(10):
        if len(host.stored()) == 101:
            break
    host.finish(process)
    rest.unlink()
    host.ship()
    assert host.check() == 101
