"""A variable that cannot be computed at first: what makes a subprocess itself fail."""

from __future__ import annotations

from pipeline.core.data.var import LazyVariable

from lab.components.collections.lab import STATE


class FailFirstVariable(LazyVariable):
    """Raises as often as its value says: ``"name:2"`` raises twice."""

    code = "lab_fail_first"
    name = "fail first"

    def get_value(self):
        key = f"variable:{self.value}"
        STATE[key] += 1
        if STATE[key] <= int(str(self.value).rpartition(":")[2]):
            raise ValueError("the variable cannot be computed yet")
        return "computed"
