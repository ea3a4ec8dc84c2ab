"""The vocabulary: every event type, what it means, and the ids that it carries.

One place for the admin, the documentation and the fold. The engine's 37 types
and their keys were read off the running engine (bamboo-pipeline 4.0.6); its own
page on signals lists 31 and names some keys differently. The keys of that page
are accepted too (see ``audit.capture.ids``).
"""

from __future__ import annotations

from typing import Final

from audit.event_type import EventType, Nature, Origin

POST_SET_STATE: Final = "post_set_state"
"""The engine's other signal, recorded beside ``pipeline_event``."""
PRE_PREPARE: Final = "pre_prepare_run_pipeline"
POST_PREPARE: Final = "post_prepare_run_pipeline"
"""The first event of a run, which carries all that is known of it."""
RUN_TAGGED: Final = "run_tagged"
"""Tags that were given to a run later."""
GAP: Final = "gap"
"""Records that are known or suspected to be missing."""
POLLS_SUPPRESSED: Final = "polls_suppressed"
"""Polls that were not recorded (``POLL_SAMPLING``), where no later record of the node says so."""
NODE_FAILURE_DETAIL: Final = "node_failure_detail"
"""Why a node failed, read from the engine afterwards."""


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


def _event(
    name: str,
    meaning: str,
    meaning_zh: str,
    nature: Nature,
    ids: tuple[str, ...] = ("root_pipeline_id", "node_id"),
    origin: Origin = Origin.WORKER,
) -> EventType:
    return EventType(
        name=name, meaning=meaning, meaning_zh=meaning_zh, nature=nature, ids=ids, origin=origin
    )


ENGINE_EVENTS: Final[tuple[EventType, ...]] = (
    _event(
        PRE_PREPARE,
        "A run is about to be prepared; carries the whole tree",
        "任务即将准备执行，携带完整流程树",
        Nature.ATTEMPT,
        ("pipeline",),
        Origin.CALLER,
    ),
    _event(
        POST_PREPARE,
        "A run was prepared and handed to the workers",
        "任务准备完成，已交给执行进程",
        Nature.FACT,
        ("pipeline",),
        Origin.CALLER,
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
    _event("node_enter", "A service activity was entered", "进入标准插件节点", Nature.FACT),
    _event(
        "pre_execute",
        "A plugin's execute() is about to be called",
        "即将调用插件 execute()",
        Nature.PHASE,
    ),
    _event(
        "post_execute",
        "A plugin's execute() returned true",
        "插件 execute() 返回成功",
        Nature.PHASE,
    ),
    _event(
        "pre_schedule",
        "A plugin's schedule() is about to be called: a poll or a callback",
        "即将调用插件 schedule()：轮询或回调",
        Nature.PHASE,
    ),
    _event(
        "post_schedule",
        "A plugin's schedule() returned true",
        "插件 schedule() 返回成功",
        Nature.PHASE,
    ),
    _event(
        "node_execute_fail",
        "A node failed in execute(); not sent when the error is ignored",
        "节点 execute() 失败；忽略错误时不发送",
        Nature.FACT,
    ),
    _event(
        "node_schedule_fail",
        "A node failed in schedule(); not sent when the error is ignored",
        "节点 schedule() 失败；忽略错误时不发送",
        Nature.FACT,
    ),
    _event(
        "node_execute_exception",
        "A plugin's execute() raised; carries the traceback",
        "插件 execute() 抛出异常，携带堆栈",
        Nature.FACT,
    ),
    _event(
        "node_schedule_exception",
        "A plugin's schedule() raised; carries the traceback",
        "插件 schedule() 抛出异常，携带堆栈",
        Nature.FACT,
    ),
    _event(
        "node_finish",
        "A node finished; for a subprocess: it was entered",
        "节点执行完成；对子流程而言表示进入",
        Nature.FACT,
    ),
    _event(
        "pipeline_finish",
        "The root pipeline finished; the end event's node_finish still follows",
        "根流程执行完成；结束节点的 node_finish 随后到达",
        Nature.FACT,
        ids=("pipeline_id",),
    ),
)
"""The 37 types of ``pipeline.eri.signals.pipeline_event``."""

OTHER_EVENTS: Final[tuple[EventType, ...]] = (
    _event(
        POST_SET_STATE,
        "The engine changed the state of a node or pipeline",
        "引擎变更了节点或流程的状态",
        Nature.FACT,
        ids=("root_id", "parent_id", "node_id"),
    ),
    _event(
        RUN_TAGGED, "A run was given tags", "为任务添加了标签", Nature.FACT, (), Origin.RECORDER
    ),
    _event(
        POLLS_SUPPRESSED,
        "Polls of a node were counted and not recorded, as POLL_SAMPLING asks for",
        "节点的部分轮询按 POLL_SAMPLING 仅计数、未记录",
        Nature.FACT,
        origin=Origin.RECORDER,
    ),
    _event(
        NODE_FAILURE_DETAIL,
        "Why a node failed, read from the engine's tables afterwards",
        "节点失败原因，事后从引擎数据表读取",
        Nature.FACT,
        ("root_pipeline_id", "node_id"),
        Origin.RECORDER,
    ),
    _event(
        GAP,
        "Records are known or suspected to be missing here",
        "此处已知或疑似缺失记录",
        Nature.FACT,
        (),
        Origin.RECORDER,
    ),
)

VOCABULARY: Final[dict[str, EventType]] = {
    event_type.name: event_type for event_type in (*ENGINE_EVENTS, *OTHER_EVENTS)
}
"""Every known type by name. A name that is not here is recorded like any other."""
