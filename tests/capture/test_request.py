"""Requests through the middleware, sync and async, with Django's own clients."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

import audit
from audit import conf, receivers
from audit.capture import celery, context, record, request
from audit.capture.ids import Ids
from audit.capture.text import type_name

pytestmark = pytest.mark.django_db(databases="__all__")

VIEWS: dict[str, Any] = {}
"""What the test at hand has a view do."""


def view(asked):
    VIEWS["view"](asked)
    return HttpResponse()


async def async_view(asked):
    await VIEWS["view"](asked)
    return HttpResponse()


urlpatterns = [path("sync/", view), path("async/", async_view)]


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        "audit.middleware.AuditContextMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    settings.BAMBOO_AUDIT = dict(getattr(settings, "BAMBOO_AUDIT", {}))
    return settings


@pytest.fixture
def alice():
    return get_user_model().objects.create_user("alice", password="x")


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


def made() -> dict[str, Any]:
    """The context of a record that is made here."""
    text = record.make("pre_retry_node", {}, Ids(), conf.get("REDACT")).context
    return dict(json.loads(text))


shared_by_threads = pytest.mark.skipif(
    "connections['default'].vendor == 'sqlite'",
    reason="the other thread's database in memory is another one",
)


def during(client, do, **headers) -> HttpResponse:
    VIEWS["view"] = do
    response = client.post("/sync/?token=s3cret", **headers)
    assert context.current() is context.NOTHING
    return response


def run(work: Coroutine[Any, Any, Any]) -> None:
    """Run asynchronous work, and close what its threads have opened."""

    async def to_the_end() -> None:
        try:
            await work
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(to_the_end())


def seen(client, **headers) -> dict[str, Any]:
    found: list[Any] = []
    during(client, lambda _: found.append(made()), **headers)
    return found[0]


def test_a_record_says_who_made_the_request(client):
    found = seen(client, HTTP_X_REQUEST_ID="abc-1" + "x" * 300)
    assert found["actor"] == "alice"
    assert found["source"] == "POST /sync/"
    assert found["kind"] == "request"
    assert found["request"] == {
        "id": "abc-1" + "x" * 195,
        "method": "POST",
        "path": "/sync/",
        "ip": "127.0.0.1",
    }
    assert "s3cret" not in str(found)
    assert "changed" not in found


def test_nobody_is_logged_in():
    found = seen(Client())
    assert "actor" not in found
    assert (found["source"], found["request"]["method"]) == ("POST /sync/", "POST")
    assert "id" not in found["request"]


def test_a_site_without_users(site):
    site.MIDDLEWARE = site.MIDDLEWARE[:1]
    found = seen(Client())
    assert "actor" not in found
    assert "changed" not in found


def test_the_record_is_in_the_log(client):
    from audit.models import PipelineEventRecord

    event = SimpleNamespace(event_type="pre_retry_node", data={"node_id": "n"})
    during(client, lambda _: receivers.on_pipeline_event(event=event))
    found = PipelineEventRecord.objects.by_actor("alice").newest_first().first()
    assert found is not None
    assert found.context["request"]["path"] == "/sync/"


def test_a_request_that_records_nothing_touches_nobody(client, site):
    asked: list[Any] = []
    site.BAMBOO_AUDIT["ACTOR"] = asked.append

    response = during(client, lambda request: asked.append("_cached_user" in vars(request)))
    assert asked == [False]
    assert "Vary" not in response.headers, "the session was not looked at"


def test_a_request_that_records_nothing_makes_no_query(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        during(client, lambda _: None)


def test_the_user_is_asked_for_once(client, site):
    asked: list[Any] = []

    def actor(request):
        asked.append(request)
        return "bob"

    site.BAMBOO_AUDIT["ACTOR"] = actor

    def work(_):
        for _ in range(3):
            assert made()["actor"] == "bob"
        with audit.context(reason="why"):
            assert made()["actor"] == "bob"

    during(client, work)
    assert len(asked) == 1


def test_threads_of_a_request_ask_once(client, site):
    asked: list[Any] = []
    let_go = threading.Event()

    def actor(request):
        asked.append(request)
        let_go.wait(5)
        return "bob"

    site.BAMBOO_AUDIT["ACTOR"] = actor
    found: list[str] = []

    def work(_):
        here = context.current()

        def another():
            context.go_back_to(here)
            found.append(made()["actor"])

        threads = [threading.Thread(target=another) for _ in range(4)]
        for thread in threads:
            thread.start()
        let_go.set()
        for thread in threads:
            thread.join()

    during(client, work)
    assert (len(asked), found) == (1, ["bob"] * 4)


def test_a_thread_waits_for_another_only_so_long(client, site, monkeypatch):
    monkeypatch.setattr(request, "WAIT", 0.01)
    let_go, asking = threading.Event(), threading.Event()

    def actor(_):
        asking.set()
        let_go.wait(5)
        return "bob"

    site.BAMBOO_AUDIT["ACTOR"] = actor

    def work(_):
        here = context.current()

        def another():
            context.go_back_to(here)
            with audit.context(reason="another block"):
                made()

        thread = threading.Thread(target=another)
        thread.start()
        asking.wait(5)
        assert "actor" not in made()
        assert "actor" not in celery.carried()
        let_go.set()
        thread.join()
        assert made()["actor"] == "bob", "what was without is not kept"
        assert '"actor":"bob"' in celery.carried()

    during(client, work)


def test_an_actor_that_sends_an_event_itself(client, site):
    inner: list[Any] = []

    def actor(_):
        inner.append(made())
        return "bob"

    site.BAMBOO_AUDIT["ACTOR"] = actor
    assert seen(client)["actor"] == "bob"
    assert "actor" not in inner[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("bob", {"actor": "bob", "source": "POST /sync/"}),
        (None, {"source": "POST /sync/"}),
        (("bob",), {"actor": "bob", "source": "POST /sync/"}),
        (("bob", "admin"), {"actor": "bob", "executor": "admin", "source": "POST /sync/"}),
        ((None, "admin", "api"), {"executor": "admin", "source": "api"}),
        (
            {"actor": "bob", "reason": "r", "ticket": 7},
            {"actor": "bob", "reason": "r", "ticket": 7},
        ),
        ({"kind": "task", "pid": 1}, {"kind": "request"}),
        ({"actor": "bob", "api_token": "s3cret"}, {"actor": "bob", "api_token": "[redacted]"}),
    ],
    ids=str,
)
def test_what_actor_may_answer(client, site, answer, expected):
    site.BAMBOO_AUDIT["ACTOR"] = lambda request: answer
    found = seen(client)
    assert {key: found[key] for key in expected} == expected
    assert "actor" in expected or "actor" not in found
    assert "changed" not in found


@pytest.mark.parametrize("answer", [5, ("a", "b", "c", "d"), ["bob"], object()], ids=type_name)
def test_what_it_may_not_is_noted(client, site, answer):
    site.BAMBOO_AUDIT["ACTOR"] = lambda request: answer
    found = seen(client)
    assert found["source"] == "POST /sync/"
    (note,) = found["changed"]
    assert (note["path"], note["was"]) == ("context.actor", "unreadable")
    assert type(answer).__name__ in note["lost"]


def test_an_actor_that_raises_costs_only_itself(client, site):
    def actor(_):
        raise RuntimeError("boom")

    site.BAMBOO_AUDIT["ACTOR"] = actor
    notes = [seen(client)["changed"], seen(client)["changed"]]
    for (note,) in notes:
        assert note == {"path": "context.actor", "was": "unreadable", "lost": "RuntimeError: boom"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_passes_through(client, site, error):
    def actor(_):
        raise error

    site.BAMBOO_AUDIT["ACTOR"] = actor

    def work(_):
        with pytest.raises(error):
            made()
        assert "actor" not in made()

    during(client, work)


def test_a_query_of_it_that_fails_leaves_the_hosts_transaction_alone(client, site):
    def actor(_):
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT no_such_thing")

    site.BAMBOO_AUDIT["ACTOR"] = actor

    def work(_):
        with transaction.atomic():
            assert made()["changed"][0]["path"] == "context.actor"
            get_user_model().objects.create_user("made after")

    during(client, work)
    assert get_user_model().objects.filter(username="made after").exists()


def test_in_a_broken_transaction_the_record_is_kept(client):
    def work(_):
        with transaction.atomic():
            transaction.set_rollback(True)
            found.append(made())

    found: list[Any] = []
    during(client, work)
    (note,) = found[0]["changed"]
    assert note["path"] == "context.actor"
    assert "TransactionManagementError" in note["lost"]
    assert found[0]["request"]["path"] == "/sync/"


def test_a_user_who_is_known_already_costs_no_query(client, django_assert_num_queries):
    def work(asked):
        str(asked.user)
        with transaction.atomic(), django_assert_num_queries(0):
            assert made()["actor"] == "alice"

    during(client, work)


def test_a_block_in_the_view_goes_before(client):
    def work(_):
        with audit.context(actor="carol", reason="why"):
            found.append(made())
        found.append(made())

    found: list[Any] = []
    during(client, work)
    assert (found[0]["actor"], found[0]["reason"]) == ("carol", "why")
    assert found[0]["source"] == "POST /sync/"
    assert (found[1]["actor"], "reason" in found[1]) == ("alice", False)


def test_a_block_around_the_request_is_beneath_it(client):
    VIEWS["view"] = lambda _: found.append(made())
    found: list[Any] = []
    with audit.context(actor="the suite", ticket=7):
        client.post("/sync/")
    assert (found[0]["actor"], found[0]["ticket"]) == ("alice", 7)


def test_a_view_that_raises_ends_its_context(client):
    def work(_):
        with audit.context(actor="carol"):
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        during(client, work)
    assert context.current() is context.NOTHING


def test_long_and_odd_paths_are_kept_short():
    VIEWS["view"] = None
    asked = SimpleNamespace(method=None, path="/" + "\udc80\0é" * 400, META={})
    with request.during(asked):  # type: ignore[arg-type]
        found = made()
    assert len(found["request"]["path"]) <= 500 * 6
    assert set(found["request"]) == {"path"}


@shared_by_threads
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_an_async_view(alice):
    client = AsyncClient()
    client.force_login(alice)
    found: list[Any] = []

    async def work(_):
        with audit.context(reason="why"):
            # As a call of the engine's must be made in an async view: it uses the ORM.
            found.append(await sync_to_async(made)())
        await asyncio.sleep(0)
        found.append(made())

    async def ask() -> None:
        VIEWS["view"] = work
        await client.post("/async/")
        assert context.current() is context.NOTHING

    run(ask())
    assert [(each["actor"], each["request"]["path"]) for each in found] == [
        ("alice", "/async/"),
    ] * 2
    assert (found[0]["reason"], "reason" in found[1]) == ("why", False)


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_where_the_user_cannot_be_asked_for_in_async_code_the_record_is_kept(alice):
    client = AsyncClient()
    client.force_login(alice)
    found: list[Any] = []

    async def work(_):
        found.append(made())

    VIEWS["view"] = work
    run(client.post("/async/"))
    assert "SynchronousOnlyOperation" in found[0]["changed"][0]["lost"]


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_async_requests_of_one_thread_do_not_see_each_others(site):
    site.BAMBOO_AUDIT["ACTOR"] = lambda asked: asked.headers["X-Who"]
    found: dict[str, Any] = {}

    async def work(asked):
        await asyncio.sleep(0.01)
        found[asked.headers["X-Who"]] = made()["actor"]
        await asyncio.sleep(0.01)

    async def all_at_once() -> None:
        VIEWS["view"] = work
        client = AsyncClient()
        await asyncio.gather(*(client.post("/async/", **{"X-Who": who}) for who in "abcde"))

    run(all_at_once())
    assert found == {who: who for who in "abcde"}


@shared_by_threads
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_a_sync_view_under_an_async_server(alice):
    client = AsyncClient()
    client.force_login(alice)
    found: list[Any] = []
    VIEWS["view"] = lambda _: found.append(made())
    run(client.post("/sync/"))
    assert found[0]["actor"] == "alice"
