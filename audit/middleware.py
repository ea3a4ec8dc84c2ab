"""Django middleware: what is recorded in a request says which one it was, and who made it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from audit.capture.request import during


class AuditContextMiddleware:
    """Who (``ACTOR``) and from where, for every event of a request; at no query of its own.

    Nobody is asked for in requests that record nothing. ``audit.context`` in a view goes
    before it.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if self._is_async:
            return self._in_async(request)
        with during(request):
            return cast("HttpResponse", self.get_response(request))

    async def _in_async(self, request: HttpRequest) -> HttpResponse:
        with during(request):
            return cast("HttpResponse", await self.get_response(request))
