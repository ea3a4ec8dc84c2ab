"""The vocabulary: every event type, what it means, and the ids that it carries.

One place for the admin, the documentation and the fold. The engine's 37 types
and their keys were read off the running engine (bamboo-pipeline 4.0.6); its own
page on signals lists 31 and names some keys differently. The keys of that page
are accepted too (see ``audit.capture.ids``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Nature(enum.Enum):
    """What an event says about the world."""

    ATTEMPT = "attempt"
    """Something was asked for; the engine may still refuse it (pre_ without post_)."""
    FACT = "fact"
    """Something has happened."""
    PHASE = "phase"
    """A node passed a point of its execution; no statement about its state."""


class Origin(enum.Enum):
    """Who sends it."""

    CALLER = "caller"
    """The engine, in the process of whoever called its API."""
    WORKER = "worker"
    """The engine, in a Celery worker."""
    RECORDER = "recorder"
    """bamboo-audit itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One event type: ``name`` as stored, meanings, and the id keys of its data."""

    name: str
    meaning: str
    meaning_zh: str
    ids: tuple[str, ...]
    nature: Nature
    origin: Origin
    intervention: bool = False
    """True for what a person does to a run or node."""


POST_SET_STATE: Final = "post_set_state"
"""The engine's other signal, recorded beside ``pipeline_event``."""
GAP: Final = "gap"
"""Records that are known or suspected to be missing."""


def _prepare(name: str, meaning: str, meaning_zh: str, nature: Nature) -> EventType:
    return EventType(
        name=name,
        meaning=meaning,
        meaning_zh=meaning_zh,
        ids=("pipeline",),
        nature=nature,
        origin=Origin.CALLER,
    )


def _operation(
    verb: str, ids: tuple[str, ...], asked: str, done: str, asked_zh: str, done_zh: str
) -> tuple[EventType, EventType]:
    """The pair that every operator's action sends: pre_ when asked, post_ when done."""

    def event(prefix: str, meaning: str, meaning_zh: str, nature: Nature) -> EventType:
        return EventType(
            name=f"{prefix}_{verb}",
            meaning=meaning,
            meaning_zh=meaning_zh,
            ids=ids,
            nature=nature,
            origin=Origin.CALLER,
            intervention=True,
        )

    return event("pre", asked, asked_zh, Nature.ATTEMPT), event("post", done, done_zh, Nature.FACT)


def _worker(
    name: str, meaning: str, meaning_zh: str, nature: Nature, ids: tuple[str, ...] | None = None
) -> EventType:
    return EventType(
        name=name,
        meaning=meaning,
        meaning_zh=meaning_zh,
        ids=ids or ("root_pipeline_id", "node_id"),
        nature=nature,
        origin=Origin.WORKER,
    )


