"""The flight recorder of bamboo-pipeline."""

from __future__ import annotations

from audit.capture.context import context
from audit.tagging import tag

__all__ = ["__version__", "context", "tag"]

__version__ = "0.1.0"
