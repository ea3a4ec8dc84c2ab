"""A fold that is gone on with is the fold of all, and the one that it began from stays."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as some
from lab.nonsense import TYPES, history

from audit.fold import Record, RunTimeline, fold, is_state_change
from audit.fold.record import in_order
from audit.fold.run import RunBuilder

WITHOUT_TREES = [each for each in TYPES if "prepare" not in each]


def named(records: list[Record]) -> set[str]:
    return {each for record in records for each in (record.node_id, record.pipeline_id) if each}


def forked(builder: RunBuilder, rest: list[Record]) -> RunTimeline:
    """What is known of the nodes that the rest does not name is not found out anew."""
    nodes = named(rest)
    fork = builder.fork(nodes)
    if rest:
        fork.apply(rest)
    known = {each: node.result() for each, node in builder.nodes.items() if each not in nodes}
    known.pop("run", None)
    return fork.result(known)


@settings(max_examples=400, deadline=None)
@given(some.integers(0, 2**32).map(Random))
def test_a_fork_goes_on_as_if_nothing_had_been_between(chance: Random) -> None:
    records = in_order([*history(chance), *history(chance, 60, WITHOUT_TREES)])
    places = [n for n, each in enumerate(records) if "prepare" in each.event_type]
    first = max(places, default=0) + 1
    cut = chance.randint(first, len(records)) if first < len(records) else len(records)
    done, rest = records[:cut], records[cut:]
    if not any(map(is_state_change, done)):
        return  # states are inferred
    builder = RunBuilder("run")
    builder.apply(done)
    for _ in range(3):
        until = chance.randint(0, len(rest))
        assert forked(builder, rest[:until]) == fold("run", done + rest[:until])
    assert forked(builder, []) == fold("run", done)
    step = chance.randint(0, len(rest))
    if step:
        builder.apply(rest[:step])
    assert forked(builder, rest[step:]) == fold("run", records)
