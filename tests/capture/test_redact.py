from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import audit
from audit import conf, options, receivers
from audit.capture.encode import encode
from audit.capture.redact import MAX_PATH, MAX_PATHS, REDACTED, redact
from audit.models import PipelineEventRecord

SECRET = "hunter2-äß密"  # not ASCII: JSON inside JSON may escape it


def redacted(value: Any, names: Any = options.DEFAULT_REDACT) -> tuple[Any, list[str]]:
    text, paths = redact(encode(value)[0], names)
    return json.loads(text), paths


def leaks(value: Any, names: Any = options.DEFAULT_REDACT) -> bool:
    """Whether the secret is still anywhere, also under layers of JSON in JSON."""
    return holds(redacted(value, names)[0], SECRET)


def holds(value: Any, secret: str) -> bool:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            if secret in item:
                return True
            try:
                todo.append(json.loads(item, strict=False, object_pairs_hook=list))
            except (ValueError, RecursionError):
                continue
        elif isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            todo += item
    return False


@pytest.mark.parametrize("name", options.DEFAULT_REDACT)
def test_every_default_pattern_in_any_case_and_as_a_part_of_a_key(name):
    for key in (
        name,
        name.upper(),
        name.title(),
        f"DB_{name.upper()}",
        f"access{name.title()}",
        f"${{{name}}}",
        f"x-{name}-y",
    ):
        assert redacted({"a": {key: SECRET}}) == ({"a": {key: REDACTED}}, [f"$.a.{key}"])


@pytest.mark.parametrize(
    "key", ["DB_PASSWORD", "accessToken", "X-Api_Key", "ApiKey", "Set-Cookie", "userPwd", "PASSWD1"]
)
def test_keys_as_they_are_in_the_wild(key):
    assert not leaks({"inputs": {key: {"type": "plain", "value": SECRET}}})


@pytest.mark.parametrize(
    "value", [SECRET, 5, 0, 1.5, [SECRET], {"a": SECRET}, [], {}, " ", {"password": SECRET}]
)
def test_any_secret_is_replaced_whole(value):
    assert redacted({"token": value}) == ({"token": REDACTED}, ["$.token"])


@pytest.mark.parametrize("value", [None, True, False, ""])
def test_nothing_true_and_false_are_no_secrets(value):
    assert redacted({"token": value}) == ({"token": value}, [])


@pytest.mark.parametrize(
    "value",
    [
        {"note": "the password is in the vault", "name": "token"},
        ["password", "secret", {"a": "cookie"}],
        "password",
        {"a": '{"b": "the password"}'},
        {"a": '  {"b": "the password",  "c": 1e5, "d": 1.10}'},
        {"a": "{password: not JSON}"},
        {"a": '"password"'},
        {"a": "[password]"},
        {"type": "password", "name": "x"},
        {"custom_type": "password", "value": None},
        {"custom_type": "password", "value": ""},
        {"type": "text", "value": "password"},
        {"type": ["password"], "value": "x"},
        {"a": "C:\\\\users\\\\u0070"},
    ],
)
def test_a_word_that_is_only_in_a_value_changes_nothing(value):
    text, _ = encode(value)
    assert redact(text, options.DEFAULT_REDACT) == (text, [])


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"custom_type": "password", "value": SECRET}, "$.value"),
        ({"type": "password", "value": SECRET, "tag": "x"}, "$.value"),
        ({"type": "Password", "value": {"tag": "v", "value": SECRET}}, "$.value"),
        ({"custom_type": "input", "type": "PASSWORD", "value": [SECRET]}, "$.value"),
        ({"constants": {"${x}": {"custom_type": "password", "value": SECRET}}}, None),
        ({"inputs": json.dumps({"type": "password", "value": SECRET})}, "$.inputs.value"),
    ],
)
@pytest.mark.parametrize("names", [options.DEFAULT_REDACT, ("pin",), ()])
def test_values_that_say_that_they_are_a_password(value, path, names):
    assert not leaks(value, names)
    if path:
        assert redacted(value, names)[1] == [path]


