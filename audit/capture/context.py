"""Who acts, on whose behalf, and why: for the records of what is done inside a block."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

from audit.capture.encode import Note

P = ParamSpec("P")
R = TypeVar("R")

Encoded = tuple[object, object, bytes]
"""What it depends on, twice, and the JSON."""

OWN: Final = frozenset(
    {
        *("host", "pid", "sender", "changed", "redacted"),
        *("kind", "task", "request", "inherited", "tags", "reason_missing", "suppressed"),
    }
)
"""Keys of a record's context that only the recorder writes."""
BOUND: Final = ("actor", "executor", "reason", "source")
"""What a decorator may take from an argument of the decorated function."""


class Said(dict[str, Any]):
    """What the enclosing blocks say, never changed, and its encoded forms."""

    __slots__ = ("carried", "encoded", "frame")

    def __init__(self, values: Mapping[str, Any], frame: Frame | None) -> None:
        super().__init__(values)
        self.frame = frame
        """The request or task that the blocks are in."""
        self.encoded: dict[str | None, Encoded] = {}
        """As records carry it, by sender: a block may hold for many records."""
        self.carried: tuple[object, str] | None = None
        """As tasks carry it that are sent inside, and what that depends on."""

    def spoken(self) -> Mapping[str, Any]:
        """What the blocks say, and beneath it what the request or task says that they are in."""
        return self if self.frame is None else {**self.frame.values(), **self}

    def inherited(self) -> Mapping[str, Any]:
        """What holds because of whoever sent the task."""
        return {} if self.frame is None else self.frame.inherited

    def gives_a_reason(self) -> bool:
        return bool(self.spoken().get("reason") or self.inherited().get("reason"))

    def settle(self) -> bool:
        """Ask for what is still to be asked for; whether it says the same from now on."""
        return self.frame is None or self.frame.settle()


class Frame:
    """A request or a task: blocks inside it go before what it says."""

    kind: str

    def __init__(self, before: Said) -> None:
        self.before = before
        """What held when it began, and holds again when it ends."""
        self.inherited: Mapping[str, Any] = {}
        self.notes: list[Note] = []
        """What became of its values."""

    def settle(self) -> bool:
        """Ask for what is still to be asked for; whether it says the same from now on."""
        return True

    def values(self) -> Mapping[str, Any]:
        """What it says as if a block around all of it had."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """What only the recorder writes, by the keys of a record's context."""
        raise NotImplementedError

    def to_hand_on(self) -> dict[str, Any]:
        """What the tasks that it sends inherit beside who and why."""
        raise NotImplementedError


NOTHING: Final = Said({}, None)
# A context variable and not a thread local: greenlets and asyncio tasks share a thread.
_current: ContextVar[Said] = ContextVar("bamboo_audit_context", default=NOTHING)


class context:  # noqa: N801 - used as ``with audit.context(...)``
    """Attach who and why to every event that happens inside; a block or a decorator.

    ``actor`` did it, ``executor`` is on whose behalf the engine acts where that differs,
    ``reason`` is why, ``source`` from where (a page, an API). Further keywords are kept as
    they are. Blocks nest: an inner one adds to the outer one and goes before it.

    As a decorator each of those four may name a parameter of the function: then the
    argument of that name is said, whatever it is in that call, and nothing where it is None.
    With ``@audit.context(actor="operator")`` over ``def retry(node_id, operator)`` the actor
    is the operator; over a function without such a parameter it is the word "operator".
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
        self._tokens: list[Token[Said]] = []

    def __enter__(self) -> Self:
        outer = _current.get()
        self._tokens.append(_current.set(Said({**outer, **self._values}, outer.frame)))
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
        values = _binder(function, self._values)
        if inspect.iscoroutinefunction(function):
            # Calling it only makes the coroutine: the block must be open while that runs.
            @functools.wraps(function)
            async def inside_task(*args: P.args, **kwargs: P.kwargs) -> Any:
                with type(self)(**values(args, kwargs)):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", inside_task)

        @functools.wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> R:
            # A block of its own for each call: calls in several threads share the decorator.
            with type(self)(**values(args, kwargs)):
                return function(*args, **kwargs)

        return inside


def _binder(
    function: Callable[..., Any], values: dict[str, Any]
) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """What a call's arguments make of a decorator's ``values``."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin: it may have none
        return lambda args, kwargs: values
    named = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    bound = {
        key: name for key in BOUND if isinstance(name := values.get(key), str) and name in named
    }
    if not bound:
        return lambda args, kwargs: values

    def at_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            call = signature.bind(*args, **kwargs)
        except TypeError:  # the function is about to say so itself
            return values
        call.apply_defaults()
        return {**values, **{key: call.arguments[name] for key, name in bound.items()}}

    return at_call


current: Final[Callable[[], Said]] = _current.get
"""What holds here: the enclosing ``audit.context`` blocks, the innermost going first."""


def enter(frame: Frame) -> Token[Said]:
    """Begin a request or task: blocks around it are beneath it."""
    return _current.set(Said({}, frame))


def leave(token: Token[Said]) -> None:
    """End what ``enter`` began, in the same context."""
    with suppress(ValueError):
        _current.reset(token)


def go_back_to(said: Said) -> None:
    """End a task, in whatever state it left this thread."""
    _current.set(said)
