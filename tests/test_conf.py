from __future__ import annotations

import json
import logging
import math
import re
from collections import UserDict
from pathlib import Path
from types import MappingProxyType

import pytest
from django.conf import settings as django_settings

from audit import conf, options


@pytest.fixture
def configure(settings):
    """Set ``BAMBOO_AUDIT``, whatever the settings file says."""

    def set_to(value):
        settings.BAMBOO_AUDIT = value

    set_to({})
    return set_to


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv(conf.ENABLED_VARIABLE, raising=False)
    monkeypatch.setattr(conf, "LOOK_SECONDS", 60.0)
    monkeypatch.setattr(conf, "_snapshot", conf._snapshot._replace(looked_at=-math.inf))
    monkeypatch.setattr(conf, "_complained_at", -math.inf)


def answer() -> bool:
    return False


async def a_coroutine(_: object) -> None:
    """As a setting it could not be awaited."""


# Each option: its default, values that are taken, values that are not.
OPTIONS = {
    "ENABLED": (True, [True, False, answer, lambda: True], [1, 0, None, "yes", "False", []]),
    "DATABASE": ("default", ["default", "audit", "gone"], ["", None, 5, b"audit", ["audit"]]),
    "DELIVERY": ("spool", ["spool", "inline", "off"], ["OFF", "", None, False, ["off"], {}]),
    "INLINE_TIMEOUT": (
        2.0,
        [0.01, 1, 2.5, 60],
        [0, 0.009, 60.1, -1, math.nan, math.inf, True, None, "2", 2j],
    ),
    "SPOOL_DIR": (None, [None, "/var/spool", Path("/x")], ["", "spool", Path("x"), 5, b"/x"]),
    "SPOOL_MAX_BYTES": (1 << 30, [16 << 20, 1 << 50], [0, (16 << 20) - 1, 1e9, True, None]),
    "SPOOL_SYNC": (False, [True, False], [1, 0, None, "True"]),
    "FLUSH_INTERVAL": (0.5, [0.01, 1, 60], [0, 0.009, -1, 61, True, None, "1"]),
    "SHIP_IN_BACKGROUND": (True, [True, False], [1, 0, None, "True"]),
    "CATCH_UP_IN_BACKGROUND": (True, [True, False], [1, 0, None, "True"]),
    "RECORD_STATE_CHANGES": (True, [True, False], [1, 0, None, "True"]),
    "EXCLUDE_EVENTS": (
        (),
        [(), [], ["node_enter"], {"node_enter"}, frozenset({"a", "b"})],
        ["node_enter", b"x", None, 5, {"node_enter": True}, [""], [None], [b"x"], iter(["a"])],
    ),
    "MAX_EVENT_BYTES": (
        4 << 20,
        [16 << 10, 64 << 20],
        [0, (16 << 10) - 1, (64 << 20) + 1, 1e6, True, None, "4"],
    ),
    "TREES": ("full", ["full", "outline"], ["FULL", "", None, True, ["full"]]),
    "POLL_SAMPLING": (
        None,
        [None, 0.1, 1, 60, 86_400],
        [0, 0.09, 86_401, -1, math.nan, math.inf, True, False, "60", [60]],
    ),
    "ACTOR": (None, [None, len, lambda request: "x"], ["x", 5, {}, a_coroutine]),
    "REQUIRE_REASON": (
        (),
        [(), ["pre_retry_node"], {"pre_retry_node"}],
        ["pre_retry_node", None, [""], {"a": 1}],
    ),
    "PROJECTIONS": ((), [(), ["shop.projections.A"]], ["shop.A", None, [""], [object], {"a": 1}]),
    "RUN_TAGS": (
        {},
        [{}, {"task": "root_pipeline_data.task_id", "size": len}, MappingProxyType({"a": "b"})],
        ["task", ["task"], None, {"": "a"}, {"a": ""}, {"a": "b."}, {5: "a"}, {"a": a_coroutine}],
    ),
    "REDACT": (
        options.DEFAULT_REDACT,
        [[], ["pin"], {"密码"}, ("a", "b")],
        ["pin", None, [""], ["pin", 5], {"pin": 1}, [None], [" "], ["pin", "_-"]],
    ),
    "PARTITION_SIZE": (
        10_000_000,
        [1_000, 1_000_000_000],
        [999, 1_000_000_001, 5_000.0, True, None, "5000"],
    ),
    "PARTITIONS_AHEAD": (2, [1, 100], [0, 101, True, None, 2.0, "2"]),
}


def cases(which: int):
    return [
        pytest.param(name, value, id=f"{name}-{index}")
        for name, about in OPTIONS.items()
        for index, value in enumerate(about[which])
    ]


