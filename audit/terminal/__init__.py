"""A run's timeline for a terminal."""

from __future__ import annotations

from audit.terminal.show import show

__all__ = ["show"]
