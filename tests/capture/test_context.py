from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading

import pytest

import audit
from audit.capture import context


def test_outside_there_is_none():
    assert dict(context.current()) == {}


def test_a_block_says_who_and_why():
    with audit.context(
        actor="alice", executor="admin", reason="disk full", source="api", ticket=7, none=None
    ):
        assert context.current() == {
            "actor": "alice",
            "executor": "admin",
            "reason": "disk full",
            "source": "api",
            "ticket": 7,
        }
    assert context.current() == {}


def test_an_inner_block_adds_and_goes_before():
    with audit.context(actor="alice", ticket=1):
        with audit.context(actor="bob", reason="why"):
            assert context.current() == {"actor": "bob", "ticket": 1, "reason": "why"}
        assert context.current() == {"actor": "alice", "ticket": 1}


def test_what_an_inner_block_does_not_say_stays():
    with audit.context(actor="alice"), audit.context(actor=None, reason=""):
        assert context.current() == {"actor": "alice", "reason": ""}


def test_an_exception_passes_and_ends_the_block():
    with pytest.raises(ValueError, match="boom"), audit.context(actor="alice"):
        raise ValueError("boom")
    assert context.current() == {}


def test_one_block_may_be_entered_again_and_inside_itself():
    block = audit.context(actor="alice")
    with block, block:
        assert context.current() == {"actor": "alice"}
    with block as entered:
        assert entered is block
    assert context.current() == {}


def test_a_block_that_is_written_to_later_is_the_same():
    given = {"ticket": 1}
    with audit.context(**given):
        given["ticket"] = 2
        assert context.current() == {"ticket": 1}


def test_a_decorator_is_a_block_around_each_call():
    @audit.context(actor="cron")
    def work(first: int, *, second: int) -> tuple[int, int, object]:
        """Works."""
        return first, second, context.current()["actor"]

    assert work(1, second=2) == (1, 2, "cron")
    assert (work.__name__, work.__doc__) == ("work", "Works.")
    assert context.current() == {}


def test_a_decorated_function_that_raises_or_calls_itself():
    @audit.context(actor="cron")
    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        raise ValueError(context.current()["actor"])

    with pytest.raises(ValueError, match="cron"):
        down(5)
    assert context.current() == {}


def test_a_decorated_method():
    class View:
        @audit.context(source="view")
        def post(self) -> object:
            return context.current()["source"]

    assert View().post() == "view"


def test_a_decorator_that_threads_share_keeps_them_apart():
    ready = threading.Barrier(10)
    seen: list[dict[str, object]] = []

    @audit.context(source="shared")
    def work(name: str) -> None:
        ready.wait(10)
        with audit.context(actor=name):
            ready.wait(10)
            seen.append(dict(context.current()))
            ready.wait(10)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(10)]
    with audit.context(actor="main"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(str(one["actor"]) for one in seen) == [f"t{number}" for number in range(10)]
    assert {one["source"] for one in seen} == {"shared"}


def test_a_new_thread_begins_without():
    seen = []
    with audit.context(actor="alice"):
        thread = threading.Thread(target=lambda: seen.append(dict(context.current())))
        thread.start()
        thread.join()
        copied = contextvars.copy_context()
    assert seen == [{}]
    assert copied.run(context.current) == {"actor": "alice"}


def test_tasks_of_one_thread_do_not_see_each_others():
    async def work(name: str) -> object:
        with audit.context(actor=name):
            await asyncio.sleep(0)
            with audit.context(reason=name):
                await asyncio.sleep(0)
                return dict(context.current())

    async def both() -> list[object]:
        with audit.context(source="both"):
            found = await asyncio.gather(*(work(name) for name in "abc"))
            return [*found, dict(context.current())]

    assert asyncio.run(both()) == [
        *({"source": "both", "actor": name, "reason": name} for name in "abc"),
        {"source": "both"},
    ]


def test_a_decorated_coroutine_runs_inside_the_block():
    @audit.context(actor="async")
    async def work() -> object:
        await asyncio.sleep(0)
        return context.current().get("actor")

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(work()) == "async"
    assert context.current() == {}


def test_what_a_block_says_cannot_be_changed_from_inside():
    with audit.context(actor="alice"):
        seen = context.current()
        with audit.context(actor="bob"):
            assert seen == {"actor": "alice"}


def test_a_block_that_is_left_in_another_context_harms_nobody():
    """A generator that is closed elsewhere, as asynchronous frameworks do."""

    def work():
        with audit.context(actor="alice"):
            yield dict(context.current())

    generator = work()
    assert contextvars.copy_context().run(next, generator) == {"actor": "alice"}
    generator.close()
    assert context.current() == {}


# A decorator may take who and why from the call.


def test_a_decorator_takes_the_argument_of_that_name():
    @audit.context(actor="operator", reason="why", source="page")
    def retry(node_id: str, operator: str, *, why: str = "no reason given") -> dict[str, object]:
        return dict(context.current())

    told = {"source": "page"}
    assert retry("n", "alice") == {"actor": "alice", "reason": "no reason given", **told}
    assert retry("n", operator="bob", why="disk") == {"actor": "bob", "reason": "disk", **told}


def test_an_argument_that_is_none_says_nothing():
    @audit.context(actor="operator", source="page")
    def retry(operator: str | None = None) -> dict[str, object]:
        return dict(context.current())

    assert retry() == {"source": "page"}
    with audit.context(actor="outer"):
        assert retry() == {"actor": "outer", "source": "page"}
        assert retry("alice") == {"actor": "alice", "source": "page"}


def test_only_the_four_are_bound_and_only_to_parameters_of_their_own():
    @audit.context(actor="args", executor="kwargs", reason="missing", ticket="number")
    def work(number: int, *args: object, **kwargs: object) -> dict[str, object]:
        return dict(context.current())

    assert work(7, 8, missing="x") == {
        "actor": "args",
        "executor": "kwargs",
        "reason": "missing",
        "ticket": "number",
    }


def test_a_call_that_does_not_fit_fails_as_ever():
    @audit.context(actor="operator")
    def retry(operator: str) -> None: ...

    with pytest.raises(TypeError, match=r"retry\(\) missing 1 required positional argument"):
        retry()


def test_methods_coroutines_and_builtins_may_be_decorated():
    class View:
        @audit.context(actor="user")
        def post(self, user: str) -> object:
            return context.current().get("actor")

        @audit.context(actor="user")
        async def later(self, user: str) -> object:
            return context.current().get("actor")

    assert View().post("alice") == "alice"
    assert asyncio.run(View().later(user="bob")) == "bob"
    assert audit.context(actor="x")(dict.fromkeys)(["a"]) == {"a": None}
    assert audit.context(actor="x")(min)(1, 2) == 1
