"""Drive the real engine in this thread, and tell its final states in a comparable form."""

from __future__ import annotations

from typing import Any

from bamboo_engine import api, builder
from pipeline.eri.models import State
from pipeline.eri.runtime import BambooDjangoRuntime

from audit.testing.executor import heap

runtime = BambooDjangoRuntime()


def activity(code: str, name: str = "", **inputs: Any) -> builder.ServiceActivity:
    act = builder.ServiceActivity(name=name or code, component_code=code)
    for key, value in inputs.items():
        act.component.inputs[key] = builder.Var(type=builder.Var.PLAIN, value=value)
    return act


def tree_of(*elements: Any) -> dict[str, Any]:
    """A tree of start, ``elements`` one after the other, and end."""
    start = builder.EmptyStartEvent()
    start.extend_all = None
    tail = start
    for element in elements:
        tail = tail.extend(element)
    tail.extend(builder.EmptyEndEvent())
    return builder.build_tree(start)


def run(tree: dict[str, Any], **options: Any) -> str:
    """Start a run and work until nothing is left to do; answers the run's id."""
    ok(api.run_pipeline(runtime, tree, **options))
    heap.pump()
    return str(tree["id"])


def ok(result: Any) -> Any:
    assert result.result, f"{result.message}\n{result.exc_trace}"
    return result


def operate(name: str, *args: Any, pump: bool = True, **kwargs: Any) -> Any:
    """One call of the engine's API; the work that it causes is done unless told otherwise."""
    result = getattr(api, name)(runtime, *args, **kwargs)
    if pump:
        heap.pump()
    return result


def state(node_id: str) -> State:
    return State.objects.get(node_id=node_id)
