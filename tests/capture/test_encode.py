from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import sys
import threading
import types
import uuid
from typing import Any, NamedTuple

import pytest
from django.db import connections
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audit import conf
from audit.capture import record
from audit.capture.encode import Limits, encode, encode_within
from audit.capture.ids import Ids
from audit.capture.plain import MAX_DEPTH, MAX_NOTES, MAX_PATH
from audit.capture.text import MAX_REPR, clean_text
from audit.exceptions import SoftTimeLimit

LEAST = 16 << 10
"""The smallest MAX_EVENT_BYTES."""


def encoded(value: Any) -> tuple[Any, list[dict[str, Any]]]:
    text, notes = encode(value)
    return json.loads(text), notes


def nested(levels: int, innermost: Any = None) -> Any:
    value = innermost
    for _ in range(levels):
        value = [value]
    return value


class Colour(enum.Enum):
    RED = "red"
    NAN = math.nan
    SET = frozenset({1})
    NONE = None


class Word(str, enum.Enum):  # noqa: UP042 - str() of such a member is its name
    HELLO = "hello"


class Number(enum.IntEnum):
    SEVEN = 7


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass(frozen=True)
class Plugin:
    name: str
    retries: int = 3


class Text(str):
    """As hosts have it: Django's SafeString is one."""

    __slots__ = ()


BIG = 2**64
DIGITS_3900 = 10**3899
DIGITS_5000 = 10**4999
DIGITS_20000 = 10**19_999
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)

# Every row of the table in the module: what goes in, what comes out, and what the note says.
TABLE = {
    "NUL": ("a\0b", "a␀b", "text with NUL or lone surrogates"),
    "lone surrogate": ("a\udc80b", "a\\udc80b", "text with NUL or lone surrogates"),
    "NaN": (math.nan, "NaN", "float"),
    "infinity": (math.inf, "Infinity", "float"),
    "-infinity": (-math.inf, "-Infinity", "float"),
    "over 64 bit": (BIG, "18446744073709551616", "int"),
    "under 64 bit": (-(2**63) - 1, "-9223372036854775809", "int"),
    "3,900 digits": (DIGITS_3900, str(DIGITS_3900), "int"),
    "5,000 digits": (DIGITS_5000, hex(DIGITS_5000), "int"),
    "20,000 digits": (-DIGITS_20000, hex(-DIGITS_20000), "int"),
    "set": ({3, 1, 2}, [1, 2, 3], "set"),
    "frozenset": (frozenset("cab"), ["a", "b", "c"], "set"),
    "bytes of text": ("中文".encode(), "中文", "bytes"),
    "bytes": (b"\xff\x00", "base64:/wA=", "bytes"),
    "bytearray": (bytearray(b"x"), "x", "bytearray"),
    "memoryview": (memoryview(b"x"), "x", "memoryview"),
    "datetime": (MOMENT, "2026-01-02T03:04:05.000006+00:00", "datetime"),
    "naive datetime": (MOMENT.replace(tzinfo=None), "2026-01-02T03:04:05.000006", "datetime"),
    "date": (datetime.date(2026, 1, 2), "2026-01-02", "date"),
    "time": (datetime.time(3, 4), "03:04:00", "time"),
    "Decimal": (decimal.Decimal("1.10"), "1.10", "Decimal"),
    "path": (pathlib.PurePosixPath("/a/b"), "/a/b", "PurePosixPath"),
    "lazy translation": (gettext_lazy("Time"), "Time", "__proxy__"),
    "exception": (ValueError("too\0bad"), "ValueError: too␀bad", "ValueError"),
    "timedelta": (datetime.timedelta(1), "datetime.timedelta(days=1)", "timedelta"),
    "dataclass": (Plugin("a"), {"name": "a", "retries": 3}, "Plugin"),
    "named tuple": (Point(1, [2]), {"x": 1, "y": [2]}, "Point"),
    "complex": (1j, "1j", "complex"),
    "class": (int, "<class 'int'>", "type"),
    "range": (range(3), "range(0, 3)", "range"),
    "deque": (collections.deque([1]), "deque([1])", "deque"),
}


