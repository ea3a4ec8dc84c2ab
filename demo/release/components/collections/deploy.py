"""Plugins that change what is running."""
# mypy: allow-subclassing-any

from __future__ import annotations

from typing import Any

from pipeline.component_framework.component import Component
from pipeline.core.flow.activity import Service, StaticIntervalGenerator

from release import estate


class Deploy(Service):
    """Replaces all machines of a place at once; says no where something is wrong there."""

    def execute(self, data: Any, parent_data: Any) -> bool:
        if problem := estate.problem_in(data.get_one_of_inputs("place")):
            data.outputs.ex_data = problem
            return False
        return True


class DeployComponent(Component):
    name = "Deploy"
    code = "release_deploy"
    bound_service = Deploy


class RollOut(Service):
    """Replaces the machines of a region batch by batch, and asks every five seconds."""

    __need_schedule__ = True
    interval = StaticIntervalGenerator(5)

    def execute(self, data: Any, parent_data: Any) -> bool:
        data.outputs.batches_left = estate.BATCHES[data.get_one_of_inputs("region")]
        return True

    def schedule(self, data: Any, parent_data: Any, callback_data: Any = None) -> bool:
        data.outputs.batches_left -= 1
        if data.outputs.batches_left == 0:
            self.finish_schedule()
        return True


class RollOutComponent(Component):
    name = "Roll out"
    code = "release_roll_out"
    bound_service = RollOut


class WarmCache(Service):
    """Raises where the cache does not answer: the engine sends the traceback with the event."""

    def execute(self, data: Any, parent_data: Any) -> bool:
        if problem := estate.problem_in("cache"):
            raise ConnectionError(problem)
        return True


class WarmCacheComponent(Component):
    name = "Warm the cache"
    code = "release_warm_cache"
    bound_service = WarmCache
