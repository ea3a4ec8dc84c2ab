"""A folder as the broker. Kombu's own lets a worker take a message that is not written yet."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps

NAME = "wholefiles"


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder, message = Path(self.data_folder_out), str(uuid.uuid4())
        unfinished = folder / message
        unfinished.write_text(dumps(payload), "utf-8")
        os.replace(unfinished, folder / f"{time.monotonic_ns():020}_{message}.{queue}.msg")


class Transport(filesystem.Transport):
    Channel = Channel


TRANSPORT_ALIASES[NAME] = f"{__name__}:Transport"


def settings(folder: Path) -> dict[str, Any]:
    """Celery's settings for a broker in this folder, which is made."""
    for name in ("queue", "control", "results"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "broker_url": f"{NAME}://",
        "broker_transport_options": {
            "data_folder_in": str(folder / "queue"),
            "data_folder_out": str(folder / "queue"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.02,
        },
        "result_backend": f"file://{folder / 'results'}",
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "task_acks_late": False,
        "broker_connection_retry_on_startup": True,
    }
