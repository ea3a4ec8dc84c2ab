"""A small host project with an app that is labelled ``audit`` like ours is named.

Its own tests are Django's kind and know nothing of bamboo-audit, but for ``tests_recorder.py``.
"""

from __future__ import annotations
