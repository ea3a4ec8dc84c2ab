"""Runs that together make the engine send all it can send, each a function that answers a Run.

What the engine's API answers and what its tasks raise is kept and not asserted: the same
scenarios run with a receiver that breaks the engine.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bamboo_engine import api, builder
from bamboo_engine.builder import Var
from pipeline.eri.models import (
    ExecutionData,
    ExecutionHistory,
    Process,
    Schedule,
    State,
)

from audit.testing.executor import heap
from lab import variables
from lab.components.collections.lab import CALLS
from lab.engine import activity, runtime, tree_of

MOST_TASKS: Final = 300
"""A scenario needs fewer; an engine that sends its task again for ever is stopped here."""


def places(tree: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(id, name, id of the pipeline around it) of everything in a tree, the root first.

    Names are unique and the same in every run: ``A``, ``sub/start``.
    """
    yield tree["id"], "root", ""
    yield from _inside(tree, "")


def _inside(pipeline: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    here = pipeline["id"]
    yield pipeline["start_event"]["id"], f"{prefix}start", here
    yield pipeline["end_event"]["id"], f"{prefix}end", here
    for node in itertools.chain(pipeline["gateways"].values(), pipeline["activities"].values()):
        yield node["id"], f"{prefix}{node['name']}", here
        if "pipeline" in node:
            yield from _inside(node["pipeline"], f"{prefix}{node['name']}/")


@dataclass
class Run:
    """One run: its tree, the names of its nodes, what the API answered and tasks raised."""

    tree: dict[str, Any]
    answers: list[tuple[str, bool]] = field(default_factory=list)
    crashes: list[Exception] = field(default_factory=list)
    tasks: int = 0

    def __post_init__(self) -> None:
        self.names = {node: name for node, name, _ in places(self.tree)}
        self.parents = {node: parent for node, _, parent in places(self.tree)}
        self.ids = {name: node for node, name in self.names.items()}
        self.first_call = len(CALLS)

    @property
    def root(self) -> str:
        return str(self.tree["id"])

    def start(self, *, work: bool = True, **options: Any) -> Run:
        """Begin the run; unless told otherwise work until nothing is left to do."""
        answer = api.run_pipeline(runtime, self.tree, **options)
        self.answers.append(("run_pipeline", answer.result))
        if work:
            self.work()
        return self

    def call(self, operation: str, name: str, *args: Any, work: bool = True, **kwargs: Any) -> Any:
        """One operation of the engine's API on the node of that name."""
        answer = getattr(api, operation)(runtime, self.ids[name], *args, **kwargs)
        self.answers.append((operation, answer.result))
        if work:
            self.work()
        return answer

    def work(self, most: int = MOST_TASKS) -> None:
        """Run tasks until none is left; what one raises is kept, as a worker would log it."""
        for _ in range(most):
            try:
                if not heap.pump(limit=1):
                    return
            except Exception as error:
                self.crashes.append(error)
            self.tasks += 1

    def version(self, name: str) -> str:
        found = State.objects.filter(node_id=self.ids[name]).values_list("version", flat=True)
        return str(found[0]) if found else "none"

    def state(self, name: str) -> str | None:
        """The engine's word for where a node stands; None before it has a state."""
        found = State.objects.filter(node_id=self.ids[name]).values_list("name", flat=True)
        return str(found[0]) if found else None

    def outcome(self) -> dict[str, Any]:
        """Everything that the run led to, with names for ids: comparable between runs."""
        mine = {"node_id__in": list(self.names)}
        return {
            "states": {
                self.names[row.node_id]: (
                    row.name,
                    row.loop,
                    row.inner_loop,
                    row.retry,
                    row.skip,
                    row.error_ignored,
                    self.names.get(row.root_id, row.root_id),
                    self.names.get(row.parent_id, row.parent_id),
                )
                for row in State.objects.filter(**mine)
            },
            "history": Counter(
                self.names[row.node_id] for row in ExecutionHistory.objects.filter(**mine)
            ),
            "outputs": {
                self.names[row.node_id]: self._with_names(row.outputs)
                for row in ExecutionData.objects.filter(**mine)
            },
            "processes": [
                (
                    self.names.get(row.current_node_id, row.current_node_id),
                    self.names.get(row.suspended_by, row.suspended_by),
                    self._with_names(row.pipeline_stack),
                    (row.asleep, row.suspended, row.frozen, row.dead),
                    (row.ack_num, row.need_ack),
                )
                for row in Process.objects.filter(root_pipeline_id=self.root).order_by("id")
            ],
            "schedules": [
                (
                    self.names[row.node_id],
                    (row.finished, row.expired, row.scheduling),
                    row.schedule_times,
                )
                for row in Schedule.objects.filter(**mine).order_by("id")
            ],
            "calls": [
                (self.names[node], method)
                for node, method in CALLS[self.first_call :]
                if node in self.names
            ],
            "answers": self.answers,
            "crashes": [type(error) for error in self.crashes],
            "tasks": self.tasks,
        }

    def _with_names(self, text: str) -> str:
        text = json.dumps(json.loads(text), sort_keys=True) if text[:1] in "{[" else text
        for node, name in self.names.items():
            text = text.replace(node, name)
        return text


def subprocess(
    name: str, *elements: Any, params: dict[str, Var] | None = None
) -> builder.SubProcess:
    """A subprocess of start, ``elements`` one after the other, and end."""
    start = builder.EmptyStartEvent()
    tail: Any = start
    for element in elements:
        tail = tail.extend(element)
    tail.extend(builder.EmptyEndEvent())
    return builder.SubProcess(start=start, name=name, params=builder.Params(params or {}))


def linear() -> Run:
    return Run(tree_of(activity("lab_ok", "A"), activity("lab_ok", "B"))).start()


def parallel() -> Run:
    start, fork = builder.EmptyStartEvent(), builder.ParallelGateway(name="fork")
    join = builder.ConvergeGateway(name="join")
    branches = (activity("lab_ok", "A"), activity("lab_poll", "B", times=2))
    start.extend(fork).connect(*branches).converge(join).extend(builder.EmptyEndEvent())
    return Run(builder.build_tree(start)).start()


def nested() -> Run:
    inner = subprocess("inner", activity("lab_ok", "C"))
    outer = subprocess("outer", activity("lab_ok", "B"), inner)
    return Run(tree_of(activity("lab_ok", "A"), outer)).start()


def loop() -> Run:
    """Twice through A: a gateway sends the run back while the loop count is below two."""
    start, act = builder.EmptyStartEvent(), activity("lab_ok", "A")
    gateway = builder.ExclusiveGateway(name="again?", conditions={0: "${n} < 2", 1: "${n} >= 2"})
    start.extend(act).extend(gateway).connect(act, builder.EmptyEndEvent())
    data = builder.Data()
    data.inputs["${n}"] = builder.NodeOutput(
        type=Var.SPLICE, source_act=act.id, source_key="_loop", value=""
    )
    return Run(builder.build_tree(start, data=data)).start(cycle_tolerate=True)


def error_ignored() -> Run:
    act = activity("lab_raise", "A")
    act.error_ignorable = True
    return Run(tree_of(act, activity("lab_ok", "B"))).start()


def poll() -> Run:
    return Run(tree_of(activity("lab_poll", "A", times=3), activity("lab_ok", "B"))).start()


def callback() -> Run:
    run = Run(tree_of(activity("lab_callback", "A"), activity("lab_ok", "B"))).start()
    run.call("callback", "A", run.version("A"), {"answer": [1, None, "è"]})
    return run


def callback_waits() -> Run:
    """In a subprocess; nobody calls back."""
    return Run(tree_of(subprocess("sub", activity("lab_callback", "A")))).start()


def execute_false() -> Run:
    return Run(tree_of(activity("lab_fail_first", "A", times=1), activity("lab_ok", "B"))).start()


def execute_false_then_retry() -> Run:
    run = execute_false()
    run.call("retry_node", "A")
    return run


def retry_with_data() -> Run:
    run = Run(tree_of(activity("lab_fail_first", "A", times=99))).start()
    run.call("retry_node", "A", {"times": 1})
    return run


def execute_raises_then_skip() -> Run:
    run = Run(tree_of(activity("lab_raise", "A"), activity("lab_ok", "B"))).start()
    run.call("skip_node", "A")
    return run


def schedule_false_then_retry() -> Run:
    run = Run(tree_of(activity("lab_poll", "A", times=2, mode="fail"))).start()
    run.call("retry_node", "A", {"mode": "ok", "times": 1})
    return run


def schedule_raises_then_skip() -> Run:
    run = Run(tree_of(activity("lab_poll", "A", times=2, mode="raise"))).start()
    run.call("skip_node", "A")
    return run


def callback_fails() -> Run:
    run = Run(tree_of(activity("lab_callback", "A"))).start()
    run.call("callback", "A", run.version("A"), {"fail": True})
    return run


def subprocess_fails_then_retry() -> Run:
    """The subprocess's own inputs cannot be computed, twice: retried, failed, retried."""
    key = f"{next(_numbers)}:2"
    flaky = Var(type=Var.LAZY, value=key, custom_type=variables.FailFirstVariable.code)
    sub = subprocess("sub", activity("lab_ok", "A"), params={"${v}": flaky})
    run = Run(tree_of(sub, activity("lab_ok", "B"))).start()
    run.call("retry_subprocess", "sub")
    run.call("retry_subprocess", "sub")
    return run


_numbers = itertools.count(1)


def _gateway_fails(kind: type[builder.Element]) -> Run:
    start, join = builder.EmptyStartEvent(), builder.ConvergeGateway(name="join")
    gateway = kind(name="gate", conditions={0: "no expression (", 1: "1 == 2"})
    branches = (activity("lab_ok", "A"), activity("lab_ok", "B"))
    start.extend(gateway).connect(*branches).converge(join).extend(builder.EmptyEndEvent())
    run = Run(builder.build_tree(start)).start()
    run.call("retry_node", "gate")
    return run


def exclusive_gateway_fails_then_skip() -> Run:
    run = _gateway_fails(builder.ExclusiveGateway)
    run.call("skip_exclusive_gateway", "gate", _flows(run, "gate")[1])
    return run


def conditional_parallel_gateway_fails_then_skip() -> Run:
    run = _gateway_fails(builder.ConditionalParallelGateway)
    run.call("skip_conditional_parallel_gateway", "gate", _flows(run, "gate"), run.ids["join"])
    return run


def _flows(run: Run, gateway: str) -> list[str]:
    return list(run.tree["gateways"][run.ids[gateway]]["conditions"])


def forced_fail() -> Run:
    run = Run(tree_of(activity("lab_callback", "A"), activity("lab_ok", "B"))).start()
    run.call("forced_fail_activity", "A", ex_data="enough of it")
    run.call("skip_node", "A")
    return run


def forced_fail_without_signal() -> Run:
    """As the engine's admin does it: only the pre_ and post_ events tell."""
    run = Run(tree_of(activity("lab_callback", "A"))).start()
    run.call("forced_fail_activity", "A", ex_data="", send_post_set_state_signal=False)
    return run


def pause_and_resume_pipeline() -> Run:
    run = Run(tree_of(activity("lab_ok", "A"))).start(work=False)
    run.call("pause_pipeline", "root")
    run.call("resume_pipeline", "root")
    return run


def pause_and_resume_subprocess() -> Run:
    sub = subprocess("sub", activity("lab_callback", "A"), activity("lab_ok", "B"))
    run = Run(tree_of(sub)).start()
    run.call("pause_pipeline", "sub")
    run.call("callback", "sub/A", run.version("sub/A"), {})
    run.call("resume_pipeline", "sub")
    return run


def revoke_pipeline() -> Run:
    run = Run(tree_of(activity("lab_callback", "A"))).start()
    run.call("revoke_pipeline", "root")
    return run


def pause_and_resume_node() -> Run:
    """B is paused before the run reaches it, stops it, and is resumed."""
    run = Run(tree_of(activity("lab_ok", "A"), activity("lab_ok", "B"))).start(work=False)
    run.call("pause_node_appoint", "B")
    run.call("resume_node_appoint", "B")
    return run


def pause_and_resume_node_before_it_is_reached() -> Run:
    """All the while B's State has no root."""
    run = Run(tree_of(activity("lab_ok", "A"), activity("lab_ok", "B"))).start(work=False)
    run.call("pause_node_appoint", "B", work=False)
    run.call("resume_node_appoint", "B")
    return run


ALL: Final[dict[str, Callable[[], Run]]] = {
    scenario.__name__: scenario
    for scenario in (
        linear,
        parallel,
        nested,
        loop,
        error_ignored,
        poll,
        callback,
        callback_fails,
        execute_false_then_retry,
        retry_with_data,
        execute_raises_then_skip,
        schedule_false_then_retry,
        schedule_raises_then_skip,
        subprocess_fails_then_retry,
        exclusive_gateway_fails_then_skip,
        conditional_parallel_gateway_fails_then_skip,
        forced_fail,
        forced_fail_without_signal,
        pause_and_resume_pipeline,
        pause_and_resume_subprocess,
        revoke_pipeline,
        pause_and_resume_node,
        pause_and_resume_node_before_it_is_reached,
    )
}
