"""The writer: numbers without holes, whatever interrupts it, and a spool that is ours alone."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import stat
import threading
import time
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from audit.exceptions import SpoolFull
from audit.spool import folder
from audit.spool import writer as writers
from audit.spool.reader import Reader
from audit.spool.segment import HEADER_BYTES, LARGEST, SMALLEST, Segment
from audit.spool.writer import Writer


def positions(rows, writer_id=None):
    return [each.writer_position for each in rows if writer_id in (None, each.writer_id)]


def test_records_are_numbered_from_one_and_in_the_order_of_time(fresh, rest, stored):
    for number in range(500):
        fresh.append(rest(data={"n": number}))
    rows = stored()
    assert positions(rows) == list(range(1, 501))
    times = [each.occurred_at for each in rows]
    assert times == sorted(times)
    assert {each.writer_id for each in rows} == {fresh.id}
    assert [each.record.data for each in rows[:2]] == [b'{"n":0}', b'{"n":1}']


def test_times_do_not_run_back_with_the_clock(fresh, rest, stored, monkeypatch):
    clock = iter([5_000_000_000, 3_000_000_000, 6_000_000_000])
    monkeypatch.setattr(writers, "time_ns", lambda: next(clock))
    for _ in range(3):
        fresh.append(rest())
    assert [each.occurred_at.timestamp() for each in stored()] == [5, 5, 6]


def test_it_goes_on_in_larger_segments(fresh, rest, stored, spool_dir):
    big = rest(data={"text": "x" * 100_000})
    for _ in range(150):
        fresh.append(big)
    assert positions(stored()) == list(range(1, 151))
    sizes = [found.size >> 20 for found in folder.segments(spool_dir)]
    assert sizes == [1, 2, 4, 8]


def test_a_record_larger_than_a_segment_gets_its_own(fresh, rest, stored, spool_dir, settings):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "MAX_EVENT_BYTES": 64 << 20}
    fresh.append(rest())
    fresh.append(rest(data={"text": "x" * (12 << 20)}))
    fresh.append(rest())
    assert positions(stored()) == [1, 2, 3]
    assert [found.size >> 20 for found in folder.segments(spool_dir)] == [1, 12, 4]


def test_the_next_segment_is_made_beforehand(fresh, rest, spool_dir, stored):
    big = rest(data={"text": "x" * 300_000})
    fresh.append(big)
    assert fresh.bell.wait(0), "of the first segment"
    assert not fresh.bell.wait(0)
    fresh.prepare()
    assert len(folder.segments(spool_dir)) == 1, "there is room enough"
    fresh.append(big)
    assert fresh.bell.wait(0), "whoever makes it is told"
    fresh.prepare()
    fresh.prepare()
    assert len(folder.segments(spool_dir)) == 2
    for _ in range(4):
        fresh.append(big)
    assert len(folder.segments(spool_dir)) == 2
    assert positions(stored()) == [1, 2, 3, 4, 5, 6]


def test_it_rings_once_when_it_is_as_far_as_somebody_wants_to_know(fresh, rest):
    fresh.append(rest())
    assert fresh.bell.wait(0), "of the first segment"
    fresh.ring_at = 4
    rung = []
    for _ in range(5):
        fresh.append(rest())
        rung.append(fresh.bell.wait(0))
    assert rung == [False, False, True, False, False]


def test_making_one_beforehand_holds_up_nobody(fresh, rest, spool_dir, stored, monkeypatch):
    big, fallocate = rest(data={"text": "x" * 300_000}), os.posix_fallocate
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*how):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert go_on.wait(20)
        fallocate(*how)

    monkeypatch.setattr(os, "posix_fallocate", slowly)
    for _ in range(2):
        fresh.append(big)
    beside = threading.Thread(target=fresh.prepare)
    beside.start()
    assert begun.wait(20)
    for _ in range(4):
        fresh.append(big)
    go_on.set()
    beside.join()
    assert [found.sequence for found in folder.segments(spool_dir)] == [1, 3], "2 came too late"
    fresh.append(big)
    assert positions(stored()) == list(range(1, 8))


def test_one_made_beforehand_is_as_empty_as_any_other(fresh, rest, spool_dir, stored):
    """Its pages were touched."""
    for _ in range(2):
        fresh.append(rest(data={"text": "x" * 300_000}))
    fresh.prepare()
    *_, prepared = folder.segments(spool_dir)
    content = prepared.path.read_bytes()
    assert set(content[HEADER_BYTES - 16 :]) == {0}, "not in use"
    reader = Reader.of_file(prepared.path)
    assert (reader.header.sequence, reader.in_use()) == (2, False)
    reader.close()


def test_an_event_of_another_thread_while_it_closes_waits(fresh, rest, stored, monkeypatch):
    """To draw the next writer's number gives up the GIL, in the middle of closing."""
    fresh.append(rest())
    first, uuid4, failed = fresh.id, uuid.uuid4, []

    def append():
        try:
            fresh.append(rest())
        except Exception as error:
            failed.append(error)

    other = threading.Thread(target=append)

    def drawn():
        other.start()
        other.join(0.2)
        return uuid4()

    monkeypatch.setattr(writers.uuid, "uuid4", drawn)
    fresh.close()
    monkeypatch.undo()
    other.join(5)
    assert not failed
    assert positions(stored(), first) == [1]
    assert positions(stored(), fresh.id) == [1]
    assert fresh.id != first


