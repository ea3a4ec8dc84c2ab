"""The tasks, and the app that both sides use: the tests send, the worker works.

A folder is the broker. Each task answers the context that a record made in it would have.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery

import audit
from audit import conf
from audit.capture import record
from audit.capture.ids import Ids
from workers import broker

FOLDER = "AUDIT_TEST_WORKERS"

app = Celery("workers", set_as_current=False)


def configure(folder: Path) -> None:
    app.conf.update(broker.settings(folder))


if FOLDER in os.environ:
    configure(Path(os.environ[FOLDER]))


def made() -> dict[str, Any]:
    return dict(json.loads(record.make("x", {}, Ids(), conf.get("REDACT")).context))


@app.task(shared=False)
def look() -> dict[str, Any]:
    return made()


@app.task(shared=False)
def relay(times: int) -> dict[str, Any]:
    """Send the next one, and answer its id."""
    further = (relay.delay(times - 1) if times > 1 else look.delay()).id
    return made() | {"further": further}


@app.task(shared=False)
def act(name: str) -> list[dict[str, Any]]:
    """Do something of one's own, and send a task from there."""
    with audit.context(actor=name):
        return [made() | {"further": look.delay().id}, made()]


@app.task(shared=False)
def eager() -> list[dict[str, Any]]:
    """Call tasks that are not sent, one inside the other."""
    with audit.context(actor="caller"):
        inner = look.apply().get(disable_sync_subtasks=False)
        deeper = nested.apply().get(disable_sync_subtasks=False)
        return [inner, *deeper, made()]


@app.task(shared=False)
def nested() -> list[dict[str, Any]]:
    with audit.context(actor="middle"):
        inner = look.apply().get(disable_sync_subtasks=False)
        return [inner, made()]


@app.task(shared=False, bind=True, max_retries=2, default_retry_delay=0)
def again(self: Any) -> dict[str, Any]:
    """Done when it was tried twice more."""
    if self.request.retries < 2:
        # In a while: Celery says that it is tried again after it has sent that, and in a pool of
        # threads would overwrite the answer of a retry that is quicker.
        raise self.retry(countdown=1)
    return made()


@app.task(shared=False, soft_time_limit=1)
def die(how: str) -> None:
    """Leave a block open, and end in a bad way."""
    audit.context(actor="left behind").__enter__()
    if how == "raise":
        raise ValueError("boom")
    if how == "exit":
        raise SystemExit(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(30)
