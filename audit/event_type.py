"""What the vocabulary says of an event type."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Nature(enum.Enum):
    """What an event says about the world."""

    ATTEMPT = "attempt"
    """Something was asked for; the engine may still refuse it (pre_ without post_)."""
    FACT = "fact"
    """Something has happened."""
    PHASE = "phase"
    """A node passed a point of its execution; no statement about its state."""


class Origin(enum.Enum):
    """Who sends it."""

    CALLER = "caller"
    """The engine, in the process of whoever called its API."""
    WORKER = "worker"
    """The engine, in a Celery worker."""
    RECORDER = "recorder"
    """bamboo-audit itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One event type: ``name`` as stored, meanings, and the id keys of its data."""

    name: str
    meaning: str
    meaning_zh: str
    ids: tuple[str, ...]
    nature: Nature
    origin: Origin
    intervention: bool = False
    """True for what a person does to a run or node."""