def test_one_made_beforehand_goes_when_the_writer_closes(fresh, rest, spool_dir):
    for _ in range(2):
        fresh.append(rest(data={"text": "x" * 300_000}))
    fresh.prepare()
    fresh.close()
    assert len(folder.segments(spool_dir)) == 1


def test_after_its_last_word_it_is_another_writer(fresh, rest, stored, spool_dir):
    fresh.append(rest())
    first = fresh.id
    fresh.close()
    fresh.append(rest())
    assert fresh.id != first
    assert positions(stored()) == [1, 1]
    closed = []
    for found in folder.segments(spool_dir):
        reader = Reader.of_file(found.path)
        while reader.read(10, 1000):
            pass
        closed.append((found.writer_id == first, reader.closed))
        reader.close()
    assert sorted(closed) == [(False, False), (True, True)]


def test_three_hundred_threads(fresh, rest, stored):
    ready = threading.Barrier(300)
    row = rest()

    def work():
        ready.wait()
        for _ in range(20):
            fresh.append(row)

    threads = [threading.Thread(target=work) for _ in range(300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert positions(stored()) == list(range(1, 6001))


class Interrupted(BaseException):
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # files of ours that it interrupts
def test_signals_in_mid_append_leave_no_hole(fresh, rest, stored):
    """As a soft time limit does: an exception out of nowhere, in any line."""

    armed = []

    def interrupt(*_):
        if armed:
            armed.clear()
            raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    row, returned, hits = rest(), 0, 0
    until = time.monotonic() + 3
    fresh.append(row)  # making a segment takes longer than the storm leaves time for
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while time.monotonic() < until:
            try:
                armed.append(True)
                for _ in range(1_000):
                    fresh.append(row)
                    returned += 1
            except Interrupted:
                hits += 1
    finally:
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    fresh.append(row)
    numbers = positions(stored())
    assert hits > 500
    assert numbers == list(range(1, len(numbers) + 1))
    assert returned + 2 <= len(numbers) <= returned + 2 + hits


def test_an_event_out_of_mid_append_comes_after_it(fresh, rest, stored, monkeypatch):
    """A signal handler or a __del__ sends one while its own thread is in there."""
    inner = rest("inner")
    put, done = type(fresh)._put, []

    def putting(self, row, flags):
        if not done:
            done.append(True)
            self.append(inner)
        put(self, row, flags)

    monkeypatch.setattr(Writer, "_put", putting)
    fresh.append(rest("outer"))
    assert [each.record.event_type for each in stored()] == ["outer", "inner"]
    assert positions(stored()) == [1, 2]


def test_garbage_collection_in_mid_append(fresh, rest, stored):
    row = rest()

    class Dying:
        def __init__(self):
            self.me = self

        def __del__(self):
            fresh.append(row)

    gc.collect()
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            Dying()
            fresh.append(row)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert positions(stored()) == list(range(1, 401))


def test_a_forked_child_is_a_writer_of_its_own(rest, stored, in_child):
    writer = writers.writer
    writer.append(rest("parent"))

    def in_the_child():
        writer.append(rest("child"))
        return str(writer.id)

    child = in_child(in_the_child)
    writer.append(rest("parent"))
    rows = {str(each.writer_id): [] for each in stored()}
    for each in stored():
        rows[str(each.writer_id)].append((each.writer_position, each.record.event_type))
    assert rows == {str(writer.id): [(1, "parent"), (2, "parent")], child: [(1, "child")]}
    writer.close()


def test_forking_while_threads_append(rest, stored, in_child):
    """A lock that another thread held at the fork would never be free in the child."""
    writer, row, stop = writers.writer, rest(), threading.Event()

    def work():
        while not stop.is_set():
            writer.append(row)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()

    def in_the_child():
        for _ in range(10):
            writer.append(row)
        return writer.position

    try:
        assert [in_child(in_the_child) for _ in range(20)] == [10] * 20
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    mine = positions(stored(), writer.id)
    assert mine == list(range(1, len(mine) + 1))
    writer.close()


def test_a_parents_death_lets_go_of_its_lock_though_the_child_lives(rest, spool_dir, tmp_path):
    """An flock survives in a child that has its descriptor."""
    grandchild = os.fork()
    if grandchild == 0:
        try:
            writers.writer.append(rest())
            if os.fork() == 0:
                time.sleep(5)
                os._exit(0)
        finally:
            os._exit(0)
    os.waitpid(grandchild, 0)
    (found,) = folder.segments(spool_dir)
    reader = Reader.of_file(found.path)
    until = time.monotonic() + 4  # the child lets go as soon as it runs
    while reader.writer_lives() and time.monotonic() < until:
        time.sleep(0.01)
    assert not reader.writer_lives()
    reader.close()


def test_a_child_of_a_moment_when_a_segment_is_made_has_no_lock_of_it(fresh, rest, monkeypatch):
    """No variable of its parent's had the segment by then."""
    fallocate, children = os.posix_fallocate, []

    def and_fork(*how):
        fallocate(*how)
        children.append(os.fork())
        if not children[-1]:
            time.sleep(60)
            os._exit(0)

    monkeypatch.setattr(os, "posix_fallocate", and_fork)
    fresh.append(rest())
    monkeypatch.undo()
    (found,) = folder.segments(folder.place())
    fresh.close()
    with closing(Reader.of_file(found.path)) as reader:
        try:
            until = time.monotonic() + 4
            while reader.writer_lives() and time.monotonic() < until:
                time.sleep(0.01)
            assert not reader.writer_lives()
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


# The folder.


def test_folder_and_files_are_private(fresh, rest, spool_dir):
    fresh.append(rest())
    assert stat.S_IMODE(spool_dir.stat().st_mode) == 0o700
    (found,) = folder.segments(spool_dir)
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600


def spoil_link(path, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(tmp_path / "elsewhere")


def spoil_file(path, tmp_path):
    path.write_text("")


def spoil_shared(path, tmp_path):
    path.mkdir()
    path.chmod(0o777)


def spoil_foreign(path, tmp_path):
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("spoil", [spoil_link, spoil_file, spoil_shared, spoil_foreign])
def test_a_folder_that_is_not_ours_alone_is_not_written(
    fresh, rest, spool_dir, tmp_path, spoil, caplog
):
    if spoil is spoil_foreign and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    spool_dir.parent.mkdir()
    spoil(spool_dir, tmp_path)
    with caplog.at_level(logging.ERROR, "audit"):
        for _ in range(10):
            fresh.append(rest())
    assert folder.segments(spool_dir) == [] or spoil is spoil_link
    assert not list((tmp_path / "elsewhere").glob("*"))
    assert len(caplog.records) == 1, "loud, and once"
    assert str(spool_dir) in caplog.text
    assert "SPOOL_DIR" in caplog.text
    (segment,) = fresh.in_memory
    reader = Reader.of_memory(segment)
    assert len(reader.read(100, 1 << 20).lengths) == 10


def test_network_file_systems_are_refused(fresh, rest, spool_dir, monkeypatch, caplog):
    monkeypatch.setattr(folder, "file_system", lambda path: "nfs4")
    fresh.append(rest())
    assert len(fresh.in_memory) == 1
    assert "is on nfs4" in caplog.text


@pytest.mark.parametrize("kind", ["btrfs", "zfs"])
def test_where_mapped_pages_may_have_no_block_it_writes_by_system_calls(
    fresh, rest, stored, spool_dir, monkeypatch, kind
):
    monkeypatch.setattr(folder, "file_system", lambda path: kind)
    for _ in range(100):
        fresh.append(rest())
    assert positions(stored()) == list(range(1, 101))
    (found,) = folder.segments(spool_dir)
    assert found.path.stat().st_blocks * 512 < SMALLEST, "nothing was allocated beforehand"


def test_file_systems_are_read_from_the_kernel(tmp_path):
    mounts = tmp_path / "mountinfo"
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts.write_text(
        "21 1 0:99 / /elsewhere rw - tmpfs tmpfs rw\n"
        f"22 1 {number} / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        "nonsense\n"
    )
    assert folder.file_system(tmp_path, mounts) in ("ext4", "")
    mounts.write_text(f"21 1 0:99 / / rw - ext4 x rw\n22 1 0:98 / {tmp_path} rw - btrfs x rw\n")
    assert folder.file_system(tmp_path, mounts) == "btrfs"
    assert folder.file_system(tmp_path, tmp_path / "gone") == ""


def test_memory_is_bounded(fresh, rest, spool_dir, monkeypatch):
    monkeypatch.setattr(folder, "file_system", lambda path: "nfs")
    big = rest(data={"text": "x" * 500_000})
    with pytest.raises(SpoolFull, match="memory"):
        fill_up(fresh, big)
    assert sum(segment.size for segment in fresh.in_memory) <= writers.MEMORY_BYTES
    count = fresh.position
    assert 10 < count < 40
    fresh.let_go((fresh.id, 1))
    fresh.append(rest())
    assert fresh.position == count + 1


def test_a_folder_that_is_well_again_is_used_again(fresh, rest, spool_dir, monkeypatch, stored):
    kind = ["nfs"]
    monkeypatch.setattr(folder, "file_system", lambda path: kind[0])
    fresh.append(rest(data={"text": "x" * 900_000}))
    kind[0] = "ext4"
    monkeypatch.setattr(fresh, "_folder_bad_until", 0.0)
    fresh.append(rest(data={"text": "x" * 900_000}))
    assert [each.writer_position for each in stored()] == [2]
    assert fresh.complaint == ""


def test_the_spool_is_bounded(fresh, rest, spool_dir, settings):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "SPOOL_MAX_BYTES": 16 << 20}
    big = rest(data={"text": "x" * 500_000})
    with pytest.raises(SpoolFull, match="SPOOL_MAX_BYTES"):
        fill_up(fresh, big)
    assert sum(found.size for found in folder.segments(spool_dir)) <= 16 << 20
    assert not fresh.in_memory


def test_shipped_segments_make_room(fresh, rest, spool_dir, settings):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "SPOOL_MAX_BYTES": 16 << 20}
    big = rest(data={"text": "x" * 500_000})
    with pytest.raises(SpoolFull):
        fill_up(fresh, big)
    *older, _current = folder.segments(spool_dir)
    for found in older:
        name = folder.name_of(found.writer_id, found.sequence, 1)
        found.path.rename(found.path.with_name(name))
    count = fresh.position
    with pytest.raises(SpoolFull):  # for a second it is taken to be full still
        fresh.append(big)
    fresh._full_until = 0.0
    with pytest.raises(SpoolFull):
        fill_up(fresh, big)
    assert fresh.position >= count + 10
    assert sum(found.size for found in folder.segments(spool_dir)) <= 16 << 20


def fill_up(writer, row):
    """Append until there is no room; raises where there always is."""
    for _ in range(200):
        writer.append(row)


def test_a_full_disk_raises_nothing_but_spool_full(rest, spool_dir, in_child):
    """RLIMIT_FSIZE: the file cannot grow, as on a full disk."""
    writer = writers.writer

    def in_the_child():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
        raised = []
        big = rest(data={"text": "x" * 400_000})
        for _ in range(80):
            try:
                writer.append(big)
            except SpoolFull as error:
                raised.append(str(error))
        return [writer.position, len(raised), raised[:1]]

    count, refused, messages = in_the_child_result = in_child(in_the_child)
    assert count + refused == 80, in_the_child_result
    assert count >= 7, "the first segments on the disk, then memory"
    assert refused > 10
    assert "memory" in messages[0]


def test_syncing_each_record(fresh, rest, settings, monkeypatch):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "SPOOL_SYNC": True}
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for _ in range(5):
        fresh.append(rest())
    assert len(synced) == 5


