"""Run a server for as long as the process that started it lives, however that ends.

Started by ``audit.testing.postgres`` as ``python guard.py HOLDER UID GID COMMAND...``; it is a
process of its own because nothing else sees every end: a killed holder runs no more code, its
forked children keep its pipes open, and Linux tells of the end of the *thread* that forked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Any

LOOK_EVERY = 0.1
STOP_SECONDS = 30
_PR_SET_PDEATHSIG = 1


def main(holder: int, uid: int, gid: int, command: list[str]) -> int:
    """Run ``command`` until it ends, or until ``holder`` does: then it is interrupted."""
    as_user: dict[str, Any] = {}
    if uid != os.geteuid():
        as_user = {"user": uid, "group": gid, "extra_groups": []}
    if os.getppid() != holder:
        return 1  # it died before we were there
    server = subprocess.Popen(command, preexec_fn=_end_with_us(), **as_user)

    def pass_on(number: int, frame: FrameType | None) -> None:
        # PostgreSQL takes SIGTERM as "when the last client has gone".
        server.send_signal(signal.SIGINT if number == signal.SIGTERM else number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, pass_on)
    while os.getppid() == holder:
        if _ended(server, LOOK_EVERY):
            return server.returncode
    server.send_signal(signal.SIGINT)
    if not _ended(server, STOP_SECONDS):
        server.send_signal(signal.SIGQUIT)
    return server.wait()


def _ended(server: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_with_us() -> Any:
    """On Linux the server ends even if somebody kills this guard, which has one thread only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
