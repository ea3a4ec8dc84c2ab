from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from lab import ordinary


class Command(BaseCommand):
    help = "Send a hundred events."

    def handle(self, **_: Any) -> None:
        ordinary.emit(100)
