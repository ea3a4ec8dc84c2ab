"""The admin on this machine: a login, a port, where to look, and Django's own server."""

from __future__ import annotations

import io
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.urls import reverse
from django.utils.crypto import get_random_string

from audit.testing.postgres import URL_VARIABLE

HOST = "127.0.0.1"
READABLE = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else


@dataclass(frozen=True, slots=True)
class Login:
    name: str
    password: str


def make_login() -> Login:
    """The superuser ``admin``, with a new password each time."""
    login = Login("admin", get_random_string(12, READABLE))
    user, _ = get_user_model()._default_manager.get_or_create(
        username=login.name, defaults={"is_staff": True, "is_superuser": True}
    )
    user.set_password(login.password)
    user.save()
    return login


def why_not(port: int) -> str:
    """Why nothing can be served on ``port``; "" if it can."""
    with socket.socket() as probe:
        # As Django's server does: a port is free again right after its last server ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            return getattr(error, "strerror", None) or str(error)
    return ""


def directions(port: int, login: Login, postgres: Any) -> Iterator[str]:
    """What a reader needs who has only the terminal."""
    page = reverse("admin:bamboo_audit_pipelineeventrecord_changelist")
    yield f"Records   http://{HOST}:{port}{page}"
    yield f"Log in    {login.name}, password {login.password}"
    yield f"Health    python {sys.argv[0]} audit_status    (in a second terminal)"
    if not postgres.lasting:
        yield f"          after: export {URL_VARIABLE}='{postgres.url}'"
    yield "Stop      Ctrl-C"


def serve(port: int) -> None:
    """Serve until Ctrl-C. What Django's server says about itself is of no use here."""
    # A container is stopped by SIGTERM: end as by Ctrl-C, and stop PostgreSQL on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    call_command(
        "runserver", f"{HOST}:{port}", use_reloader=False, skip_checks=True, stdout=io.StringIO()
    )