@pytest.mark.parametrize(("value", "plain", "was"), TABLE.values(), ids=TABLE.keys())
def test_the_table(value, plain, was):
    assert encoded(value) == (plain, [{"path": "$", "was": was}])
    assert encoded({"a": [0, value]}) == ({"a": [0, plain]}, [{"path": "$.a[1]", "was": was}])


WITHOUT_NOTE = {
    "tuple": ((1, "a"), [1, "a"]),
    "member": (Colour.RED, "red"),
    "member that is text": (Word.HELLO, "hello"),
    "member that is a number": (Number.SEVEN, 7),
    "UUID": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "text subclass": (Text("a"), "a"),
    "int subclass": (type("Whole", (int,), {})(5), 5),
    "float subclass": (type("Real", (float,), {})(0.5), 0.5),
    "list subclass": (type("Items", (list,), {})([1]), [1]),
    "ordered dict": (collections.OrderedDict(a=1), {"a": 1}),
    "defaultdict": (collections.defaultdict(int, a=1), {"a": 1}),
    "mapping proxy": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "lazy object": (SimpleLazyObject(lambda: {"a": Text("b")}), {"a": "b"}),
    "lazy text": (SimpleLazyObject(lambda: "b"), "b"),
}


@pytest.mark.parametrize("neighbour", [None, {1}], ids=["alone", "beside a set"])
@pytest.mark.parametrize(("value", "plain"), WITHOUT_NOTE.values(), ids=WITHOUT_NOTE.keys())
def test_what_json_makes_of_it_is_no_surprise(value, plain, neighbour):
    """The same with orjson alone and in the second pass, and without a note."""
    (out, _), notes = encoded([value, neighbour])
    assert out == plain
    assert [note for note in notes if note["was"] != "set"] == []


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (-(2**63), -(2**63)),
        (2**64 - 1, 2**64 - 1),
        (0.1, 0.1),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (5e-324, 5e-324),
        ("\\u0000", "\\u0000"),
        ('{"a": "\\u0000"}', '{"a": "\\u0000"}'),
        ("␀", "␀"),
        ("null", "null"),
        ({"null": [None]}, {"null": [None]}),
        ("\U0001f600\u2028", "\U0001f600\u2028"),
        ("x" * 1_000_000, "x" * 1_000_000),
        ([], []),
        ("", ""),
    ],
)
def test_what_is_json_already_comes_through_unchanged(value, plain):
    assert encoded(value) == (plain, [])


def test_a_nan_shows_beside_nulls():
    out, notes = encoded({"a": [None, {"b": math.nan}], "null": None, "c": (Colour.NAN,)})
    assert out == {"a": [None, {"b": "NaN"}], "null": None, "c": ["NaN"]}
    assert [note["path"] for note in notes] == ["$.a[1].b", "$.c[0]"]


def test_a_nan_hides_neither_in_an_enum_nor_in_a_tuple():
    assert encoded(Colour.NAN)[0] == "NaN"
    assert encoded({"a": ((), (math.inf,))})[0] == {"a": [[], ["Infinity"]]}
    assert encoded(Colour.SET) == ([1], [{"path": "$", "was": "set"}])


