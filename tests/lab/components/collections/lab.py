"""Plugins that do what a test needs. Inputs steer them; STATE counts calls between attempts.

CALLS has every call in order, as (node id, method): what the engine really executed.
"""

from __future__ import annotations

import os
from collections import Counter

from pipeline.component_framework.component import Component
from pipeline.core.flow.activity import Service, StaticIntervalGenerator

STATE: Counter[str] = Counter()
CALLS: list[tuple[str, str]] = []


class Ok(Service):
    def execute(self, data, parent_data):
        CALLS.append((self.id, "execute"))
        return True

    def outputs_format(self):
        return []


class OkComponent(Component):
    name = "ok"
    code = "lab_ok"
    bound_service = Ok


class FailFirst(Service):
    """Fails as often as ``times`` says, by returning False, with an error text."""

    def execute(self, data, parent_data):
        CALLS.append((self.id, "execute"))
        key = f"fail:{self.id}"
        STATE[key] += 1
        if STATE[key] <= int(data.get_one_of_inputs("times") or 1):
            data.outputs.ex_data = "the host said no"
            return False
        return True


class FailFirstComponent(Component):
    name = "fail first"
    code = "lab_fail_first"
    bound_service = FailFirst


class Raise(Service):
    def execute(self, data, parent_data):
        CALLS.append((self.id, "execute"))
        raise ValueError("boom \udc80 in execute")


class RaiseComponent(Component):
    name = "raise"
    code = "lab_raise"
    bound_service = Raise


class Poll(Service):
    __need_schedule__ = True
    interval = StaticIntervalGenerator(int(os.environ.get("LAB_POLL_SECONDS", "5")))

    def execute(self, data, parent_data):
        CALLS.append((self.id, "execute"))
        return True

    def schedule(self, data, parent_data, callback_data=None):
        CALLS.append((self.id, "schedule"))
        key = f"poll:{self.id}"
        STATE[key] += 1
        mode = data.get_one_of_inputs("mode") or "ok"
        if STATE[key] >= int(data.get_one_of_inputs("times") or 3):
            if mode == "raise":
                raise ValueError("boom in schedule")
            if mode == "fail":
                return False
            self.finish_schedule()
        return True


class PollComponent(Component):
    name = "poll"
    code = "lab_poll"
    bound_service = Poll


class Callback(Service):
    __need_schedule__ = True

    def execute(self, data, parent_data):
        CALLS.append((self.id, "execute"))
        return True

    def schedule(self, data, parent_data, callback_data=None):
        CALLS.append((self.id, "schedule"))
        return not (callback_data or {}).get("fail")


class CallbackComponent(Component):
    name = "callback"
    code = "lab_callback"
    bound_service = Callback
