"""TREES and POLL_SAMPLING with the real engine: less is kept, and what is left out is told."""

from __future__ import annotations

import math

import pytest
from lab import scenarios
from lab.spy import written

from audit import delivery
from audit.capture import outline
from audit.capture.failures import failures
from audit.capture.ids import known_nodes

POLLS = ("pre_schedule", "post_schedule")


@pytest.mark.parametrize("name", scenarios.ALL)
def test_every_signal_is_recorded_or_counted(name, spy, configure):
    configure(POLL_SAMPLING=60)
    run = scenarios.ALL[name]()
    assert run.crashes == []
    delivery.tell_suppressed(math.inf)

    records, sent = written(), spy.types()
    counts = [each.context["suppressed"] for each in records if "suppressed" in each.context]
    assert [each for each in records if each.event_type == "polls_suppressed"] == []
    for poll in POLLS:
        recorded = sum(each.event_type == poll for each in records)
        assert recorded + sum(count[poll] for count in counts) == sent.count(poll)
        assert (recorded > 0) == (poll in sent)
    others = [each.event_type for each in records if each.event_type not in POLLS]
    assert others == [each for each in sent if each not in POLLS]
    assert failures.summary().total == 0


def test_polls_between_are_told_by_the_state_change_after_them(spy, configure):
    configure(POLL_SAMPLING=60)
    scenarios.poll()
    assert spy.types().count("pre_schedule") == 3
    told = [each for each in written() if "suppressed" in each.context]
    (finished,) = told
    assert finished.data["to_state"] == "FINISHED"
    assert finished.context["suppressed"].items() >= {"pre_schedule": 2, "post_schedule": 2}.items()


def test_callbacks_in_this_process_are_all_recorded(spy, configure):
    configure(POLL_SAMPLING=86_400)
    scenarios.callback()
    scenarios.callback_fails()
    assert [each.event_type for each in written()] == spy.types()


@pytest.mark.parametrize("name", scenarios.ALL)
def test_an_outline_changes_nothing_but_the_tree(name, spy, configure):
    configure(TREES="outline")
    run = scenarios.ALL[name]()
    assert run.crashes == []
    records = written()
    assert [each.event_type for each in records] == spy.types()
    trees = 0
    for seen, each in zip(spy.seen, records, strict=True):
        if seen.event_type not in outline.EVENTS:
            assert "truncated" not in each.data
            continue
        trees += 1
        tree = each.data["pipeline"]
        assert tree["id"] == each.root_pipeline_id == run.root
        whole = seen.data["pipeline"]
        assert tree["activities"].keys() == whole["activities"].keys()
        assert tree["flows"].keys() == whole["flows"].keys()
        assert "data" not in tree
        places = dict(known_nodes._places)
        known_nodes._reset()
        known_nodes.learn_tree(tree)
        assert all(places[node] == place for node, place in known_nodes._places.items())
        assert set(run.parents) <= {*known_nodes._places}
        known_nodes.learn(places)
    assert trees
