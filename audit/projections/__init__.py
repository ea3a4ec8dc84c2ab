"""Projections: what is made of the log, with a checkpoint, and can be made again."""

from __future__ import annotations
