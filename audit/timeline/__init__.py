"""One run, straight from the log: ``audit.timeline.load(id, at=None)``."""

from __future__ import annotations

from audit.timeline.loading import find_root, load
from audit.timeline.timeline import Diff, NodeChange, Timeline, aware

__all__ = ["Diff", "NodeChange", "Timeline", "aware", "find_root", "load"]
