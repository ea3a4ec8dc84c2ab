"""What people do to runs. The part of the demo that an integrator would copy.

Every operation is one call of the engine's API inside ``audit.context``, which says who does it
and why. In a project this is where the views are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamboo_engine import api
from pipeline.eri.runtime import BambooDjangoRuntime

import audit
from audit.testing.executor import heap

from .trees import Tree

runtime = BambooDjangoRuntime()


class Refused(Exception):
    """The engine did not do what it was asked to do."""


def start(tree: Tree, *, actor: str, release: str, work: int | None = None) -> str:
    """Start a run; answers its id. ``work`` is how many tasks the workers get to (None: all)."""
    _ask(
        api.run_pipeline,
        tree,
        root_pipeline_data={"release": release},
        who={"actor": actor, "source": "release page"},
    )
    do_work(work)
    return str(tree["id"])


def operate(operation: Callable[..., Any], *args: Any, actor: str, reason: str) -> None:
    """One of the engine's operations, such as ``api.retry_node``, on a node or a pipeline."""
    _ask(operation, *args, who={"actor": actor, "reason": reason})
    do_work()


def sign_off(node_id: str, *, actor: str, reason: str) -> None:
    """The callback that a waiting node waits for."""
    version = runtime.get_state(node_id).version
    operate(api.callback, node_id, version, {"accepted": True}, actor=actor, reason=reason)


def state_of(run_id: str) -> str:
    """The state of a run, by the engine."""
    return str(api.get_pipeline_states(runtime, run_id).data[run_id]["state"])


def do_work(tasks: int | None = None) -> None:
    """What Celery's workers do. Outside of ``audit.context``: they inherit who sent the task."""
    if tasks is None:
        heap.pump()
    else:
        heap.pump(tasks)


def _ask(operation: Callable[..., Any], *args: Any, who: dict[str, str], **options: Any) -> None:
    with audit.context(**who):
        result = operation(runtime, *args, **options)
    if not result.result:
        raise Refused(f"{operation.__name__}: {result.message}")
