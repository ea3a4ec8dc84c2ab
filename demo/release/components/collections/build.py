"""Plugins that make and test what will be released."""
# mypy: allow-subclassing-any

from __future__ import annotations

from typing import Any

from pipeline.component_framework.component import Component
from pipeline.core.flow.activity import Service


class BuildImage(Service):
    """Puts the address of the new image into its outputs, for the nodes that deploy it."""

    def execute(self, data: Any, parent_data: Any) -> bool:
        release = parent_data.get_one_of_inputs("release")
        data.outputs.image = f"registry.shop.example/web:{release}"
        return True


class BuildImageComponent(Component):
    name = "Build image"
    code = "release_build_image"
    bound_service = BuildImage


class RunTests(Service):
    def execute(self, data: Any, parent_data: Any) -> bool:
        data.outputs.passed = 1432
        return True


class RunTestsComponent(Component):
    name = "Run tests"
    code = "release_run_tests"
    bound_service = RunTests
