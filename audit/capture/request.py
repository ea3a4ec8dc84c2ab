"""A request as the context of what is recorded in it; who made it is asked for when needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from django.http import HttpRequest

from audit import conf
from audit.capture import context, hosts
from audit.capture.text import describe, type_name
from audit.exceptions import SoftTimeLimit

MAX_REQUEST_ID: Final = 200
MAX_PATH: Final = 500
WAIT: Final = 1.0
"""Seconds that a thread waits for another one of the same request that is asking already."""
_ANSWERS: Final = ("actor", "executor", "source")


class RequestFrame(context.Frame):
    """Asks ``ACTOR`` at the first event, or task sent, of the request; once, or never."""

    kind = "request"

    def __init__(self, before: context.Said, request: HttpRequest) -> None:
        super().__init__(before)
        self._settled = False
        self._request = request
        self._said: dict[str, Any] = {}
        self._asked = False
        self._lock = threading.RLock()

    def settle(self) -> bool:
        if not self._settled and self._lock.acquire(timeout=WAIT):
            try:
                # It may be this very thread that is asking: ACTOR sends an event itself.
                if not self._asked:
                    self._asked = True
                    self._ask()
            finally:
                self._lock.release()
        return self.before.settle() and self._settled

    def values(self) -> Mapping[str, Any]:
        self.settle()
        return {**self.before.spoken(), **self._said}

    def _ask(self) -> None:
        try:
            self._said["source"] = f"{self._request.method} {self._path()}"
            self._said.update(_answer(self._request))
        except SoftTimeLimit:
            raise
        except Exception as error:
            self.notes.append({"path": "actor", "was": "unreadable", "lost": describe(error)})
        finally:
            self._settled = True

    def about(self) -> dict[str, Any]:
        known = {
            **self.to_hand_on().get("request", {}),
            "method": self._request.method,
            "path": self._path(),
            "ip": self._request.META.get("REMOTE_ADDR"),
        }
        return {"request": {key: value for key, value in known.items() if value}}

    def to_hand_on(self) -> dict[str, Any]:
        given = self._request.META.get("HTTP_X_REQUEST_ID")
        return {"request": {"id": str(given)[:MAX_REQUEST_ID]}} if given else {}

    def _path(self) -> str:
        return self._request.path[:MAX_PATH]


def _answer(request: HttpRequest) -> dict[str, Any]:
    """What ``ACTOR`` says of a request, as a block would say it."""
    actor = conf.get("ACTOR")
    said = _user_name(request) if actor is None else hosts.ask(actor, request)
    if said is None:
        return {}
    if isinstance(said, str):
        return {"actor": said}
    if isinstance(said, Mapping):
        named = dict(said)
    elif isinstance(said, tuple) and len(said) <= len(_ANSWERS):
        named = dict(zip(_ANSWERS, said, strict=False))
    else:
        raise TypeError(f"ACTOR answered a {type_name(said)}")
    return {key: value for key, value in named.items() if value is not None}


def _user_name(request: HttpRequest) -> str | None:
    """The user's name, if somebody is logged in."""
    if not hasattr(request, "user"):
        return None
    if "_cached_user" in vars(request):
        return _name(request)  # known already: no database is asked
    name: str | None = hosts.ask(_name, request)
    return name


def _name(request: HttpRequest) -> str | None:
    user = request.user
    return (user.get_username() or None) if user.is_authenticated else None


@contextmanager
def during(request: HttpRequest) -> Iterator[None]:
    """What is recorded inside is of this request."""
    entered = context.enter(RequestFrame(context.current(), request))
    try:
        yield
    finally:
        context.leave(entered)
