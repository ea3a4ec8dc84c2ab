"""The engine's states and its table of transitions, as bamboo-engine 3.0 has them.

Copied and not imported: what is recorded is shown where the engine is not installed. A test
compares the table with the engine's.
"""

from __future__ import annotations

from typing import Final

READY: Final = "READY"
LOOP_READY: Final = "LOOP_READY"
RUNNING: Final = "RUNNING"
SUSPENDED: Final = "SUSPENDED"
BLOCKED: Final = "BLOCKED"
FINISHED: Final = "FINISHED"
FAILED: Final = "FAILED"
REVOKED: Final = "REVOKED"
ROLLING_BACK: Final = "ROLLING_BACK"
ROLL_BACK_SUCCESS: Final = "ROLL_BACK_SUCCESS"
ROLL_BACK_FAILED: Final = "ROLL_BACK_FAILED"

ENDED: Final = frozenset({FINISHED, FAILED, REVOKED})
"""States in which nothing is under way."""

TABLE: Final[dict[str, frozenset[str]]] = {
    "": frozenset({RUNNING, READY, SUSPENDED}),
    READY: frozenset({RUNNING, SUSPENDED}),
    LOOP_READY: frozenset({RUNNING, SUSPENDED}),
    RUNNING: frozenset({FINISHED, FAILED, REVOKED, SUSPENDED, ROLLING_BACK}),
    SUSPENDED: frozenset({READY, REVOKED, RUNNING, ROLLING_BACK}),
    BLOCKED: frozenset(),
    FINISHED: frozenset({RUNNING, FAILED, ROLLING_BACK}),
    FAILED: frozenset({READY, FINISHED, LOOP_READY}),
    REVOKED: frozenset(),
    ROLLING_BACK: frozenset({ROLL_BACK_SUCCESS, ROLL_BACK_FAILED}),
    ROLL_BACK_SUCCESS: frozenset({READY, FINISHED}),
    ROLL_BACK_FAILED: frozenset({READY, FINISHED, ROLLING_BACK}),
}
"""From each state to those that the engine allows; from "" a node or run is born.

Others happen, and are irregular: the engine's check and its write are not one step.
"""
