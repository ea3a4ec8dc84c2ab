"""Find the receiver that somebody named, and say what is wrong with what is none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from django.utils.module_loading import import_string

from audit.capture.text import describe
from audit.exceptions import SoftTimeLimit, UnknownReceiver

OWN = __name__.partition(".")[0]


def load(path: str) -> Callable[..., Any]:
    """The receiver of that dotted path: what takes ``sender``, ``event`` and more keywords.

    Raises:
        UnknownReceiver: there is none, or it cannot be called as the signal calls its receivers.
    """
    try:
        found = import_string(path)
    except SoftTimeLimit:
        raise
    except Exception as error:  # a module raises what it likes
        _refuse(
            path,
            f"cannot be imported ({describe(error)}). Name a function by its module: "
            "shop.receivers.on_event.",
            error,
        )
    if OWN in (path.partition(".")[0], str(getattr(found, "__module__", "")).partition(".")[0]):
        _refuse(path, "is bamboo-audit's own, which has these events. Name a receiver of yours.")
    if not callable(found):
        _refuse(path, f"is {_kind(found)} and cannot be called. Name a function.")
    if isinstance(found, type):
        _refuse(path, "is a class. Name a function, or an instance that can be called.")
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(found.__call__):
        _refuse(
            path,
            "is an async function, which the signal's send() only makes and nobody awaits. Name a "
            "function that runs it: async_to_sync(…) of asgiref.sync makes one.",
        )
    _check_takes(path, found)
    receiver: Callable[..., Any] = found
    return receiver


def _check_takes(path: str, found: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # of one that is not written in Python nobody knows
        return
    try:
        signature.bind(signal=None, sender=None, event=None)
    except TypeError as error:
        _refuse(
            path,
            f"does not take what a receiver is given ({error}). Declare it as "
            "def on_event(sender, event, **kwargs).",
            error,
        )


def _kind(found: object) -> str:
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _refuse(path: str, why: str, error: Exception | None = None) -> NoReturn:
    raise UnknownReceiver(f"The receiver {path!r} {why}") from error
