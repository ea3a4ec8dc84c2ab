"""The pages of an ordinary host, and its WSGI application."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from lab import ordinary


def emit(request: HttpRequest) -> HttpResponse:
    ordinary.emit(3)
    return HttpResponse(ordinary.me.who)


urlpatterns = [path("emit", emit)]
application = get_wsgi_application()