KEYS = {
    "tuple": ((1, "a"), "(1, 'a')"),
    "frozenset": (frozenset({1}), "frozenset({1})"),
    "None": (None, "null"),
    "True": (True, "true"),
    "False": (False, "false"),
    "int": (-7, "-7"),
    "long int": (BIG, str(BIG)),
    "float": (1.5, "1.5"),
    "NaN": (math.nan, "NaN"),
    "bytes": (b"\xff", "base64:/w=="),
    "datetime": (MOMENT, MOMENT.isoformat()),
    "UUID": (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    "member": (Colour.RED, "red"),
    "member that is text": (Word.HELLO, "hello"),
    "member that is a number": (Number.SEVEN, "7"),
    "member that is a set": (Colour.SET, "[1]"),
    "member that is None": (Colour.NONE, "null"),
    "object": (Plugin("a"), '{"name":"a","retries":3}'),
    "type": (int, "<class 'int'>"),
}


@pytest.mark.parametrize(("key", "name"), KEYS.values(), ids=KEYS.keys())
def test_keys_that_are_no_text(key, name):
    out, notes = encoded({"a": {key: 1}})
    assert out == {"a": {name: 1}}
    assert notes == [{"path": "$.a", "was": f"key of type {type(key).__name__}"}]


@pytest.mark.parametrize("levels", [500, 20_000])
def test_a_key_may_be_nested_as_deep_as_it_likes(levels):
    key: Any = ()
    for _ in range(levels):
        key = (key,)
    (out,) = encoded({key: 1})[0]
    assert out.startswith(("(((", "<tuple, whose repr raised RecursionError>"))


def test_nul_and_surrogates_in_keys_and_paths():
    out, notes = encoded({"a\0": {"b\udc80": {1}}})
    assert out == {"a␀": {"b\\udc80": [1]}}
    assert notes == [
        {"path": "$", "was": "text with NUL or lone surrogates"},
        {"path": "$.a␀", "was": "text with NUL or lone surrogates"},
        {"path": "$.a␀.b\\udc80", "was": "set"},
    ]


def test_no_value_is_lost_where_keys_become_the_same():
    out, notes = encoded({1: "a", "1": "b", 1.0 + 1e-16: "c", "1~2": "d", b"1": "e", Text("1x"): 0})
    assert sorted(map(str, out.values())) == ["0", "b", "c", "d", "e"]  # 1 and 1.0 are one key
    assert list(out) == ["1", "1~2", "1~2~2", "1~3", "1x"]
    assert {"path": "$.1~3", "was": "key that is there twice"} in notes


def test_many_keys_that_become_the_same_take_linear_time():
    class Same:
        def __repr__(self) -> str:
            return "same"

    out, _ = encoded({Same(): number for number in range(20_000)})
    assert sorted(out.values()) == list(range(20_000))


def test_a_set_that_cannot_be_sorted_has_an_order_all_the_same():
    first, _ = encoded({1, "a", None, (2,)})
    again, _ = encoded({(2,), None, "a", 1})
    assert first == again
    assert len(first) == 4


def test_a_container_inside_itself():
    items: list[Any] = [1]
    items.append({"again": items})
    assert encoded(items) == (
        [1, {"again": "[cycle]"}],
        [{"path": "$[1].again", "was": "cycle"}],
    )


def test_the_same_object_twice_is_no_cycle():
    shared = {"a": {1}}
    assert encoded([shared, shared])[0] == [{"a": [1]}, {"a": [1]}]


@pytest.mark.parametrize("innermost", [1, {1}], ids=["plain", "to be changed"])
@pytest.mark.parametrize("levels", [MAX_DEPTH - 1, 250, 260, 2_000, 20_000])
def test_nesting(levels, innermost):
    out, notes = encoded(nested(levels, innermost))
    depth = 0
    while isinstance(out, list):
        (out,), depth = out, depth + 1
    if levels == MAX_DEPTH - 1:
        assert out == 1
    elif levels == 250 and innermost == 1:  # orjson takes about 254
        assert (out, notes) == (1, [])
    else:
        assert out == f"[nested deeper than {MAX_DEPTH} levels]"
        assert depth == MAX_DEPTH
        assert [note["was"] for note in notes] == ["list"]


def test_a_stack_that_is_almost_used_up_costs_only_the_depths():
    def deeper(frames: int) -> Any:
        return deeper(frames - 1) if frames else encoded({"kept": {1}, "deep": nested(150, {1})})

    used = len(_frames())
    out, notes = deeper(sys.getrecursionlimit() - used - 160)
    assert out["kept"] == [1]
    assert any(note["was"] == "list" for note in notes)


def _frames() -> list[Any]:
    frame, found = sys._getframe(), []
    while frame:
        found.append(frame)
        frame = frame.f_back
    return found


def test_notes_are_bounded_and_tell_how_many_more():
    _, notes = encoded([{number} for number in range(1_000)])
    assert len(notes) == MAX_NOTES + 1
    assert notes[-1] == {"path": "…", "more": 1_000 - MAX_NOTES}


def test_a_long_key_does_not_blow_up_the_notes():
    out, notes = encoded({"k" * 100_000: {number: {1} for number in range(60)}})
    assert max(map(len, out)) == 100_000
    assert max(len(note["path"]) for note in notes) <= MAX_PATH + 1


def test_a_long_repr_is_cut():
    out, _ = encoded(collections.deque(range(10_000)))
    assert len(out) == MAX_REPR + 1
    assert out.endswith("…")


def test_iterators_are_not_consumed():
    numbers = iter([1, 2, 3])
    generator = (number for number in numbers)
    out, _ = encoded([generator, numbers])
    assert all("iterator" in text or "generator" in text for text in out)
    assert list(generator) == [1, 2, 3]


def test_nothing_is_changed_in_the_payload():
    payload = {1: [{3, 1}, (b"x",)], "a\0": [math.nan]}
    before = repr(payload)
    encode(payload)
    assert repr(payload) == before


class Raises:
    """An object of which everything raises."""

    def boom(self, *_: Any) -> Any:
        raise RuntimeError("boom")

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = boom
    __getattr__ = __hash__ = __int__ = __index__ = __float__ = boom
    __class__ = property(boom)


class Lies:
    """An object that says that it is something else."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    @property
    def __class__(self) -> type:
        return self.kind


class BadDict(dict):
    def __init__(self, answer: Any) -> None:
        super().__init__(a=1)
        self.answer = answer

    def items(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class BadList(list):
    def __iter__(self) -> Any:
        raise RuntimeError("boom")


class BadText(str):
    def boom(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("boom")

    __str__ = __repr__ = __contains__ = encode = replace = __eq__ = __len__ = boom
    __hash__ = str.__hash__


class BadInt(int):
    def boom(self, *_: Any) -> Any:
        raise RuntimeError("boom")

    __int__ = __index__ = __repr__ = __str__ = __lt__ = __le__ = __ge__ = bit_length = boom


class BadFloat(float):
    def boom(self, *_: Any) -> Any:
        raise RuntimeError("boom")

    __float__ = __repr__ = __lt__ = __gt__ = boom


class BadMoment(datetime.datetime):
    def isoformat(self, *_: Any) -> Any:
        return object()


class BadMeta(type):
    @property
    def __name__(cls) -> str:
        raise RuntimeError("boom")


class BadKind(metaclass=BadMeta):
    pass


class BadRepr:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __repr__(self) -> Any:
        return self.answer


class BadException(Exception):
    def __str__(self) -> str:
        raise RuntimeError("boom")


def _released() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


FIGHTING = {
    "everything raises": Raises,
    "items() raises": lambda: BadDict(RuntimeError("boom")),
    "items() is a number": lambda: BadDict(3),
    "items() are no pairs": lambda: BadDict([1, 2]),
    "__iter__ raises": lambda: BadList([1]),
    "text": lambda: BadText("a"),
    "int": lambda: BadInt(5),
    "long int": lambda: BadInt(BIG),
    "float": lambda: BadFloat(0.5),
    "isoformat() is no text": lambda: BadMoment(2026, 1, 1),
    "metaclass raises": BadKind,
    "__repr__ is no text": lambda: BadRepr(5),
    "__repr__ is odd text": lambda: BadRepr(BadText("a\0\udc80")),
    "exception": BadException,
    "no module": lambda: type("Bad", (), {"__module__": None})(),
    "released memory": _released,
    **{
        f"only says that it is {kind.__name__}": lambda kind=kind: Lies(kind)
        for kind in (str, int, float, bool, type(None), dict, list, set, tuple, bytes)
    },
    "only says that it is an enum": lambda: Lies(Colour),
    "only says that it is an exception": lambda: Lies(ValueError),
    "only says that it is a datetime": lambda: Lies(datetime.datetime),
}


@pytest.mark.parametrize("make", FIGHTING.values(), ids=FIGHTING.keys())
def test_an_object_that_fights_back_loses_itself_only(make):
    out, _ = encoded({"before": 1, "it": [make()], "after": {2}})
    assert (out["before"], out["after"]) == (1, [2])
    assert len(out["it"]) == 1

    encoded(make())


def _hashable(make: Any) -> bool:
    try:
        hash(make())
    except Exception:
        return False
    return True


KEY_FIGHTERS = {name: make for name, make in FIGHTING.items() if _hashable(make)}


@pytest.mark.parametrize("make", KEY_FIGHTERS.values(), ids=KEY_FIGHTERS.keys())
def test_an_object_that_fights_back_as_a_key_or_member(make):
    value = make()
    out, _ = encoded({"before": 1, value: 2, "set": {value}})
    assert out["before"] == 1
    assert len(out) == 3


def test_subclasses_that_fight_back_are_read_past_their_overrides():
    assert encoded([BadText("a"), BadInt(5), BadFloat(0.5), {1}])[0] == ["a", 5, 0.5, [1]]


@pytest.mark.parametrize("stop", [SoftTimeLimit, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "where", ["__repr__", "__str__", "__iter__", "items", "__lt__", "__hash__", "__class__"]
)
def test_what_stops_the_process_is_not_ours_to_catch(stop, where):
    """A signal arrives wherever the interpreter is, so also while a payload is encoded."""
    armed = False

    def arrive(*_: Any) -> Any:
        if armed:
            raise stop
        return 1

    base = {
        "__iter__": list,
        "items": dict,
        "__str__": decimal.Decimal,
        "__lt__": object,
        "__hash__": object,
    }.get(where, object)
    overrides = {where: property(arrive) if where == "__class__" else arrive}
    if where == "__hash__":
        overrides = {"__repr__": arrive, "__hash__": lambda self: 1}
    kind = type("Kind", (base,), overrides)
    payload = {
        "__lt__": lambda: {kind(), kind()},
        "__hash__": lambda: {kind(): 1},
    }.get(where, kind)()
    armed = True
    with pytest.raises(stop):
        encode([payload])


def test_a_dict_that_another_thread_changes_meanwhile():
    shared: dict[Any, Any] = {"kept": {1}, "tree": {}}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shared["tree"][number % 500] = [number]
            shared["tree"].pop((number * 7) % 500, None)

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(300):
            out, _ = encoded(shared)
            assert out["kept"] == [1]
            assert isinstance(out["tree"], dict)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_a_mapping_that_changes_while_it_is_read():
    class Live(collections.UserDict):
        def __iter__(self) -> Any:
            for key in self.data:
                self.data[f"{key}+"] = 1
                yield key

    out, notes = encoded({"kept": 1, "live": Live(a=1)})
    assert out["kept"] == 1
    assert notes == [{"path": "$.live", "was": "Live"}]


@pytest.mark.parametrize("text", ["plain", "a\0b", "\ud800\udc00", "\udfff\0", "😀"])
def test_clean_text_is_what_postgresql_takes(text):
    clean = clean_text(text)
    assert "\0" not in clean
    clean.encode()
    assert clean_text(clean) == clean


# Properties: any value at all, checked against PostgreSQL itself.


@dataclasses.dataclass(frozen=True)
class Fighter:
    """Stands for an object that would fight Hypothesis as well."""

    name: str


def let_loose(value: Any) -> Any:
    match value:
        case Fighter(name):
            return FIGHTING[name]()
        case list():
            return [let_loose(item) for item in value]
        case dict():
            return {key: let_loose(item) for key, item in value.items()}
    return value


any_text = st.text(st.characters() | st.sampled_from('\0\ud800\udfff\\"u{}[]/é中😀'), max_size=8)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.sampled_from([63, 64, 12_999, 13_000, 20_000]).map(lambda bits: 2**bits),
    st.floats(),
    any_text,
    any_text.map(Text),
    any_text.map(ValueError),
    st.binary(max_size=8),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.fractions().map(lambda value: fractions.Fraction(value)),
    st.complex_numbers(),
    st.uuids(),
    st.sampled_from([*Colour, *Word, *Number]),
    st.sampled_from(sorted(FIGHTING)).map(Fighter),
)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    any_text,
    st.binary(max_size=4),
    st.datetimes(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Colour, *Word, *Number]),
    st.tuples(st.integers(), any_text),
    st.frozensets(st.integers(), max_size=3),
)
# Hypothesis sometimes takes the branch of sets for the whole and says that nothing recurses.
pytestmark = pytest.mark.filterwarnings("ignore:extend=")
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(collections.deque),
        st.dictionaries(hashable, inner, max_size=5),
        st.dictionaries(any_text, inner, max_size=5).map(types.MappingProxyType),
        st.dictionaries(any_text, inner, max_size=3).map(collections.UserDict),
        st.sets(hashable, max_size=5),
        st.builds(Point, st.integers(), inner),
    ),
    max_leaves=25,
)
json_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | json_text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(json_text, inner, max_size=5),
    max_leaves=25,
)
thorough = settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.django_db(databases="__all__")
@thorough
@given(anything)
@example({"\0": "\0", "\udc80": "\\u0000"})
@example(["\ud83d\ude00"])
def test_any_value_becomes_json_that_postgresql_takes(value):
    text, notes = encode(let_loose(value))

    json.loads(text)
    with connections[conf.get("DATABASE")].cursor() as cursor:
        cursor.execute("SELECT %s::jsonb, %s::jsonb", [text.decode(), encode(notes)[0].decode()])


def in_itself(value: Any) -> Any:
    items = [value]
    items.append(items)
    return items


def many_times(value: Any) -> Any:
    for _ in range(8):
        value = [value] * 8
    return value


everything = st.recursive(
    anything.map(let_loose),
    lambda inner: st.one_of(
        inner.map(in_itself),
        inner.map(many_times),
        inner.map(lambda value: nested(20_000, value)),
        inner.map(lambda value: {"a": value, "b": value, "c": value}),
        st.lists(inner, max_size=3),
        any_text.map(lambda text: text * 3_000),
        st.binary(max_size=4).map(lambda text: text * 3_000),
    ),
    max_leaves=4,
)


@pytest.mark.django_db(databases="__all__")
def test_any_value_at_all_is_encoded_within_the_limits_and_recorded(settings, monkeypatch):
    # As many values as are allowed take a fifth of a second each time.
    monkeypatch.setattr(record, "limits_of", lambda most: Limits(values=2_000, size=2 * most))
    settings.BAMBOO_AUDIT = {**getattr(settings, "BAMBOO_AUDIT", {}), "MAX_EVENT_BYTES": LEAST}
    kept: list[str] = []

    @thorough
    @given(
        everything,
        st.integers(min_value=1, max_value=200),
        st.sampled_from([*FIGHTING, None, None, None]),
    )
    def try_one(value: Any, most: int, fighter: str | None) -> None:
        if fighter is not None:
            value = [FIGHTING[fighter](), value]
        limits = Limits(values=most, size=10 * most)
        text, notes, _ = encode_within({"it": value}, limits)
        # A repr may begin just before the limit; each level that was begun has its mark.
        allowed = limits.size + MAX_REPR + 30 * (limits.values + MAX_DEPTH) + 100
        assert len(json.dumps(json.loads(text), ensure_ascii=False)) < 2 * allowed
        made = record.make("x", {"it": value, "node_id": "n"}, Ids(), ("password",))
        assert len(made.data) <= LEAST
        assert json.loads(made.data)["node_id"] == "n"
        kept.extend(each.decode() for each in (text, encode(notes)[0], made.data, made.context))

    try_one()
    assert len(kept) > 1_000
    with connections[conf.get("DATABASE")].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE kept (value jsonb)")
        cursor.executemany("INSERT INTO kept VALUES (%s::jsonb)", [[each] for each in kept])


@thorough
@given(json_values)
def test_any_json_comes_through_unchanged_and_without_notes(value):
    out, notes = encoded(value)
    assert (out, notes) == (value, [])
    # The second pass as well: a neighbour that has to be changed changes nothing else.
    assert encoded([{1}, value])[0] == [[1], value]
