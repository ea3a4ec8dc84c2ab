"""Ask the host's own callables, which may query databases in the middle of its transactions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from django.db import connections, transaction


def ask(function: Callable[..., Any], *args: Any) -> Any:
    """What ``function`` answers, each open transaction in a savepoint meanwhile.

    A query of it that fails would abort the host's transaction with it.

    Raises:
        Exception: whatever it raises, or what a broken transaction does.
    """
    with ExitStack() as savepoints:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                savepoints.enter_context(transaction.atomic(using=connection.alias))
        return function(*args)
