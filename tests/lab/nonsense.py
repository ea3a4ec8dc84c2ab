"""Histories by chance, of which some could be of a run."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from audit.events import VOCABULARY
from audit.fold import ENGINE_SENDER, Record
from audit.fold.states import TABLE
from lab.by_hand import TREE

IDS = ["run", "a", "a", "b", "sub", "end", "other", ""]
TYPES = [*VOCABULARY, *["post_set_state"] * 20, "pre_execute", "post_execute", "new"]
COUNTS = {"pre_schedule": 2, "post_schedule": 1}
NONSENSE = [None, True, 0, -7, 2**62, 1.5, float("inf"), "", "x" * 300, "\u2028", [], [[]], {}]
NONSENSE += [{"id": "run"}, {"id": 7, "activities": []}, {"": {"": None}}]


def history(chance: Random, most: int = 40, types: Sequence[str] = TYPES) -> list[Record]:
    """Records that may be or may not be of a run, in the order in which they occurred."""

    def one_of(*likely: Any) -> Any:
        return chance.choice(likely) if chance.random() < 0.85 else chance.choice(NONSENSE)

    def some_of(**found: Any) -> dict[str, Any]:
        return {key: value for key, value in found.items() if chance.random() < 0.7}

    found, numbers, at = [], dict.fromkeys(["web", "worker", "third"], 0), 1_700_000_000_000_000
    positions = chance.sample(range(1, 5 * most), chance.randint(1, most))
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
                *(position, at, writer, numbers[writer], chance.choice(types)),
                *(chance.choice(IDS), chance.choice(IDS), chance.choice(["", "v1", "v2"])),
                *(data, context),
            )
        )
    return found
