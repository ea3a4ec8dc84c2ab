from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit import conf
from audit.models import PipelineEventRecord

pytestmark = pytest.mark.django_db(databases="__all__")

LIST = "admin:bamboo_audit_pipelineeventrecord_changelist"
PAGE = "admin:bamboo_audit_pipelineeventrecord_change"


@pytest.fixture
def viewer(client):
    """A staff member who may view records and nothing else."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_pipelineeventrecord"))
    client.force_login(user)
    return client


def shown(response) -> list[int]:
    """The positions of the records on a list page, top to bottom."""
    assert response.status_code == 200
    return [
        int(position)
        for position in re.findall(
            r"/admin/bamboo_audit/pipelineeventrecord/(\d+)/change/", response.content.decode()
        )
    ]


def follow(client, response, rel: str):
    link = re.search(rf'<a rel="{rel}" href="([^"]+)"', response.content.decode())
    assert link, f"no {rel} link"
    return client.get(reverse(LIST) + html.unescape(link[1]))


def test_the_list_shows_the_newest_record_first(viewer, record_factory):
    positions = [record_factory(node=f"n{i}") for i in range(5)]

    assert shown(viewer.get(reverse(LIST), {"run": "run-1"}))[:5] == positions[::-1]


def test_the_list_never_counts_and_takes_a_constant_number_of_queries(viewer, record_factory):
    log = connections[conf.get("DATABASE")]
    numbers = []
    for size in (2, 120):
        for i in range(size):
            record_factory(node=f"n{i}")
        with CaptureQueriesContext(log) as captured:
            viewer.get(reverse(LIST))
        statements = [query["sql"] for query in captured]
        assert not any("COUNT(" in statement.upper() for statement in statements)
        assert not any("OFFSET" in statement.upper() for statement in statements)
        numbers.append(len([s for s in statements if "pipelineeventrecord" in s]))
    assert numbers == [1, 1]


def test_pages_walk_through_every_record_once_and_back(viewer, record_factory):
    positions = [record_factory(run="walk", node=f"n{i}") for i in range(130)]

    response = viewer.get(reverse(LIST), {"run": "walk"})
    walked = shown(response)
    for _ in range(2):
        response = follow(viewer, response, "next")
        walked += shown(response)
    assert walked == positions[::-1]
    assert 'rel="next"' not in response.content.decode()

    response = follow(viewer, response, "prev")
    assert shown(response) == positions[::-1][50:100]
    response = follow(viewer, response, "prev")
    assert shown(response) == positions[::-1][:50]


def test_records_of_one_instant_are_neither_skipped_nor_shown_twice(
    viewer, record_factory, monkeypatch
):
    from audit.capture import writer as writers

    frozen = writers.writer.stamp().occurred_at
    monkeypatch.setattr(writers.writer, "_latest", frozen.replace(year=frozen.year + 1))
    positions = [record_factory(run="instant", node=f"n{i}") for i in range(70)]

    first = viewer.get(reverse(LIST), {"run": "instant"})
    assert shown(first) + shown(follow(viewer, first, "next")) == positions[::-1]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"event_type": "pre_retry_node"}, {"retry"}),
        ({"event_type": ["pre_retry_node", "gone_tomorrow"]}, {"retry", "unknown"}),
        ({"run": "run-b"}, {"other"}),
        ({"node": "n-1"}, {"retry"}),
        ({"actor": "alice"}, {"retry"}),
        ({"run": "run-a", "since": "2999-01-01T00:00:00"}, set()),
        ({"run": "run-a", "until": "2999-01-01T00:00:00"}, {"retry", "unknown"}),
        ({"q": "n-1"}, {"retry"}),
        ({"q": "run-b"}, {"other"}),
    ],
)
def test_filters(viewer, record_factory, asked, expected):
    made = {
        "retry": record_factory("pre_retry_node", run="run-a", node="n-1", actor="alice"),
        "unknown": record_factory("gone_tomorrow", run="run-a", node="n-2", actor="bob"),
        "other": record_factory("node_enter", run="run-b", node="n-3"),
    }
    response = viewer.get(reverse(LIST), asked)
    names = {position: name for name, position in made.items()}

    assert {names[position] for position in shown(response) if position in names} == expected
    assert set(shown(response)) <= set(names)


def test_a_page_link_keeps_the_filter(viewer, record_factory):
    for i in range(60):
        record_factory(run="kept", node=f"n{i}")
    response = viewer.get(reverse(LIST), {"run": "kept", "event_type": "node_enter"})
    link = re.search(r'<a rel="next" href="([^"]+)"', response.content.decode())

    query = parse_qs(urlsplit(html.unescape(link[1])).query)
    assert query["run"] == ["kept"]
    assert query["event_type"] == ["node_enter"]


@pytest.mark.parametrize(
    "asked",
    [
        {"older": "nonsense"},
        {"older": "2026-01-01T00:00:00~1"},
        {"newer": "2026-01-01T00:00:00+00:00~99999999999999999999"},
        {"since": "yesterday"},
        {"run": "\0"},
        {"q": "\0"},
        {"q": "'; DROP TABLE bamboo_audit_pipelineeventrecord; --"},
    ],
)
def test_a_senseless_address_is_no_error(viewer, record_factory, asked):
    record_factory()
    assert viewer.get(reverse(LIST), asked).status_code == 200


def test_a_record_page_shows_what_who_why_and_where(viewer, record_factory):
    position = record_factory(
        "pre_retry_node",
        node="n-1",
        data={"node_id": "n-1", "data": {"host": "10.0.0.1"}},
        actor="alice",
        reason="disk was full",
    )
    page = viewer.get(reverse(PAGE, args=[position])).content.decode()

    for text in ("Retrying a failed node was asked for", "alice", "disk was full", "10.0.0.1"):
        assert text in page


def test_hostile_payloads_are_shown_as_text(viewer, record_factory):
    hostile = "</pre></script><img src=x onerror=alert(1)>"
    position = record_factory(
        "node_execute_exception<b>",
        run=hostile,
        node=hostile,
        data={hostile: hostile, "ex_data": hostile * 100},
        actor=hostile,
        reason=hostile,
    )
    for address in (reverse(PAGE, args=[position]), reverse(LIST)):
        page = viewer.get(address).content.decode()
        assert "<img src=x" not in page
        assert "exception<b>" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.parametrize("data", [None, [], "text", 3, {"pipeline": {"id": "x" * 5_000}}])
def test_any_payload_has_a_page(viewer, record_factory, data):
    position = record_factory(data=data)
    assert viewer.get(reverse(PAGE, args=[position])).status_code == 200


def test_nobody_writes(admin_client, record_factory):
    position = record_factory()
    page = reverse(PAGE, args=[position])

    assert (
        admin_client.get(reverse("admin:bamboo_audit_pipelineeventrecord_add")).status_code == 403
    )
    assert admin_client.post(page, {"event_type": "forged"}).status_code == 403
    delete = reverse("admin:bamboo_audit_pipelineeventrecord_delete", args=[position])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    assert PipelineEventRecord.objects.get(pk=position).event_type == "node_enter"


def test_the_view_permission_is_needed(client, record_factory):
    position = record_factory()
    client.force_login(User.objects.create_user("somebody", is_staff=True))

    assert client.get(reverse(LIST)).status_code == 403
    assert client.get(reverse(PAGE, args=[position])).status_code == 403


def test_without_a_log_the_list_says_what_to_do(viewer, log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute("ALTER TABLE bamboo_audit_pipelineeventrecord RENAME TO away")
        with transaction.atomic(using=log_connection.alias):
            response = viewer.get(reverse(LIST))
            transaction.set_rollback(True, using=log_connection.alias)

    (message,) = get_messages(response.wsgi_request)
    assert response.url == reverse("admin:index")
    assert "has no log yet. Run: manage.py migrate bamboo_audit" in str(message)


def test_the_list_takes_no_lookup_that_would_read_the_whole_log(viewer, record_factory):
    record_factory()
    assert viewer.get(reverse(LIST), {"data__icontains": "x"}).status_code == 400
