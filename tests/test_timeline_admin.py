"""Runs, nodes and transitions in the admin, and the FilterSets behind their filter bars."""

from __future__ import annotations

import datetime
import html
import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from lab.by_hand import WEB, Records
from lab.projected import catch_up
from lab.stored import store

from audit import conf
from audit.filters import NodeFilterSet, RunFilterSet, TransitionFilterSet
from audit.models import NodeTimeline, PipelineTimeline, StateTransition

pytestmark = pytest.mark.django_db(databases="__all__")

MODELS = ("pipelinetimeline", "nodetimeline", "statetransition")
FILTERS = dict(zip(MODELS, (RunFilterSet, NodeFilterSet, TransitionFilterSet), strict=True))
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def viewer(client):
    user = User.objects.create_user("viewer", is_staff=True)
    wanted = [f"view_{model}" for model in MODELS]
    user.user_permissions.add(*Permission.objects.filter(codename__in=wanted))
    client.force_login(user)
    return client


@pytest.fixture(autouse=True)
def a_run():
    """A run that stands at a failure, with one retry; applied."""
    records = Records()
    records.start({"task_id": 42, "note": HOSTILE})
    records.runs("a")
    records.add("node_execute_fail", "a")
    records.state("a", "FAILED")
    records.add("pre_retry_node", "a", by=WEB, context={"actor": "alice", "reason": HOSTILE})
    records.state("a", "READY", "v2", by=WEB)
    records.add("post_retry_node", "a", by=WEB)
    records.runs("a", "v2")
    records.add("node_execute_exception", "a", ex_data=f"Traceback\n{HOSTILE}")
    records.state("a", "FAILED", "v2")
    store(records.all)
    catch_up()


def page(viewer, model, **asked):
    response = viewer.get(reverse(f"admin:bamboo_audit_{model}_changelist"), asked)
    assert response.status_code == 200
    return response.content.decode()


def test_the_lists_show_what_happened(viewer):
    runs = page(viewer, "pipelinetimeline", tag="task_id=42")
    for shown in ("Release", "RUNNING", "waiting", "task_id=42", "2 failures, 1 retry"):
        assert shown in runs
    nodes = page(viewer, "nodetimeline", run="run")
    for shown in ("FAILED", "deploy", html.escape(HOSTILE)):
        assert shown in nodes
    transitions = page(viewer, "statetransition", node="a")
    for shown in ("READY", "alice", "pre_retry_node", html.escape(HOSTILE)):
        assert shown in transitions
    assert HOSTILE not in runs + nodes + transitions


@pytest.mark.parametrize(("model", "key"), [("pipelinetimeline", "run"), ("nodetimeline", "a")])
def test_the_pages_show_all_of_it(viewer, model, key):
    response = viewer.get(reverse(f"admin:bamboo_audit_{model}_change", args=[key]))
    assert response.status_code == 200
    text = response.content.decode()
    assert HOSTILE not in text
    assert "FAILED" in text or "RUNNING" in text
    assert 'name="_save"' not in text


@pytest.mark.parametrize("asked_for", ["run", "a"])
@pytest.mark.parametrize("model", MODELS)
def test_an_id_that_is_pasted_finds_it(viewer, model, asked_for):
    found = page(viewer, model, q=f" {asked_for} ")
    assert "Nothing here" not in found
    assert "Nothing here" in page(viewer, model, q="nobody")
    assert page(viewer, model, q="\0")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "asked",
    [
        {"older": "nonsense"},
        {"newer": "2026-03-01T00:00:00+00:00~"},
        {"older": "2026-03-01T00:00:00+00:00~\0"},
        {"older": "9999-12-31T23:59:59+00:00~x", "newer": "y"},
        {"since": "nonsense", "state": "nonsense", "verdict": "nonsense"},
        {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"},
        {"tag": "nonsense", "actor": "\0"},
        {"tag": "=", "component": "\0"},
        {"tag": "a=\0", "run": "\0", "node": "\0"},
        {"tag": "a=99999999999999999999999999", "failed": "perhaps"},
        {"tag": f"a={'9' * 5_000}"},
        {"state": ["RUNNING", "FAILED"], "failures": "on", "intervention": "on"},
        {"data__secret": "x"},
        {"o": "1.2", "p": "7"},
    ],
    ids=str,
)
def test_a_senseless_address_is_no_error(viewer, model, asked):
    response = viewer.get(reverse(f"admin:bamboo_audit_{model}_changelist"), asked, follow=True)
    own = {*FILTERS[model].base_filters, "older", "newer", "o", "p"}
    # Django's own answer to what is no filter of this list.
    assert response.status_code == (200 if asked.keys() <= own else 400)


@pytest.mark.parametrize("model", MODELS)
def test_pages_walk_through_every_row_once_and_back(viewer, model, monkeypatch):
    monkeypatch.setattr("audit.admin.common.ReadOnlyAdmin.list_per_page", 3)
    for number in range(7):
        copy = Records()
        copy.start()
        copy.runs("a")
        mark = f"w{number}/"
        tree = {"id": f"{mark}run", "activities": {"a": {"id": f"{mark}a", "name": "A"}}}
        renamed = [
            each._replace(
                node_id=mark + each.node_id if each.node_id else "",
                data={**each.data, "pipeline": tree} if "pipeline" in each.data else each.data,
                writer_id=mark + each.writer_id,
                at=1_000_000,  # all at one instant
            )
            for each in copy.all
        ]
        store(renamed, root=f"{mark}run")
    catch_up()
    size = {"pipelinetimeline": 7, "nodetimeline": 7, "statetransition": 14}[model]
    asked, seen = "", []
    address = reverse(f"admin:bamboo_audit_{model}_changelist")
    while True:
        text = viewer.get(address + asked).content.decode()
        rows = re.findall(r"<tr>.*?</tr>", text.split("<tbody>")[1], re.DOTALL)
        seen += [each for each in rows if re.search(r"w\d/", each)]
        older = re.search(r'<a rel="next" href="([^"]+)"', text)
        if not older or not rows:
            break
        asked = html.unescape(older[1])
    assert len(seen) == len(set(seen)) == size


