"""What holds for any records: no order, no doubling and no nonsense changes what is folded."""

from __future__ import annotations

import json
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as some
from lab.nonsense import history

from audit.fold import Record, RunTimeline, completeness, fold, waiting
from audit.timeline import Timeline

CHANCE = some.integers(0, 2**32).map(Random)
MANY = settings(max_examples=300, deadline=None)


def folded(records: list[Record]) -> RunTimeline:
    found = fold("run", records)
    assert found is not None
    return found


@MANY
@given(CHANCE)
def test_any_records_fold_to_a_timeline_that_answers_everything(chance: Random) -> None:
    found = folded(history(chance))
    completeness.expected_by(found, waiting.waits(found))
    timeline = Timeline(found, now=found.facts.last_at)
    json.dumps(timeline.as_dict())
    timeline.as_states(flat_children=False)
    for node in found.nodes.values():
        entered = [each.entered_us for each in node.transitions]
        assert entered == sorted(entered)
        assert [each.ordinal for each in node.transitions] == list(range(1, len(entered) + 1))
        for before, after in zip(node.transitions, node.transitions[1:], strict=False):
            assert before.left_us == after.entered_us
            assert before.state == after.from_state
        assert node.state == (node.transitions[-1].state if node.transitions else "")
        assert [each.no for each in node.attempts] == list(range(1, len(node.attempts) + 1))


@MANY
@given(CHANCE)
def test_order_of_arrival_and_doubles_make_no_difference(chance: Random) -> None:
    records = history(chance)
    shuffled = [*records, *chance.sample(records, len(records) // 2)]
    chance.shuffle(shuffled)
    assert repr(folded(shuffled)) == repr(folded(records))


@MANY
@example(Random(1010))
@given(CHANCE)
def test_the_state_at_any_moment_is_that_of_the_records_until_then(chance: Random) -> None:
    records = history(chance)
    moment = chance.choice(records).at
    until = [each for each in records if each.at <= moment]
    then, whole = folded(until), folded(records)
    if not then.facts.states_recorded:
        return  # states are inferred until the first one that was recorded
    for node_id, node in then.nodes.items():
        if node_id not in whole.nodes:  # only in a tree that another one has replaced
            assert node.transitions == ()
            continue
        now = [each for each in whole.nodes[node_id].transitions if each.entered_us <= moment]
        assert [each.state for each in now] == [each.state for each in node.transitions]
