"""The flight recorder of bamboo-pipeline."""

from __future__ import annotations

from audit.capture.context import context

__all__ = ["__version__", "context"]

__version__ = "0.1.0"
