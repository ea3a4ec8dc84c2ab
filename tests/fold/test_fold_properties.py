"""What holds for any records: no order, no doubling and no nonsense changes what is folded."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as some
from lab.by_hand import TREE

from audit.events import VOCABULARY
from audit.fold import Record, RunTimeline, completeness, fold, waiting
from audit.fold.run import ENGINE_SENDER
from audit.fold.states import TABLE
from audit.timeline import Timeline

IDS = ["run", "a", "a", "b", "sub", "end", "other", ""]
TYPES = [*VOCABULARY, *["post_set_state"] * 20, "pre_execute", "post_execute", "new"]
COUNTS = {"pre_schedule": 2, "post_schedule": 1}
NONSENSE = [None, True, 0, -7, 2**62, 1.5, float("inf"), "", "x" * 300, "\u2028", [], [[]], {}]
NONSENSE += [{"id": "run"}, {"id": 7, "activities": []}, {"": {"": None}}]


def history(chance: Random) -> list[Record]:
    """Records that may be or may not be of a run, in the order in which they occurred."""

    def one_of(*likely: Any) -> Any:
        return chance.choice(likely) if chance.random() < 0.85 else chance.choice(NONSENSE)

    def some_of(**found: Any) -> dict[str, Any]:
        return {key: value for key, value in found.items() if chance.random() < 0.7}

    found, numbers, at = [], dict.fromkeys(["web", "worker", "third"], 0), 1_700_000_000_000_000
    positions = chance.sample(range(1, 200), chance.randint(1, 40))
    for position in positions:
        writer = chance.choice([*numbers])
        numbers[writer] += 1
        at += chance.choice([0, 1, 1_000, 3_000_000])
        data = some_of(
            to_state=one_of(*TABLE, "NEW"),
            loop=one_of(-1, 1, 2),
            root_id=one_of(*IDS),
            parent_id=one_of(*IDS),
            pipeline=one_of(TREE),
            ex_data=one_of("boom"),
            new_version=one_of("v1", "v2"),
            tags=one_of({"a": 1}),
            pre_schedule=one_of(0, 3),
            post_schedule=one_of(0, 3),
        )
        context = some_of(
            actor=one_of("alice"),
            reason=one_of("why"),
            inherited=one_of({"actor": "bob"}),
            task=one_of({"id": chance.choice("xy")}),
            tags=one_of({"b": 2}),
        )
        if chance.random() < 0.1:
            context["suppressed"] = one_of(COUNTS)
        context["sender"] = one_of(ENGINE_SENDER)
        found.append(
            Record(
                *(position, at, writer, numbers[writer], chance.choice(TYPES)),
                *(chance.choice(IDS), chance.choice(IDS), chance.choice(["", "v1", "v2"])),
                *(data, context),
            )
        )
    return found


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