INSIDE = {
    "plain": json.dumps({"password": SECRET}),
    "not escaped": json.dumps({"password": SECRET}, ensure_ascii=False),
    "in a list": json.dumps([{"a": 1}, {"db": {"DB_PASSWORD": SECRET}}]),
    "indented": json.dumps({"password": SECRET}, indent=4),
    "after spaces": f"\n\t {json.dumps({'password': SECRET})} ",
    "twice": json.dumps({"a": json.dumps({"password": SECRET})}),
    "three times": json.dumps([json.dumps({"a": json.dumps({"password": SECRET})})]),
    "a string of JSON": json.dumps(json.dumps({"password": SECRET})),
    "twice a string of JSON": json.dumps(json.dumps(json.dumps([{"password": SECRET}]))),
    "key escaped": '{"\\u0070assword": "SECRET"}',
    "key escaped all over": json.dumps({"password": SECRET}).replace("password", "".join(
        f"\\u{ord(letter):04x}" for letter in "password")),
    "key escaped twice": json.dumps({"a": '{"\\u0070assword": "SECRET"}'}),
    "key escaped in capitals": '{"\\u0050\\u0041SSWORD": "SECRET"}',
    "key escaped with letters": '{"api\\u005fkey": "SECRET"}',
    "type escaped": '{"type": "\\u0070assword", "value": "SECRET"}',
    "beside NaN": '{"password": "SECRET", "x": [NaN, -Infinity]}',
    "beside a lone surrogate": '{"password": "SECRET", "x": "\\ud800"}',
    "beside a lone surrogate twice": json.dumps({"a": '{"password": "SECRET", "\\uD800": 1}'}),
    "beside NUL": '{"password": "SECRET", "x\\u0000": "\\u0000"}',
    "beside a raw line end": '{"password": "SECRET", "key": "-----\n-----\n\t"}',
    "beside a huge integer": '{"password": "SECRET", "x": 5000 DIGITS}',
    "first of two": '{"password": "SECRET", "password": null}',
    "inside the first of two": '{"a": {"password": "SECRET"}, "a~1": 3, "a": 1}',
    "nested deeply": "[" * 900 + '{"password": "SECRET"}' + "]" * 900,
    "nested very deeply": "[" * 50_000 + '{"password": "SECRET"}' + "]" * 50_000,
}  # fmt: skip
INSIDE = {
    name: text.replace("SECRET", SECRET).replace("5000 DIGITS", "9" * 5_000)
    for name, text in INSIDE.items()
}


@pytest.mark.parametrize("text", INSIDE.values(), ids=INSIDE.keys())
def test_secrets_inside_strings_that_are_json(text):
    payload = {"data": {"inputs": [text]}, "other": "kept"}
    assert holds(payload, SECRET)

    out, paths = redacted(payload)
    assert not holds(out, SECRET)
    assert SECRET not in json.dumps(out, ensure_ascii=False)
    assert out["other"] == "kept"
    assert len(paths) == 1
    assert paths[0].startswith("$.data.inputs[0]")


def test_the_rest_of_a_json_string_is_kept_as_it_means():
    inner = {"a": 123456789012345678901234567890, "b": 1.5, "c": "中", "d": [None, True], "e": 0.1}
    (out, paths) = redacted({"x": json.dumps({**inner, "pwd": SECRET})})
    assert json.loads(out["x"]) == {**inner, "pwd": REDACTED}
    assert paths == ["$.x.pwd"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("密码", "数据库密码"),
        ("пароль", "ПАРОЛЬ_БД"),
        ("ПАРОЛЬ", "Пароль"),
        ("contraseña", "CONTRASEÑA"),
        ("é", "CLÉ"),
        ('my"key', 'a my"KEY'),
        ("back\\slash", "BACK\\slash"),
        ('"', 'a"b'),
        ("\\", "a\\b"),
        ("/", "a/b"),
        ("a/b", "A/B"),
        ("line\nend", "LINE\nend"),
        ("a.b*", "A.B*"),
        ("[", "x[0]"),
        ("i", "PIN"),
        ("\x7f", "a\x7f"),
    ],
)
@pytest.mark.parametrize(
    "layer",
    [
        lambda value: value,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps([json.dumps(value)]),
        lambda value: json.dumps(value).replace("/", "\\/"),
    ],
    ids=["plain", "escaped", "not escaped", "twice", "slashes escaped"],
)
def test_patterns_of_any_characters(name, key, layer):
    assert not leaks({"a": layer({key: SECRET})}, (name,))
    assert leaks({"a": layer({"other": SECRET})}, (name,)) or name == "i"