def test_without_syncing_no_record_waits_for_the_disk(fresh, rest, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("it waited"))
    for _ in range(5):
        fresh.append(rest())


def test_two_logs_have_two_folders(settings, monkeypatch, spool_dir):
    from django.db import connections

    alias = settings.BAMBOO_AUDIT.get("DATABASE", "default")
    changed = {**connections.databases[alias], "NAME": "another"}
    monkeypatch.setitem(connections.databases, alias, changed)
    assert folder.place() != spool_dir
    assert folder.place().parent == spool_dir.parent


def test_in_a_test_suite_the_default_goes_with_the_process(settings):
    settings.BAMBOO_AUDIT = {}
    assert "bamboo-audit-tests-" in str(folder.place())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_STATE_HOME": "/state"}, "/state"),
        ({"XDG_STATE_HOME": "relative", "HOME": "{home}"}, "{home}/.local/state"),
        ({"HOME": "{home}"}, "{home}/.local/state"),
        ({"HOME": "/nonexistent"}, "/var/tmp"),
        ({"HOME": "/"}, "/var/tmp"),
        ({}, "/var/tmp"),
    ],
)
def test_the_default_survives_a_restart_of_the_machine(
    monkeypatch, tmp_path, settings, environment, expected
):
    from audit import conf

    settings.BAMBOO_AUDIT = {}
    monkeypatch.setattr(conf, "under_test_runner", lambda: False)
    for name in ("XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    assert str(folder.place().parent) == expected.format(home=tmp_path)


def test_a_fork_while_a_segments_pages_are_touched_takes_no_lock_along(fresh, rest, monkeypatch):
    """A map cannot be closed while it is written to."""
    row, touch, touching = rest(data={"text": "x" * 300_000}), Segment.fault_in, threading.Event()

    def and_say_so(segment):
        touching.set()
        touch(segment)

    monkeypatch.setattr(Segment, "fault_in", and_say_so)
    fresh._size = LARGEST
    for _ in range(5):
        while fresh._prepared is not None or (
            fresh._segment is None or fresh._segment.end << 1 <= fresh._segment.size
        ):
            fresh.append(row)
        touching.clear()
        beside = threading.Thread(target=fresh.prepare)
        beside.start()
        assert touching.wait(5)
        child = os.fork()
        if not child:
            descriptors = Path("/proc/self/fd")
            left = sum(
                os.readlink(each).endswith(".seg")
                for each in descriptors.iterdir()
                if each.is_symlink() and each.exists()
            )
            os._exit(left)
        beside.join()
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "so many of its parent's files are open"


def test_near_its_limit_none_is_made_beforehand(fresh, rest, spool_dir, settings):
    """Its room may be needed before it is there."""
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "SPOOL_MAX_BYTES": 16 << 20}
    for _ in range(2):
        fresh.append(rest(data={"text": "x" * 300_000}))
    (spool_dir / folder.name_of(uuid.uuid4(), 1)).write_bytes(bytes(12 << 20))
    fresh.prepare()
    assert fresh._prepared is None
    for _ in range(2):
        fresh.append(rest(data={"text": "x" * 300_000}))
    assert fresh.position == 4


def test_where_the_folder_is_lost_none_is_made_beforehand(fresh, rest, spool_dir, stored):
    """And nobody is told of a new one."""
    for _ in range(2):
        fresh.append(rest(data={"text": "x" * 300_000}))
    before = fresh.in_use
    spool_dir.chmod(0o777)
    for _ in range(3):
        fresh.prepare()
    assert fresh._prepared is None
    assert fresh.in_use == before
    for _ in range(3):
        fresh.append(rest(data={"text": "x" * 300_000}))
    assert len(fresh.in_memory) == 1, "it goes on in memory"
    spool_dir.chmod(0o700)