def test_every_option_is_tested_here():
    assert OPTIONS.keys() == conf.OPTIONS.keys()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("whole", [{}, None, [], "x", 5, ("DATABASE",)], ids=repr)
def test_the_default_holds_where_nothing_is_set(configure, name, whole):
    configure(whole)
    assert conf.get(name) == OPTIONS[name][0]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_default_holds_without_the_setting(settings, name):
    if hasattr(django_settings, conf.SETTING):
        del settings.BAMBOO_AUDIT
    assert conf.get(name) == OPTIONS[name][0]
    assert conf.mistakes() == []


@pytest.mark.parametrize(("name", "value"), cases(1))
def test_a_valid_value_holds(configure, name, value):
    configure({name: value})
    several = isinstance(value, list | set | frozenset)
    assert conf.get(name) == (tuple(value) if several else value)
    assert conf.mistakes() == []


@pytest.mark.parametrize(("name", "value"), cases(2))
def test_a_wrong_value_is_named_and_the_default_holds(configure, name, value):
    configure({name: value})
    assert conf.get(name) == OPTIONS[name][0]
    (mistake,) = conf.mistakes()
    assert mistake.kind == "wrong_value"
    assert f"BAMBOO_AUDIT['{name}'] is {value!r}" in mistake.message
    assert mistake.hint == f"It must be {conf.OPTIONS[name].expects}."


def test_one_wrong_value_leaves_the_others(configure):
    configure({"DELIVERY": "pigeon", "PARTITIONS_AHEAD": 7})
    assert conf.get("DELIVERY") == "spool"
    assert conf.get("PARTITIONS_AHEAD") == 7


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("database", 'Did you mean "DATABASE"?'),
        ("REDACTED", 'Did you mean "REDACT"?'),
        ("EXCLUDE_EVENT", 'Did you mean "EXCLUDE_EVENTS"?'),
        ("partition-size", 'Did you mean "PARTITION_SIZE"?'),
        ("COLOUR", f"Known keys: {', '.join(conf.OPTIONS)}."),
        (5, f"Known keys: {', '.join(conf.OPTIONS)}."),
        (None, f"Known keys: {', '.join(conf.OPTIONS)}."),
    ],
)
def test_an_unknown_key_is_named_with_its_neighbour(configure, key, hint):
    configure({key: 1})
    (mistake,) = conf.mistakes()
    assert mistake.kind == "unknown_key"
    assert repr(key) in mistake.message
    assert mistake.hint == hint


@pytest.mark.parametrize("value", [[], "audit", 5, True, (("DATABASE", "audit"),)])
def test_what_is_not_a_dict_is_named(configure, value):
    configure(value)
    (mistake,) = conf.mistakes()
    assert mistake.kind == "not_a_dict"
    assert type(value).__name__ in mistake.message
    assert re.search(r'BAMBOO_AUDIT = \{"DATABASE"', mistake.hint)


@pytest.mark.parametrize("kind", [UserDict, MappingProxyType, dict])
def test_any_mapping_will_do(configure, kind):
    configure(kind({"PARTITIONS_AHEAD": 7}))
    assert conf.get("PARTITIONS_AHEAD") == 7
    assert conf.mistakes() == []


def test_all_mistakes_are_told_at_once(configure):
    configure({"DELIVERY": "x", "REDACT": "y", "colour": 1, "DATABASE": "ok"})
    assert [mistake.kind for mistake in conf.mistakes()] == [
        "wrong_value",
        "wrong_value",
        "unknown_key",
    ]


def test_another_dict_holds_at_once(configure):
    configure({"PARTITIONS_AHEAD": 3})
    assert conf.get("PARTITIONS_AHEAD") == 3
    configure({"PARTITIONS_AHEAD": 5})
    assert conf.get("PARTITIONS_AHEAD") == 5


def test_an_option_that_does_not_exist_is_our_own_mistake():
    with pytest.raises(KeyError):
        conf.get("COLOUR")


def test_every_option_says_what_it_is_for():
    for option in conf.OPTIONS.values():
        assert option.help.endswith(".")
        assert option.expects
        assert option.accepts(option.default)


def test_the_defaults_can_be_written_as_json():
    assert json.dumps({name: option.default for name, option in conf.OPTIONS.items()})


# The kill switch.


@pytest.mark.parametrize("value", [True, False])
def test_enabled_is_what_the_setting_says(configure, value):
    configure({"ENABLED": value})
    assert conf.enabled() is value


@pytest.mark.parametrize(
    ("answered", "expected"), [(True, True), (0, False), ("", False), ([1], True)]
)
def test_enabled_may_be_a_callable(configure, answered, expected):
    configure({"ENABLED": lambda: answered})
    assert conf.enabled() is expected


