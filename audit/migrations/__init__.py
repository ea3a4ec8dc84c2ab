"""In a checkout the migration files live in the top-level ``migrations/`` folder."""

from __future__ import annotations

from pathlib import Path

# Exactly one entry: ``makemigrations`` writes to the first one. Wheels do not
# ship this file; they hold the real folder as ``audit/migrations``.
__path__ = [str(Path(__file__).resolve().parents[2] / "migrations")]