def test_a_filter_that_nobody_understands_finds_nothing(viewer):
    text = page(viewer, "pipelinetimeline", tag="nonsense")
    assert "Nothing here" in text
    assert "name=value, such as task_id=42" in text


@pytest.mark.parametrize("model", MODELS)
def test_a_page_of_no_key_is_not_found(viewer, model):
    for key in ("nobody", "%00", "a%2F9"):
        address = reverse(f"admin:bamboo_audit_{model}_changelist") + f"{key}/change/"
        assert viewer.get(address).status_code in (302, 403, 404)


def test_a_host_without_time_zones_sees_them_too(viewer, settings):
    settings.USE_TZ = False
    for model in MODELS:
        page(viewer, model)


def test_the_lists_take_a_constant_number_of_queries_and_never_count(viewer):
    for model in MODELS:
        with CaptureQueriesContext(connections[conf.get("DATABASE")]) as queries:
            page(viewer, model)
        ours = [each["sql"] for each in queries if f"bamboo_audit_{model}" in each["sql"]]
        assert len(ours) == 1, ours
        assert "COUNT(" not in ours[0]
        assert "DISTINCT" not in ours[0]


@pytest.mark.parametrize("model", MODELS)
def test_each_needs_its_own_permission(client, model):
    user = User.objects.create_user("other", is_staff=True)
    others = [f"view_{other}" for other in MODELS if other != model]
    user.user_permissions.add(*Permission.objects.filter(codename__in=others))
    client.force_login(user)
    address = reverse(f"admin:bamboo_audit_{model}_changelist")
    assert client.get(address).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_nobody_writes(admin_client, model):
    for page_name in ("add", "delete"):
        arguments = [] if page_name == "add" else ["a"]
        address = reverse(f"admin:bamboo_audit_{model}_{page_name}", args=arguments)
        assert admin_client.post(address, {"post": "yes"}).status_code in (403, 302, 404)
    assert PipelineTimeline.objects.filter(pk="run").exists()
    assert NodeTimeline.objects.filter(pk="a").exists()


def found(filterset, queryset, **asked):
    data = QueryDict(mutable=True)
    for name, value in asked.items():
        data.setlist(name, value if isinstance(value, list) else [value])
    made = filterset(data, queryset=queryset)
    assert made.is_valid(), made.errors
    return {row.pk for row in made.qs}


RUNS = [
    ({"state": ["RUNNING", "FINISHED"]}, True),
    ({"state": ["FINISHED"]}, False),
    ({"verdict": "waiting"}, True),
    ({"verdict": "complete"}, False),
    ({"tag": "task_id=42"}, True),
    ({"tag": "task_id=43"}, False),
    ({"actor": " alice "}, True),
    ({"actor": "bob"}, False),
    ({"component": "deploy"}, True),
    ({"component": "build"}, False),
    ({"failed": "on"}, True),
    ({"failures": "on"}, True),
    ({"retried": "on"}, True),
    ({"skipped": "on"}, False),
    ({"skipped": "false"}, True),
    ({"intervention": "on"}, True),
    ({"since": "2020-01-01T00:00:00Z"}, True),
    ({"until": "2020-01-01T00:00:00Z"}, False),
    ({}, True),
]


@pytest.mark.parametrize(("asked", "is_found"), RUNS, ids=str)
def test_the_filters_of_runs(asked, is_found):
    assert ("run" in found(RunFilterSet, PipelineTimeline.objects.all(), **asked)) == is_found


NODES = [
    ({"run": " run "}, True),
    ({"run": "another"}, False),
    ({"state": ["FAILED"]}, True),
    ({"state": ["RUNNING"]}, False),
    ({"component": "deploy"}, True),
    ({"tag": "task_id=42"}, True),
    ({"tag": "task_id=7"}, False),
    ({"actor": "alice"}, True),
    ({"actor": "bob"}, False),
    ({"failed": "on", "failures": "on", "retried": "on", "intervention": "on"}, True),
    ({"skipped": "on"}, False),
    ({"error_ignored": "on"}, False),
    ({"since": "2020-01-01T00:00:00Z"}, True),
    ({"until": "2020-01-01T00:00:00Z"}, False),
]


@pytest.mark.parametrize(("asked", "is_found"), NODES, ids=str)
def test_the_filters_of_nodes(asked, is_found):
    assert ("a" in found(NodeFilterSet, NodeTimeline.objects.all(), **asked)) == is_found


def test_the_filters_of_transitions():
    everything = StateTransition.objects.all()
    assert "a/3" in found(TransitionFilterSet, everything, run="run", node="a")
    assert found(TransitionFilterSet, everything, node="a", until="2020-01-01T00:00:00Z") == set()


def test_a_tag_that_is_none_says_how_to_write_it():
    made = RunFilterSet({"tag": "task_id"}, queryset=PipelineTimeline.objects.all())
    assert not made.is_valid()
    assert "task_id=42" in str(made.errors["tag"])


def test_times_are_in_the_viewers_time_zone(viewer, settings):
    settings.TIME_ZONE = "Asia/Shanghai"
    entered = StateTransition.objects.filter(node_id="a").first().entered_at
    local = entered.astimezone(datetime.timezone(datetime.timedelta(hours=8)))
    assert f"{local:%Y-%m-%d %H:%M:%S}" in page(viewer, "statetransition", node="a")
