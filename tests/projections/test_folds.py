"""Folds that are kept from batch to batch: the same rows as if each run were folded as a whole."""

from __future__ import annotations

import datetime
import random
import uuid
from typing import Any

import pytest
from lab.nonsense import TYPES, history
from lab.stored import empty_log, store
from lab.tables import TABLES, rows

from audit.fold import Record
from audit.models import ProjectionCheckpoint
from audit.projections import folds, projector
from audit.projections.folds import Folds
from audit.projections.timelines import Timelines

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

WITHOUT_TREES = [each for each in TYPES if "prepare" not in each]
SECOND = 1_000_000
SINCE = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def short_runs_are_kept(monkeypatch):
    empty_log()
    monkeypatch.setattr(folds, "KEEP_FROM", 3)
    monkeypatch.setattr(folds, "FIRST_LAG", 2 * SECOND)


class Counted(Timelines):
    """How often a run was gone on with, and how often it was folded as a whole."""

    def __init__(self) -> None:
        self.on = self.whole = 0

    def apply(self, batch: Any) -> None:
        news = batch.news

        def count(run: Any) -> Any:
            found = news(run)
            self.on += found.nodes is not None
            self.whole += found.nodes is None
            return found

        batch.news = count
        super().apply(batch)


def catch_up(by: Timelines, batch: int = 5_000) -> None:
    projector.catch_up([by], batch)


def afresh(mark: str) -> dict[str, list[str]]:
    """The rows that others make who know nothing of before."""
    for model in TABLES:
        model.objects.filter(root_pipeline_id__startswith=mark).delete()
    ProjectionCheckpoint.objects.filter(name=Timelines.name).update(position=0)
    catch_up(Timelines())
    return rows(mark)


def of(mark: str, records: list[Record]) -> list[tuple[str, Record]]:
    """With ids of their own, each with its run; of some operations nobody knew that."""
    root, found = f"{mark}run", []
    for each in records:
        is_operation = each.event_type.startswith(("pre_retry", "post_retry", "pre_skip"))
        known = not is_operation or each.writer_position % 3
        found.append(
            (
                root if known else "",
                each._replace(
                    node_id=f"{mark}{each.node_id}",
                    pipeline_id=f"{mark}{each.pipeline_id}",
                    writer_id=f"{mark}{each.writer_id}",
                ),
            )
        )
    return found


def a_little_late(chance: random.Random, records: list[Any]) -> list[Any]:
    """As several writers ship: mostly in order, some much later."""
    late = {n: n + chance.choice([0] * 20 + [1, 2, 3, 30]) for n in range(len(records))}
    return [records[n] for n in sorted(late, key=lambda n: (late[n], n))]


def keep(records: list[tuple[str, Record]]) -> None:
    for root, each in records:
        store([each], root=root, since=SINCE)


def test_whoever_goes_on_makes_the_same_rows():
    went_on = 0
    for seed in range(30):
        chance, mark = random.Random(seed), uuid.uuid4().hex[:8]
        records = [*history(chance, 20), *history(chance, 120, WITHOUT_TREES)]
        one, other = Counted(), Counted()
        left = a_little_late(chance, of(mark, records))
        while left:
            count = chance.randint(1, 8)
            keep(left[:count])
            left = left[count:]
            catch_up(chance.choice([one] * 5 + [other]), chance.choice([3, 10, 5_000]))
        found = rows(mark)
        assert found == afresh(mark), seed
        went_on += one.on + other.on
    assert went_on > 100, went_on


def a_long_run(count: int = 100) -> tuple[str, list[tuple[str, Record]]]:
    mark = uuid.uuid4().hex[:8]
    chance = random.Random(count)
    types = ["post_set_state", "pre_execute", "post_execute"]
    found: list[Record] = []
    while len(found) < count:
        found = history(chance, 3 * count, types)
    return mark, of(mark, found[:count])


def test_records_in_their_order_are_read_once(monkeypatch):
    mark, records = a_long_run()
    by, asked = Counted(), []
    keep(records[:50])
    catch_up(by)
    read = folds.Folds.whole
    monkeypatch.setattr(folds.Folds, "whole", lambda *of: asked.append(of) or read(*of))
    for n in range(50, 100, 5):
        keep(records[n : n + 5])
        catch_up(by)
    assert (by.on, asked) == (10, [])
    assert rows(mark) == afresh(mark)


def test_one_that_reaches_back_too_far_is_folded_as_a_whole_and_kept_further_back():
    mark, records = a_long_run()
    by = Counted()
    keep([*records[:30], *records[31:90]])
    catch_up(by)
    keep([records[30]])
    catch_up(by)
    assert (by.on, by.whole) == (0, 2)
    keep(records[90:])
    catch_up(by)
    assert (by.on, by.whole) == (1, 2)
    assert rows(mark) == afresh(mark)


def test_what_another_applied_in_between_is_known_to_both():
    mark, records = a_long_run()
    one, other = Counted(), Counted()
    keep(records[:50])
    for n in range(50, 100, 5):
        catch_up([one, other][n % 2])
        keep(records[n : n + 5])
    catch_up(one)
    assert one.on + other.on > 5
    assert rows(mark) == afresh(mark)


def test_what_was_taken_back_is_not_believed(monkeypatch):
    mark, records = a_long_run()
    by = Counted()
    keep(records[:50])
    catch_up(by)
    keep(records[50:70])
    with monkeypatch.context() as patch:
        patch.setattr(projector.checkpoints, "move", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            catch_up(by)
    catch_up(by)
    keep(records[70:])
    catch_up(by)
    assert rows(mark) == afresh(mark)


def test_tables_that_begin_anew_are_written_whole():
    mark, records = a_long_run()
    by = Counted()
    keep(records)
    catch_up(by)
    found = rows(mark)
    projector.begin_anew(by)
    catch_up(by)
    assert rows(mark) == found


def test_no_more_is_kept_than_may_be(monkeypatch):
    monkeypatch.setattr(folds, "MOST", 150)
    by = Counted()
    marks = []
    for _ in range(4):
        mark, records = a_long_run()
        marks.append(mark)
        keep(records)
        catch_up(by)
    assert len(by.folds._kept) < 3
    assert list(by.folds._kept) == [f"{each}run" for each in marks[-len(by.folds._kept) :]]


def test_a_run_whose_rows_cannot_be_written_is_folded_as_a_whole_afterwards(monkeypatch):
    mark, records = a_long_run()
    by = Counted()
    keep(records[:80])
    catch_up(by)
    keep(records[80:90])
    with monkeypatch.context() as patch:
        patch.setattr("audit.projections.timelines.rows.of_nodes", lambda *_: 1 / 0)
        catch_up(by)
    keep(records[90:])
    catch_up(by)
    assert rows(mark) == afresh(mark)


def test_without_a_batch_before_nothing_is_kept():
    kept = Folds()
    assert kept.whole("nobody", [], 1) is None
    assert kept._kept == {}