def test_a_custom_list_replaces_the_default_one(settings):
    own = {**getattr(settings, "BAMBOO_AUDIT", {}), "REDACT": ["pin"]}
    settings.BAMBOO_AUDIT = own
    out, _ = redacted({"password": "kept", "PinCode": SECRET}, conf.get("REDACT"))
    assert out == {"password": "kept", "PinCode": REDACTED}


def test_an_empty_list_redacts_typed_passwords_only():
    out, _ = redacted([{"password": "kept"}, {"type": "password", "value": SECRET}], ())
    assert out == [{"password": "kept"}, {"type": "password", "value": REDACTED}]


def test_paths_are_bounded():
    _, paths = redacted({"a" * 100_000: [{"token": number} for number in range(1, 200)]})
    assert len(paths) == MAX_PATHS
    assert max(map(len, paths)) <= MAX_PATH + 1


def test_strings_that_could_be_json_cost_little():
    """No pattern of ours goes quadratic on what somebody puts into an input."""
    hostile = [
        '{"password": "' + '\\"' * 500_000,
        "[" * 1_000_000,
        '"' * 1_000_000 + "password",
        '{"a":' * 200_000,
        "\\u0070" * 200_000,
        json.dumps([{"a": 1, "b": "[" * 100}] * 10_000),
        "{" + '"a":1,' * 50_000 + '"a":2}',
    ]
    began = time.thread_time()
    redacted({"password": SECRET, "hostile": hostile})
    assert time.thread_time() - began < 10, "half a second; quadratic, it would be hours"


# Plant a secret anywhere in any JSON, under any number of layers: it is gone, the rest is not.

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text('abxyz{}[]"\\/é中 ', max_size=4), inner, max_size=4)
    ),
    max_leaves=10,
)
layers = st.lists(
    st.sampled_from(
        [
            lambda value, beside: {"layer": value, "beside": beside},
            lambda value, beside: [beside, value],
            lambda value, beside: json.dumps({"layer": value, "beside": beside}),
            lambda value, beside: json.dumps([value, beside], ensure_ascii=False, indent=1),
            lambda value, beside: json.dumps(value),
        ]
    ),
    max_size=5,
)
telling = st.builds(
    lambda name, before, after, capitals: f"{before}{name.upper() if capitals else name}{after}",
    st.sampled_from(options.DEFAULT_REDACT),
    st.text(max_size=3),
    st.text(max_size=3),
    st.booleans(),
)


@settings(max_examples=300, deadline=None, database=None)
@given(plain, layers, telling)
@example([{"password": None}], [], "password")
def test_a_secret_planted_anywhere_is_gone_and_nothing_else(beside, wrap, key):
    with_secret, without = {key: SECRET, "x": beside}, {key: REDACTED, "x": beside}
    for layer in wrap:
        with_secret, without = layer(with_secret, beside), layer(without, beside)

    text, paths = redact(encode(with_secret)[0], options.DEFAULT_REDACT)
    assert len(paths) == 1
    assert _unpacked(json.loads(text)) == _unpacked(json.loads(encode(without)[0]))


