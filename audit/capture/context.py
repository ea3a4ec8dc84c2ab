"""Who acts, on whose behalf, and why: for the records of what is done inside a block."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

_EMPTY: Final[Mapping[str, Any]] = {}
# A context variable and not a thread local: greenlets and asyncio tasks share a thread.
_current: ContextVar[Mapping[str, Any]] = ContextVar("bamboo_audit_context", default=_EMPTY)


class context:  # noqa: N801 - used as ``with audit.context(...)``
    """Attach who and why to every event that happens inside; a block or a decorator.

    ``actor`` did it, ``executor`` is on whose behalf the engine acts where that differs,
    ``reason`` is why, ``source`` from where (a page, an API). Further keywords are kept as
    they are. Blocks nest: an inner one adds to the outer one and goes before it.
    """

    def __init__(
        self,
        *,
        actor: str | None = None,
        executor: str | None = None,
        reason: str | None = None,
        source: str | None = None,
        **extra: Any,
    ) -> None:
        given = {"actor": actor, "executor": executor, "reason": reason, "source": source, **extra}
        self._values = {key: value for key, value in given.items() if value is not None}
        self._tokens: list[Token[Mapping[str, Any]]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_current.set({**_current.get(), **self._values}))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In another context than it was entered in (a generator's, a copied one), there is
        # nothing of ours to take back; raising would harm the host.
        with suppress(ValueError):
            _current.reset(self._tokens.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):
            # Calling it only makes the coroutine: the block must be open while that runs.
            @functools.wraps(function)
            async def inside_task(*args: P.args, **kwargs: P.kwargs) -> Any:
                with type(self)(**self._values):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", inside_task)

        @functools.wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> R:
            # A block of its own for each call: calls in several threads share the decorator.
            with type(self)(**self._values):
                return function(*args, **kwargs)

        return inside


def current() -> Mapping[str, Any]:
    """What the enclosing ``audit.context`` blocks say, the innermost going first."""
    return _current.get()
