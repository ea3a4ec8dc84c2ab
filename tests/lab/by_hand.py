"""A run's records, written by hand."""

from __future__ import annotations

from typing import Any

from audit.fold import Record, RunTimeline, fold
from audit.fold.run import ENGINE_SENDER

WEB, WORKER = "web", "worker"
TREE = {
    "id": "run",
    "name": "Release",
    "start_event": {"id": "start", "type": "EmptyStartEvent"},
    "end_event": {"id": "end", "type": "EmptyEndEvent"},
    "activities": {
        "a": {"id": "a", "type": "ServiceActivity", "name": "A", "component": {"code": "deploy"}},
        "sub": {
            "id": "sub",
            "type": "SubProcess",
            "pipeline": {
                "id": "sub",
                "start_event": {"id": "sub/start", "type": "EmptyStartEvent"},
                "end_event": {"id": "sub/end", "type": "EmptyEndEvent"},
                "activities": {"b": {"id": "b", "type": "ServiceActivity", "name": "B"}},
            },
        },
    },
}


class Records:
    """Each a millisecond after the one before."""

    def __init__(self) -> None:
        self.all: list[Record] = []

    def add(
        self,
        event_type: str,
        node_id: str = "",
        /,
        *,
        by: str = WORKER,
        pipeline_id: str = "",
        version: str = "",
        context: dict[str, Any] | None = None,
        **data: Any,
    ) -> Record:
        number = len(self.all) + 1
        found = Record(
            *(number, number * 1_000, by, number, event_type, pipeline_id, node_id, version),
            data,
            context or {},
        )
        self.all.append(found)
        return found

    def start(self, tags: dict[str, Any] | None = None) -> None:
        """A run begins."""
        self.add("pre_prepare_run_pipeline", by=WEB, pipeline=TREE, context={"tags": tags or {}})
        self.state("run", "RUNNING", "r1", by=WEB)
        self.add("post_prepare_run_pipeline", by=WEB, pipeline=TREE)

    def state(
        self,
        node_id: str,
        state: str,
        version: str = "v1",
        loop: int = -1,
        *,
        by: str = WORKER,
        sender: str | None = ENGINE_SENDER,
    ) -> Record:
        data = {"to_state": state, "loop": loop, "root_id": "run"}
        context = {"sender": sender}
        return self.add("post_set_state", node_id, by=by, version=version, context=context, **data)

    def runs(self, node_id: str = "a", version: str = "v1", loop: int = 1) -> None:
        """An activity begins to execute."""
        self.state(node_id, "RUNNING", version, loop)
        self.add("node_enter", node_id)
        self.add("pre_execute", node_id)

    def fold(self) -> RunTimeline:
        found = fold("run", self.all)
        assert found is not None
        return found
