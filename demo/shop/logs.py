"""Logging of the demo: the engine talks a lot, and the terminal is for the reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def to_file(path: Path) -> dict[str, Any]:
    """For Django's ``LOGGING``: everything to ``path``; only what calls for action is shown."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "file": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"},
            "terminal": {"format": "{levelname}: {message}", "style": "{"},
        },
        "handlers": {
            "file": {
                "class": "logging.handlers.RotatingFileHandler",
                "filename": str(path) if _can_write(path) else os.devnull,
                "maxBytes": 2_000_000,
                "backupCount": 1,
                "encoding": "utf-8",
                "delay": True,
                "formatter": "file",
            },
            "terminal": {"class": "logging.StreamHandler", "formatter": "terminal"},
        },
        "root": {"handlers": ["file"], "level": "INFO"},
        "loggers": {
            "audit": {"handlers": ["terminal"], "level": "WARNING"},
            # Replaces Django's own handlers: request lines go to the file as well.
            "django": {"handlers": [], "level": "INFO"},
            "django.request": {"handlers": ["terminal"], "level": "ERROR"},
            "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        },
    }


def _can_write(path: Path) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError:
        return False
    return True
