"""The world outside: data centres and services that releases touch. Make-believe.

``trouble`` says what is wrong where; the plugins fail on it until somebody mends it.
"""

from __future__ import annotations

trouble: dict[str, str] = {}
BATCHES = {"Shanghai": 2, "Frankfurt": 3, "Virginia": 1}
"""In how many batches the machines of a region are replaced."""


def problem_in(place: str) -> str:
    """What is wrong there; "" if nothing is."""
    return trouble.get(place, "")
