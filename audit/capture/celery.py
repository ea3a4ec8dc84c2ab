"""Celery: what a task does was caused by whoever sent it, and says so under ``inherited``.

A header carries who and why from the sender to the worker, and from there to the tasks that
the task itself sends. It is text: what else a broker's tables take differs from one to the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from audit import conf
from audit.capture import context, redact
from audit.capture.encode import encode
from audit.exceptions import SoftTimeLimit

try:
    from celery import signals
except ImportError:  # nobody sends a task here, or runs one
    signals = None

logger = logging.getLogger("audit")

HEADER: Final = "bamboo_audit"
UID: Final = "bamboo_audit.context"
MAX_BYTES: Final = 4_096
_CUTS: Final = (None, 500, 100)
"""Characters that are left of each text where the header would be too long."""


class TaskFrame(context.Frame):
    """A task that runs. What it inherits is not its own doing, so no index finds it as such."""

    kind = "task"

    def __init__(
        self,
        before: context.Said,
        around: context.Said,
        task_id: str | None,
        name: str,
        inherited: Mapping[str, Any],
    ) -> None:
        super().__init__(before)
        self.inherited = inherited
        self.task_id = task_id
        self._around = around
        self._name = name

    def values(self) -> Mapping[str, Any]:
        return self._around

    def about(self) -> dict[str, Any]:
        about: dict[str, Any] = {"task": {"id": self.task_id, "name": self._name}}
        if self.inherited:
            about["inherited"] = self.inherited
        return about

    def to_hand_on(self) -> dict[str, Any]:
        return {}


def carried() -> str:
    """What a task that is sent here carries, as the header's text; "" is nothing."""
    said = context.current()
    if said is context.NOTHING:
        return ""
    settings = conf.current()
    if settings["DELIVERY"] == "off" or not conf.enabled(settings):
        return ""
    secrets = settings["REDACT"]
    if said.carried is None or said.carried[0] is not secrets:
        lasts = said.settle()
        text = _carried(said, secrets)
        if not lasts:
            return text
        said.carried = secrets, text
    return said.carried[1]


def _carried(said: context.Said, secrets: tuple[str, ...]) -> str:
    values = {key: value for key, value in said.spoken().items() if key not in context.OWN}
    handed_on = {} if said.frame is None else said.frame.to_hand_on()
    values = {**said.inherited(), **handed_on, **values}
    if not values:
        return ""
    encoded, _ = redact.redact(encode(values)[0], secrets)
    if len(encoded) <= MAX_BYTES:
        return encoded.decode()
    values = orjson.loads(encoded)
    few = {key: values[key] for key in context.BOUND if key in values}
    request = {key: values[key] for key in ("request",) if key in values}
    left_out = len(values) - len(few) - len(request)
    for length in _CUTS:
        cut = {key: _cut(value, length) for key, value in few.items()}
        encoded = orjson.dumps({**cut, **request, "left_out": left_out})
        if len(encoded) <= MAX_BYTES:
            return encoded.decode()
    return ""  # what came as a request is none of ours


def _cut(value: Any, length: int | None) -> Any:
    if length is None:
        return value
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= length else text[:length] + "…"


def begin(task_id: str | None, name: str, header: Any, *, inside: bool = False) -> None:
    """A task begins on this thread.

    ``inside``: in the middle of other code, whose blocks are not the task's. Otherwise those
    around a whole worker hold for its tasks.
    """
    before = context.current()
    around = context.NOTHING
    if not inside:
        # What a task left behind that died before its end was told is not this one's.
        while isinstance(before.frame, TaskFrame):
            before = before.frame.before
        around = before
        while around.frame is not None:
            around = around.frame.before
    context.enter(TaskFrame(before, around, task_id, name, _read(header)))


def end(task_id: str | None) -> None:
    """The task ends; what held before it holds again."""
    frame = context.current().frame
    while frame is not None:
        if isinstance(frame, TaskFrame) and frame.task_id == task_id:
            context.go_back_to(frame.before)
            return
        frame = frame.before.frame


def _read(header: Any) -> dict[str, Any]:
    if not header:
        return {}
    try:
        inherited = orjson.loads(header)
    except orjson.JSONDecodeError:  # not of our making
        return {}
    return inherited if isinstance(inherited, dict) else {}


def _quietly(function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Neither the publisher nor the worker may notice."""
    try:
        function(*args, **kwargs)
    except SoftTimeLimit:
        raise
    except Exception:
        logger.exception("bamboo-audit: a task goes on without who and why.")


def on_before_task_publish(headers: Any = None, **_: Any) -> None:
    """Receiver of ``before_task_publish``, in the process that sends a task."""
    _quietly(_put, headers)


def _put(headers: dict[str, Any]) -> None:
    if text := carried():
        headers[HEADER] = text


def on_task_prerun(task: Any = None, task_id: Any = None, **_: Any) -> None:
    """Receiver of ``task_prerun``, in the process, thread or greenlet that runs the task."""
    _quietly(_take, task, task_id)


def _take(task: Any, task_id: Any) -> None:
    request = task.request
    eager = bool(request.is_eager)  # then nobody has sent it
    begin(task_id, task.name, carried() if eager else request.get(HEADER), inside=eager)


def on_task_postrun(task_id: Any = None, **_: Any) -> None:
    """Receiver of ``task_postrun``."""
    _quietly(end, task_id)


def connect() -> None:
    """Connect to Celery, where there is one; again is harmless."""
    if signals is not None:
        signals.before_task_publish.connect(on_before_task_publish, dispatch_uid=UID)
        signals.task_prerun.connect(on_task_prerun, dispatch_uid=UID)
        signals.task_postrun.connect(on_task_postrun, dispatch_uid=UID)