def test_a_callable_is_asked_each_time(configure):
    answers = iter([True, False, True])
    configure({"ENABLED": lambda: next(answers)})
    assert [conf.enabled() for _ in range(3)] == [True, False, True]


def test_a_callable_that_raises_means_on_and_is_logged_once_a_minute(
    configure, caplog, monkeypatch
):
    def broken():
        raise RuntimeError("boom")

    configure({"ENABLED": broken})
    with caplog.at_level(logging.ERROR, "audit"):
        assert [conf.enabled() for _ in range(50)] == [True] * 50
        assert len(caplog.records) == 1
        assert "boom" in caplog.text
        monkeypatch.setattr(conf, "_complained_at", conf._complained_at - conf.COMPLAIN_EVERY)
        conf.enabled()
        assert len(caplog.records) == 2


def test_what_stops_the_process_passes_through_a_callable(configure):
    def stop():
        raise KeyboardInterrupt

    configure({"ENABLED": stop})
    with pytest.raises(KeyboardInterrupt):
        conf.enabled()


@pytest.mark.parametrize("setting", [True, False, answer])
@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("0", False),
        ("false", False),
        ("False", False),
        ("NO", False),
        (" off ", False),
        ("1", True),
        ("true", True),
        ("on", True),
        ("nonsense", True),
    ],
)
def test_the_variable_goes_before_the_setting(configure, monkeypatch, setting, variable, expected):
    configure({"ENABLED": setting})
    monkeypatch.setenv(conf.ENABLED_VARIABLE, variable)
    assert conf.enabled() is expected


def test_an_empty_variable_leaves_it_to_the_setting(configure, monkeypatch):
    monkeypatch.setenv(conf.ENABLED_VARIABLE, "")
    configure({"ENABLED": False})
    assert conf.enabled() is False


@pytest.fixture
def switch(tmp_path, monkeypatch):
    path = tmp_path / "switch"
    monkeypatch.setenv(conf.ENABLED_VARIABLE, f"@{path}")
    return path


def wait_a_second(monkeypatch) -> None:
    """As if the answer had been read that long ago."""
    before = conf._snapshot
    long_ago = before._replace(looked_at=before.looked_at - conf.LOOK_SECONDS)
    monkeypatch.setattr(conf, "_snapshot", long_ago)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"off", False),
        (b" OFF\n", False),
        (b"0\n", False),
        (b"on", True),
        (b"", True),
        (b"\xff\xfe off", True),
        (b"off and on", True),
    ],
)
def test_a_file_may_be_the_switch(configure, switch, text, expected):
    configure({"ENABLED": not expected})
    switch.write_bytes(text)
    assert conf.enabled() is expected


def test_a_file_is_read_once_a_second(configure, switch, monkeypatch):
    switch.write_text("off")
    assert conf.enabled() is False
    switch.write_text("on")
    assert conf.enabled() is False
    wait_a_second(monkeypatch)
    assert conf.enabled() is True


def test_a_file_that_is_not_there_means_on(configure, switch, monkeypatch):
    configure({"ENABLED": False})
    assert conf.enabled() is True
    switch.write_text("off")
    assert conf.enabled() is True, "that it was missing is believed for a second as well"
    wait_a_second(monkeypatch)
    assert conf.enabled() is False


def test_a_folder_or_nothing_for_a_file_means_on(configure, monkeypatch, tmp_path):
    for value in (f"@{tmp_path}", "@"):
        monkeypatch.setenv(conf.ENABLED_VARIABLE, value)
        wait_a_second(monkeypatch)
        assert conf.enabled() is True


# Looked up live.


def test_a_setting_changed_in_place_is_noticed_within_a_second(settings, monkeypatch):
    settings.BAMBOO_AUDIT = {"EXCLUDE_EVENTS": ["a"], "DATABASE": "one"}
    assert conf.current()["EXCLUDE_EVENTS"] == ("a",)
    settings.BAMBOO_AUDIT["EXCLUDE_EVENTS"].append("b")
    wait_a_second(monkeypatch)
    assert conf.get("EXCLUDE_EVENTS") == ("a", "b")
    settings.BAMBOO_AUDIT["DATABASE"] = "two"
    wait_a_second(monkeypatch)
    assert conf.get("DATABASE") == "two"
    del settings.BAMBOO_AUDIT
    assert conf.get("DATABASE") == "default"


def test_settings_that_stay_the_same_are_looked_through_once(settings, monkeypatch):
    settings.BAMBOO_AUDIT = {"EXCLUDE_EVENTS": ["a"], "REDACT": {"x", "y"}}
    first = conf.current()
    wait_a_second(monkeypatch)
    assert conf.current() is first
    monkeypatch.setattr(conf, "_look", None)
    assert conf.current() is first
