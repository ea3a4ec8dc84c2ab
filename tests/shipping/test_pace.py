"""When it is shipped: nobody looks in vain where somebody can ring."""

from __future__ import annotations

import itertools

from audit.shipping.pace import LONGEST, PEEK, Pace
from audit.shipping.shipper import WORTH_IT
from audit.spool.writer import writer


def test_what_waits_in_two_segments_is_counted_together(emit, shipper):
    few = WORTH_IT * 2 // 3
    emit(few, of=writer)
    emit(1, of=writer, data={"text": "x" * 1_000_000})
    shipper.shelf.discover(now=True)
    assert not shipper.has_many()
    emit(few, of=writer)
    assert shipper.has_many()
    assert sum(shipper.cycle(look=True) for _ in range(3)) == 2 * few + 1
    assert not shipper.has_many()


def test_many_of_another_process_are_seen_by_looking(emit, shipper):
    emit(WORTH_IT - 1)
    shipper.shelf.discover(now=True)
    assert not shipper.has_many()
    emit(1)
    assert shipper.has_many()


def test_its_own_process_wakes_it(emit, shipper):
    emit(1, of=writer)
    assert shipper.cycle(look=True) == 1
    shipper.have_it_rung()
    writer.bell.wait(0)
    emit(WORTH_IT - 1, of=writer)
    assert not writer.bell.wait(0)
    emit(1, of=writer)
    assert writer.bell.wait(0)


def test_it_looks_more_seldom_where_few_records_come(emit, shipper):
    pace = Pace()
    waits = [pace.peek(shipper) for _ in range(20)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == PEEK
    assert all(later < 2 * earlier for earlier, later in itertools.pairwise(waits))


def test_and_again_where_many_come_from_who_cannot_wake_it(emit, shipper):
    pace = Pace()
    for _ in range(20):
        pace.peek(shipper)
    emit(1, of=writer)
    shipper.cycle(look=True)
    assert pace.after(WORTH_IT, shipper) == PEEK[1], "its own process can"
    emit(1)
    shipper.cycle(look=True)
    assert pace.after(WORTH_IT - 1, shipper) == PEEK[1]
    assert pace.after(WORTH_IT, shipper) == PEEK[0]


def test_it_is_not_woken_for_each_event_where_what_waits_cannot_be_shipped(emit, shipper):
    emit(1, of=writer)
    shipper.cycle(look=True)
    emit(WORTH_IT, of=writer)
    writer.bell.wait(0)
    shipper.have_it_rung()
    emit(10, of=writer)
    assert not writer.bell.wait(0)
    assert shipper.has_many()


def test_nobody_looks_where_all_that_many_could_come_from_rings(emit, shipper, settings):
    settings.BAMBOO_AUDIT = {**settings.BAMBOO_AUDIT, "FLUSH_INTERVAL": 30}
    emit(1, of=writer)
    shipper.cycle(look=True)
    pace = Pace()
    assert pace.after(1, shipper) <= PEEK[1], "it does not ring yet"
    shipper.have_it_rung()
    assert pace.after(1, shipper) == LONGEST
    emit(WORTH_IT, of=writer)
    assert writer.bell.wait(0)
    assert pace.is_due(shipper)
    assert pace.peek(shipper) <= PEEK[1], "once rung it is looked for again"
    shipper.cycle()
    shipper.have_it_rung()
    emit(1)  # of a writer that cannot wake it
    shipper.shelf.discover(now=True)
    assert pace.peek(shipper) <= PEEK[1]
