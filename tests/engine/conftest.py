"""The real engine, in this process, with our receivers and a spy behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

HERE = Path(__file__).parent

collect_ignore_glob = [] if find_spec("pipeline") else ["*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.django_db(transaction=True, databases="__all__"))
            # The engine reads a gateway's conditions with pyparsing's old names.
            item.add_marker(pytest.mark.filterwarnings("ignore:'parseAll' argument"))


@pytest.fixture(scope="module")
def engine_tables(django_db_setup: None, django_db_blocker: Any) -> Any:
    """The databases for real, without a transaction around each test.

    The engine's ids are unique, so runs do not meet; its tables are emptied once a module. The
    log only grows.
    """
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False, database="default")


@pytest.fixture
def _django_db_helper(engine_tables: None) -> None:
    """Instead of pytest-django's, which empties all tables after each of hundreds of tests.

    Should it be called otherwise one day, the tests here are slower and as right as before.
    """


@pytest.fixture(autouse=True)
def no_tasks_left() -> Any:
    """What a broken run left undone is not done by the next test."""
    from audit.testing.executor import heap

    heap.clear()
    yield
    heap.clear()


@pytest.fixture
def spy() -> Any:
    """What the engine sends while the test runs."""
    from lab.spy import Spy

    spy = Spy()
    with spy.listening():
        yield spy


@pytest.fixture
def configure(settings: Any) -> Any:
    """Change keys of BAMBOO_AUDIT for this test, beside those of the settings in use."""

    def change(**keys: Any) -> None:
        settings.BAMBOO_AUDIT = {**getattr(settings, "BAMBOO_AUDIT", {}), **keys}

    return change


@dataclass(frozen=True)
class Undisturbed:
    """What a scenario leads to, and what the engine sends meanwhile, where nothing records."""

    outcome: dict[str, Any]
    sent: list[tuple[str, ...]]


_undisturbed: dict[Callable[[], Any], Undisturbed] = {}


@pytest.fixture
def undisturbed(settings: Any) -> Callable[[Callable[[], Any]], Undisturbed]:
    """The same scenario with DELIVERY "off"; run once for all tests that compare with it."""
    from lab.spy import Spy, told, written

    def answer(scenario: Callable[[], Any]) -> Undisturbed:
        if scenario not in _undisturbed:
            ours, spy = getattr(settings, "BAMBOO_AUDIT", {}), Spy()
            settings.BAMBOO_AUDIT = {**ours, "DELIVERY": "off"}
            with spy.listening():
                run = scenario()
            settings.BAMBOO_AUDIT = ours
            assert written() == []
            _undisturbed[scenario] = Undisturbed(
                run.outcome(), [told(each, run.names) for each in spy.seen]
            )
        return _undisturbed[scenario]

    return answer
