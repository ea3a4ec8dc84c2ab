"""Celery without a broker: the engine's tasks wait on a heap until ``heap.pump()`` runs them.

A real project has ``Celery("shop")``, a broker and workers; nothing else in the demo would change.
"""

from __future__ import annotations

from celery import Celery

from audit.testing.executor import InlineTask

app = Celery("shop", task_cls=InlineTask)
app.set_default()
