"""Large payloads: what is kept of them, and that nothing about them takes for ever."""

from __future__ import annotations

import collections
import datetime
import hashlib
import json
import time
import tracemalloc
from typing import Any

import pytest

from audit.capture import encode, record, truncate
from audit.capture.encode import Limits, encode_within, limits_of
from audit.capture.ids import Ids
from audit.capture.text import is_long, short_repr
from audit.options import OPTIONS

SECRETS = OPTIONS["REDACT"].default
LEAST = 16 << 10


@pytest.fixture
def limit(settings):
    def set_to(most: int) -> None:
        settings.BAMBOO_AUDIT = {"MAX_EVENT_BYTES": most}

    set_to(LEAST)
    return set_to


def made(data: Any, event_type: str = "pre_callback") -> tuple[Any, dict[str, Any]]:
    answer = record.make(event_type, data, Ids(), SECRETS)
    return json.loads(answer.data), json.loads(answer.context)


def text_of(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


# What is kept.


def test_a_large_event_is_its_beginning_its_length_its_digest_and_its_ids(limit):
    data = {"node_id": "n", "version": "v", "data": ["x" * 90 + "中文" for _ in range(1_000)]}
    found, about = made(data)

    whole = text_of(data)
    assert found.pop("head") == whole[: LEAST // 8].decode(errors="ignore")
    assert found == {
        "truncated": True,
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "node_id": "n",
        "version": "v",
    }
    assert about["changed"] == [{"path": "$", "was": f"{len(whole):,} bytes"}]


@pytest.mark.parametrize("spare", [1, 0, -1])
def test_the_limit_is_exact(limit, spare):
    """``"data"`` goes the slow way, ``"d"`` would be flat."""
    for data in ({"d": "x" * (LEAST - 8 - spare)}, {"d": ["x" * (LEAST - 10 - spare)]}):
        assert len(text_of(data)) == LEAST - spare
        found, about = made(data)
        if spare < 0:
            assert found["truncated"] is True
        else:
            assert (found, "changed" in about) == (data, False)


def test_many_small_members_of_a_flat_event_are_large_too(limit):
    assert made({str(number): "中" * 1_000 for number in range(30)})[0]["truncated"] is True
    assert made({"k" * 20_000: 1})[0]["truncated"] is True


def test_the_head_is_at_most_64_kb_and_ends_between_characters(limit):
    limit(1 << 20)
    for offset in range(4):
        found, _ = made(["a" * offset + "😀" * 500_000])
        head = found["head"].encode()
        assert truncate.MAX_HEAD - 3 <= len(head) <= truncate.MAX_HEAD
        assert found["head"].endswith("😀")


def test_head_and_digest_are_of_the_redacted_text(limit):
    data = {"password": "hunter2", "pad": ["x" * LEAST]}
    found, about = made(data)
    redacted = text_of({**data, "password": "[redacted]"})
    assert found["sha256"] == hashlib.sha256(redacted).hexdigest()
    assert found["head"].startswith('{"password":"[redacted]"')
    assert about["redacted"] == ["$.password"]


@pytest.mark.parametrize("begin", ["", " " * 900, " " * 5_000], ids=len)
@pytest.mark.parametrize("beside", [None, {1}], ids=["", "slowly"])
def test_a_cut_json_text_shows_no_secret(limit, begin, beside):
    text = begin + '{"password": "hunter2", "pad": "' + "x" * (9 << 20) + '"}'
    for data in ({"d": [text], "b": beside}, {"d": text.encode(), "b": beside}):
        answer = record.make("pre_callback", data, Ids(), SECRETS)
        assert json.loads(answer.data)["truncated"] is True
        assert b"hunter2" not in answer.data + answer.context


def test_ids_of_a_large_event_are_no_place_for_a_secret(settings):
    settings.BAMBOO_AUDIT = {"MAX_EVENT_BYTES": LEAST}
    answer = record.make("x", {"node_id": "hunter2", "d": ["x" * LEAST]}, Ids(), ("node",))
    assert json.loads(answer.data)["node_id"] == "[redacted]"
    assert b"hunter2" not in answer.data
    assert json.loads(answer.context)["redacted"] == ["$.node_id", "$.node_id"]


def test_a_large_tree_keeps_its_outline(limit):
    nodes = {
        f"n{number}": {"id": f"n{number}", "name": "步" * 20, "inputs": "x" * 5_000}
        for number in range(20)
    }
    data = {"pipeline": {"id": "p", "activities": nodes}, "root_pipeline_data": {"a": 1}}
    found, _ = made(data, "pre_prepare_run_pipeline")
    assert found["pipeline"] == {
        "id": "p",
        "activities": {key: {"id": key, "name": "步" * 20} for key in nodes},
    }
    assert "pipeline" not in made(data, "pre_callback")[0]


@pytest.mark.parametrize("name", ["a", "步", "\1", '"'])
@pytest.mark.parametrize("most", [LEAST, 1 << 20])
def test_what_is_kept_is_within_the_limit(limit, name, most):
    limit(most)
    nodes = {f"n{number}": {"name": name * 255} for number in range(20_000)}
    answer = record.make(
        "pre_prepare_run_pipeline", {"pipeline": {"id": "p", "activities": nodes}}, Ids(), SECRETS
    )
    assert len(answer.data) <= most
    assert json.loads(answer.data)["truncated"] is True


def test_nothing_on_this_path_gives_up_the_gil(limit, monkeypatch):
    sizes = []

    class Digest:
        def update(self, piece: bytes) -> None:
            sizes.append(len(piece))

        def hexdigest(self) -> str:
            return ""

    monkeypatch.setattr(hashlib, "sha256", Digest)
    made(["x" * 100_000])
    assert sum(sizes) == 100_004
    assert max(sizes) < 2_048


# Bounded work: without bounds most of these take longer than anybody waits.


def shared(kind: Any, levels: int = 10, wide: int = 10) -> Any:
    """Small in memory, and ``wide ** levels`` values as JSON."""
    value = kind([1])
    for _ in range(levels):
        value = kind([value] * wide)
    return value


def shared_dicts() -> Any:
    value: Any = {}
    for _ in range(12):
        value = dict.fromkeys("0123456789", value)
    return value


class Endless(collections.abc.Mapping[str, Any]):
    value: Any = 1

    def __getitem__(self, key: str) -> Any:
        return self.value

    def __iter__(self) -> Any:
        number = 0
        while True:
            number += 1
            yield str(number)

    def __len__(self) -> int:
        return 1


class EndlessText(Endless):
    def __getitem__(self, key: str) -> Any:
        return "x" * 1_000_000


class EndlessList(list[Any]):
    def __iter__(self) -> Any:
        while True:
            yield 1


class EndlessItems(dict[str, Any]):
    def items(self) -> Any:
        return Endless().items()


MEGA = "x" * 400_000_000
MOMENT = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
HUGE = {
    "lists": lambda: shared(list),
    "tuples": lambda: shared(tuple),
    "lists of ones that are no lists": lambda: shared(collections.UserList),
    "dicts": shared_dicts,
    "deques": lambda: shared(collections.deque),
    "tuples as a key": lambda: {shared(tuple, 6): 1},
    "text": lambda: MEGA,
    "text in a set": lambda: {MEGA},
    "text as a key": lambda: {MEGA: 1},
    "text in a key": lambda: {(MEGA,): 1},
    "text in an exception": lambda: ValueError(MEGA),
    "bytes": lambda: MEGA.encode(),
    "an integer": lambda: 1 << 3_200_000_000,
    "a list": lambda: [None] * 10_000_000,
    "a list of lists": lambda: [[None] * 10_000_000] * 100,
    "a deque": lambda: collections.deque(range(3_000_000)),
    "a set": lambda: set(range(1_000_000)),
    "a set without an order": lambda: {1, "a", *range(300_000)},
    "keys": lambda: dict.fromkeys(map(str, range(1_000_000))),
    "keys that are no text": lambda: dict.fromkeys(range(1_000_000)),
    "a mapping that never ends": Endless,
    "a mapping of texts that never ends": EndlessText,
    "a list that never ends": EndlessList,
    "a dict that never ends": EndlessItems,
}


@pytest.mark.parametrize("beside", [1, MOMENT], ids=["", "slowly"])
@pytest.mark.parametrize("make", HUGE.values(), ids=HUGE.keys())
def test_time_and_memory_are_bounded(make, beside):
    data = {"first": beside, "it": make(), "node_id": "n"}
    tracemalloc.start()
    began = time.process_time()
    try:
        answer = record.make("pre_callback", data, Ids(), SECRETS)
        assert time.process_time() - began < 60  # traced, it takes ten times as long
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 160_000_000
    assert len(answer.data) <= OPTIONS["MAX_EVENT_BYTES"].default
    assert len(answer.context) < 100_000
    found = json.loads(answer.data)
    assert found["node_id"] == "n"
    if "truncated" in found:
        assert (found["bytes"], found["sha256"]) == (None, None)
        assert {"path": "$", "was": "too much to be looked through"} in json.loads(answer.context)[
            "changed"
        ]


@pytest.mark.parametrize("where", ["activities", "gateways", "pipeline"])
def test_a_tree_without_an_end(where):
    from audit.capture.ids import known_nodes, of_pipeline_event

    tree: Any = {"id": "p", where: Endless()}
    if where == "pipeline":
        tree = Endless()
    event = "pre_prepare_run_pipeline"
    found = of_pipeline_event(event, {"pipeline": tree})
    answer = record.make(event, {"pipeline": tree}, found, SECRETS)
    assert json.loads(answer.data)["truncated"] is True
    assert len(known_nodes._places) <= 50_000


def test_a_survey_finds_what_is_shared_before_orjson_writes_it(monkeypatch):
    monkeypatch.setattr(encode.orjson, "dumps", None)
    assert encode._survey(shared(list), limits_of(4 << 20)) == encode._HOPELESS


def test_what_is_cut_is_marked_and_noted():
    few = Limits(values=8, size=1_000)
    text, notes, whole = encode_within([MOMENT, *range(20)], few)
    assert json.loads(text) == [MOMENT.isoformat(), *range(6), "[…14 more]"]
    assert notes[-1] == {"path": "$", "was": "14 more"}
    assert not whole

    text, notes, whole = encode_within({"s": MOMENT, **dict.fromkeys("abcdefghij", 0)}, few)
    assert json.loads(text) == {
        "s": MOMENT.isoformat(),
        **dict.fromkeys("abcdef", 0),
        "…": "[…4 more]",
    }

    text, notes, whole = encode_within([MOMENT, "x" * 5_000, "never"], Limits(8, 1_000))
    kept = 1_000 - len(MOMENT.isoformat())
    assert json.loads(text) == [
        MOMENT.isoformat(),
        "x" * kept + f"[…{5_000 - kept:,} more characters]",
        "[…1 more]",
    ]
    assert [note["path"] for note in notes] == ["$[0]", "$[1]", "$"]

    text, notes, whole = encode_within(EndlessItems(), Limits(3, 100))
    assert json.loads(text) == {"1": 1, "2": 1, "…": "[…more]"}


def test_the_mark_of_a_cut_dict_takes_no_keys_place():
    text, _, _ = encode_within({"…": MOMENT, "a": 1, "b": 2}, Limits(3, 100))
    assert json.loads(text) == {"…": MOMENT.isoformat(), "a": 1, "…~2": "[…1 more]"}


@pytest.mark.parametrize("most", [LEAST, 4 << 20, 64 << 20])
def test_a_payload_within_its_bytes_is_whole_unless_its_values_are_too_many(most):
    values, _ = limits_of(most)
    assert values >= 200_000
    assert encode_within([[1] * (values - 2)], limits_of(most)).whole
    assert not encode_within([[1] * (values + 1)], limits_of(most)).whole


def test_a_repr_is_not_made_of_what_is_large():
    class Counted:
        asked = 0

        def __repr__(self) -> str:
            type(self).asked += 1
            return "counted"

    assert short_repr(collections.deque([Counted()] * 200_000)) == "<deque, too long for a repr>"
    assert Counted.asked == 0
    assert short_repr(collections.deque([Counted()])) == "deque([counted])"
    assert not is_long([["x" * 1_000] * 10])
    assert is_long({}.fromkeys(range(200_000)).keys())


def test_an_exceptions_long_message_is_kept():
    (found,), _ = made([ValueError("x" * 200_000)])
    assert found == "ValueError: " + "x" * 200_000