def _unpacked(value: Any) -> Any:
    """With the JSON in JSON taken apart: how it is written down does not matter."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"'):
        try:
            return ["JSON", _unpacked(json.loads(value, strict=False))]
        except ValueError:
            return value
    if isinstance(value, dict):
        return {key: _unpacked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    return value


# The whole way: into the log.


def send(event_type: str, data: Any) -> None:
    receivers.on_pipeline_event(
        sender=None, event=SimpleNamespace(event_type=event_type, data=data)
    )


@pytest.fixture
def row_text(log_connection):
    """The newest row as PostgreSQL writes it, all columns."""

    def read() -> str:
        with log_connection.cursor() as cursor:
            cursor.execute(
                "SELECT r::text FROM bamboo_audit_pipelineeventrecord r ORDER BY id DESC LIMIT 1"
            )
            ((text,),) = cursor.fetchall()
        return text

    return read


@pytest.mark.django_db(databases="__all__")
def test_no_secret_gets_into_the_log(row_text):
    tree = {
        "id": "p1",
        "activities": {
            "n1": {
                "component": {
                    "inputs": {
                        "db_password": {"type": "plain", "value": SECRET},
                        "body": {"type": "plain", "value": INSIDE["twice"]},
                    }
                }
            }
        },
        "data": {"inputs": {"${token}": {"value": SECRET}}},
    }
    data = {
        "pipeline": tree,
        "root_pipeline_data": {"account": {"custom_type": "password", "value": SECRET}},
        "root_pipeline_context": {"Authorization": f"Bearer {SECRET}", b"cookie": {SECRET}},
        "subprocess_context": {},
    }
    with audit.context(actor="alice", token=SECRET, page={"headers": {"Cookie": SECRET}}):
        send("pre_prepare_run_pipeline", data)

    record = PipelineEventRecord.objects.get(event_type="pre_prepare_run_pipeline")
    text = row_text()
    assert "hunter2" not in text
    assert record.data["pipeline"]["id"] == "p1"
    assert record.context["actor"] == "alice"
    assert record.context["token"] == REDACTED
    assert record.context["page"] == {"headers": {"Cookie": REDACTED}}
    assert sorted(record.context["redacted"]) == [
        "$.pipeline.activities.n1.component.inputs.body.value.a.password",
        "$.pipeline.activities.n1.component.inputs.db_password",
        "$.pipeline.data.inputs.${token}",
        "$.root_pipeline_context.Authorization",
        "$.root_pipeline_context.cookie",
        "$.root_pipeline_data.account.value",
        "context.page.headers.Cookie",
        "context.token",
    ]
    assert data["pipeline"]["data"]["inputs"]["${token}"]["value"] == SECRET, "the payload is live"


@pytest.mark.django_db(databases="__all__")
def test_retry_and_callback_data_are_redacted_too(row_text):
    for event_type in ("pre_retry_node", "pre_callback"):
        send(event_type, {"node_id": "n", "data": {"secret_key": SECRET}})
        text = row_text()
        assert event_type in text
        assert "hunter2" not in text


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("levels", [150, 199, 400])
def test_a_payload_too_deep_to_be_searched_is_recorded_all_the_same(row_text, levels):
    deep: Any = {"password": SECRET}
    for _ in range(levels):
        deep = [deep]
    send("pre_callback", {"node_id": "n", "data": deep, "inner": INSIDE["nested very deeply"]})
    text = row_text()
    assert "pre_callback" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "key",
    ["api-key", "X-Api-Key", "apiKey", "privateKey", "Private Key", "PASS-WORD", "accessKeyId"],
)
def test_separators_make_no_difference(key):
    text, paths = redact(orjson.dumps({key: "s3cret"}), options.DEFAULT_REDACT)
    assert b"s3cret" not in text
    assert paths == [f"$.{key}"]


@pytest.mark.parametrize(
    "headers",
    [
        [{"name": "Authorization", "value": "s3cret"}],
        [{"key": "X-Api-Key", "value": {"deep": "s3cret"}}],
        [["Authorization", "s3cret"], ["Accept", "text/html"]],
    ],
)
def test_headers_of_http_plugins(headers):
    text, paths = redact(orjson.dumps({"headers": headers}), options.DEFAULT_REDACT)
    assert b"s3cret" not in text
    assert len(paths) == 1


def test_a_list_of_telling_words_is_no_secret():
    words = {"words": ["token", "cookie"], "pair": ["password", 1, 2]}
    text, paths = redact(orjson.dumps(words), options.DEFAULT_REDACT)
    assert orjson.loads(text) == words
    assert paths == []
