"""What commands show: a run's timeline, and how far something long is."""

from __future__ import annotations

from audit.terminal.progress import Progress
from audit.terminal.show import show

__all__ = ["Progress", "show"]
