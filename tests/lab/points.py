"""Every kind of moment at which the engine calls receivers, and a run that reaches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from audit.events import POST_SET_STATE
from lab import scenarios
from lab.scenarios import Run

OPERATIONS: Final[dict[str, tuple[str, Callable[[], Run]]]] = {
    "pause_pipeline": ("pause_pipeline", scenarios.pause_and_resume_pipeline),
    "resume_pipeline": ("resume_pipeline", scenarios.pause_and_resume_pipeline),
    "revoke_pipeline": ("revoke_pipeline", scenarios.revoke_pipeline),
    "pause_node": ("pause_node_appoint", scenarios.pause_and_resume_node),
    "resume_node": ("resume_node_appoint", scenarios.pause_and_resume_node),
    "retry_node": ("retry_node", scenarios.execute_false_then_retry),
    "skip_node": ("skip_node", scenarios.execute_raises_then_skip),
    "skip_exclusive_gateway": (
        "skip_exclusive_gateway",
        scenarios.exclusive_gateway_fails_then_skip,
    ),
    "skip_conditional_parallel_gateway": (
        "skip_conditional_parallel_gateway",
        scenarios.conditional_parallel_gateway_fails_then_skip,
    ),
    "forced_fail_activity": ("forced_fail_activity", scenarios.forced_fail),
    "callback": ("callback", scenarios.callback),
    "retry_subprocess": ("retry_subprocess", scenarios.subprocess_fails_then_retry),
}
"""What an event's name says was done: how the engine's API calls it, and a run that does it."""


@dataclass(frozen=True)
class Point:
    """One moment of a scenario: the ``nth`` time that it sends such a signal."""

    name: str
    scenario: Callable[[], Run]
    event_type: str
    to_state: str | None = None
    nth: int = 1
    operation: str | None = None
    """The call of the engine's API that waits for the receiver; None in a worker."""

    def matches(self, event_type: str, data: Any) -> bool:
        if event_type != self.event_type:
            return False
        return self.to_state is None or data["to_state"] == self.to_state

    def matches_told(self, told: tuple[str, ...]) -> bool:
        """The same for ``spy.told``."""
        return self.matches(told[0], {"to_state": told[1]})


def _state(to_state: str, of: str, scenario: Callable[[], Run], **more: Any) -> Point:
    return Point(f"{to_state}_of_{of}", scenario, POST_SET_STATE, to_state=to_state, **more)


ASKED: Final = [
    Point(f"pre_{name}", scenario, f"pre_{name}", operation=operation)
    for name, (operation, scenario) in OPERATIONS.items()
] + [
    Point(
        "pre_prepare_run_pipeline",
        scenarios.linear,
        "pre_prepare_run_pipeline",
        operation="run_pipeline",
    )
]
DONE: Final = [
    Point(f"post_{name}", scenario, f"post_{name}", operation=operation)
    for name, (operation, scenario) in OPERATIONS.items()
] + [
    Point(
        "post_prepare_run_pipeline",
        scenarios.linear,
        "post_prepare_run_pipeline",
        operation="run_pipeline",
    )
]
BEGINS: Final = _state("RUNNING", "the_run", scenarios.linear, operation="run_pipeline")
"""Inside the engine's ``transaction.atomic()``."""

# The second of these events is the first activity's; the start event had its own.
NODE_ENTER: Final = Point("node_enter", scenarios.linear, "node_enter")
NODE_FINISH: Final = Point("node_finish", scenarios.linear, "node_finish", nth=2)
NODE_FINISHED: Final = _state("FINISHED", "a_node", scenarios.linear, nth=2)
EXECUTE_FAIL: Final = Point(
    "node_execute_fail", scenarios.execute_false_then_retry, "node_execute_fail"
)
SCHEDULE_FAIL: Final = Point(
    "node_schedule_fail", scenarios.schedule_false_then_retry, "node_schedule_fail"
)
EXECUTE_EXCEPTION: Final = Point(
    "node_execute_exception", scenarios.execute_raises_then_skip, "node_execute_exception"
)
SCHEDULE_EXCEPTION: Final = Point(
    "node_schedule_exception", scenarios.schedule_raises_then_skip, "node_schedule_exception"
)
PRE_EXECUTE: Final = Point("pre_execute", scenarios.linear, "pre_execute")
PRE_SCHEDULE: Final = Point("pre_schedule", scenarios.poll, "pre_schedule")
POST_EXECUTE: Final = Point("post_execute", scenarios.linear, "post_execute")
POST_SCHEDULE: Final = Point("post_schedule", scenarios.poll, "post_schedule", nth=3)
PIPELINE_FINISH: Final = Point("pipeline_finish", scenarios.linear, "pipeline_finish")
NODE_FAILED: Final = _state("FAILED", "a_node", scenarios.execute_false_then_retry)

IN_WORKERS: Final = [
    NODE_ENTER,
    NODE_FINISH,
    NODE_FINISHED,
    EXECUTE_FAIL,
    SCHEDULE_FAIL,
    EXECUTE_EXCEPTION,
    SCHEDULE_EXCEPTION,
    PRE_EXECUTE,
    PRE_SCHEDULE,
    POST_EXECUTE,
    POST_SCHEDULE,
    PIPELINE_FINISH,
    NODE_FAILED,
]

ALL: Final = [*ASKED, *DONE, BEGINS, *IN_WORKERS]