ENGINE_EVENTS: Final[tuple[EventType, ...]] = (
    _prepare(
        "pre_prepare_run_pipeline",
        "A run is about to be prepared; carries the whole tree",
        "任务即将准备执行，携带完整流程树",
        Nature.ATTEMPT,
    ),
    _prepare(
        "post_prepare_run_pipeline",
        "A run was prepared and handed to the workers",
        "任务准备完成，已交给执行进程",
        Nature.FACT,
    ),
    *_operation(
        "pause_pipeline",
        ("pipeline_id",),
        "Pausing a pipeline was asked for",
        "A pipeline was paused",
        "请求暂停流程",
        "流程已暂停",
    ),
    *_operation(
        "resume_pipeline",
        ("pipeline_id",),
        "Resuming a pipeline was asked for",
        "A pipeline was resumed",
        "请求继续流程",
        "流程已继续",
    ),
    *_operation(
        "revoke_pipeline",
        ("pipeline_id",),
        "Revoking a pipeline was asked for",
        "A pipeline was revoked",
        "请求终止流程",
        "流程已终止",
    ),
    *_operation(
        "pause_node",
        ("node_id",),
        "Pausing a node was asked for",
        "A node was paused",
        "请求暂停节点",
        "节点已暂停",
    ),
    *_operation(
        "resume_node",
        ("node_id",),
        "Resuming a node was asked for",
        "A node was resumed",
        "请求继续节点",
        "节点已继续",
    ),
    *_operation(
        "retry_node",
        ("node_id",),
        "Retrying a failed node was asked for",
        "A failed node is retried",
        "请求重试失败节点",
        "失败节点已重试",
    ),
    *_operation(
        "skip_node",
        ("node_id",),
        "Skipping a failed node was asked for",
        "A failed node was skipped",
        "请求跳过失败节点",
        "失败节点已跳过",
    ),
    *_operation(
        "skip_exclusive_gateway",
        ("node_id",),
        "Skipping a failed exclusive gateway along one flow was asked for",
        "A failed exclusive gateway was skipped along one flow",
        "请求跳过失败的分支网关并选定分支",
        "失败的分支网关已跳过",
    ),
    *_operation(
        "skip_conditional_parallel_gateway",
        ("node_id",),
        "Skipping a failed conditional parallel gateway along some flows was asked for",
        "A failed conditional parallel gateway was skipped along some flows",
        "请求跳过失败的条件并行网关并选定分支",
        "失败的条件并行网关已跳过",
    ),
    *_operation(
        "forced_fail_activity",
        ("node_id",),
        "Forcing a running node to fail was asked for",
        "A running node was forced to fail",
        "请求将执行中的节点强制失败",
        "执行中的节点已被强制失败",
    ),
    *_operation(
        "callback",
        ("node_id",),
        "A callback for a waiting node arrived",
        "The callback was handed to the workers",
        "等待中的节点收到回调",
        "回调已交给执行进程",
    ),
    *_operation(
        "retry_subprocess",
        ("node_id",),
        "Retrying a failed subprocess was asked for",
        "A failed subprocess is retried",
        "请求重试失败的子流程",
        "失败的子流程已重试",
    ),
    _worker("node_enter", "A service activity was entered", "进入标准插件节点", Nature.FACT),
    _worker(
        "pre_execute",
        "A plugin's execute() is about to be called",
        "即将调用插件 execute()",
        Nature.PHASE,
    ),
    _worker(
        "post_execute",
        "A plugin's execute() returned true",
        "插件 execute() 返回成功",
        Nature.PHASE,
    ),
    _worker(
        "pre_schedule",
        "A plugin's schedule() is about to be called: a poll or a callback",
        "即将调用插件 schedule()：轮询或回调",
        Nature.PHASE,
    ),
    _worker(
        "post_schedule",
        "A plugin's schedule() returned true",
        "插件 schedule() 返回成功",
        Nature.PHASE,
    ),
    _worker(
        "node_execute_fail",
        "A node failed in execute(); not sent when the error is ignored",
        "节点 execute() 失败；忽略错误时不发送",
        Nature.FACT,
    ),
    _worker(
        "node_schedule_fail",
        "A node failed in schedule(); not sent when the error is ignored",
        "节点 schedule() 失败；忽略错误时不发送",
        Nature.FACT,
    ),
    _worker(
        "node_execute_exception",
        "A plugin's execute() raised; carries the traceback",
        "插件 execute() 抛出异常，携带堆栈",
        Nature.FACT,
    ),
    _worker(
        "node_schedule_exception",
        "A plugin's schedule() raised; carries the traceback",
        "插件 schedule() 抛出异常，携带堆栈",
        Nature.FACT,
    ),
    _worker(
        "node_finish",
        "A node finished; for a subprocess: it was entered",
        "节点执行完成；对子流程而言表示进入",
        Nature.FACT,
    ),
    _worker(
        "pipeline_finish",
        "The root pipeline finished; the end event's node_finish still follows",
        "根流程执行完成；结束节点的 node_finish 随后到达",
        Nature.FACT,
        ids=("pipeline_id",),
    ),
)
"""The 37 types of ``pipeline.eri.signals.pipeline_event``."""

OTHER_EVENTS: Final[tuple[EventType, ...]] = (
    EventType(
        name=POST_SET_STATE,
        meaning="The engine changed the state of a node or pipeline",
        meaning_zh="引擎变更了节点或流程的状态",
        ids=("root_id", "parent_id", "node_id"),
        nature=Nature.FACT,
        origin=Origin.WORKER,
    ),
    EventType(
        name=GAP,
        meaning="Records are known or suspected to be missing here",
        meaning_zh="此处已知或疑似缺失记录",
        ids=(),
        nature=Nature.FACT,
        origin=Origin.RECORDER,
    ),
)

VOCABULARY: Final[dict[str, EventType]] = {
    event_type.name: event_type for event_type in (*ENGINE_EVENTS, *OTHER_EVENTS)
}
"""Every known type by name. A name that is not here is recorded like any other."""
