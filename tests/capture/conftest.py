from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def in_child() -> Callable[[Callable[[], Any]], Any]:
    """Run a function in a forked child; answers what it answered. One that hangs is killed."""

    def run(function: Callable[[], Any]) -> Any:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            # Newer Pythons warn of forking beside threads: that is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            try:
                os.write(writer, json.dumps(function()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            text = answer.read()
        _, status = os.waitpid(pid, 0)
        assert not os.WIFSIGNALED(status), "the child hung, and was killed"
        assert text, "the child raised"
        return json.loads(text)

    return run


@pytest.fixture
def held() -> Any:
    """Have another thread hold a lock until the test ends."""
    let_go = threading.Event()
    threads = []

    def hold(lock: Any) -> None:
        has_it = threading.Event()

        def keep() -> None:
            with lock:
                has_it.set()
                let_go.wait(30)

        thread = threading.Thread(target=keep)
        thread.start()
        threads.append(thread)
        assert has_it.wait(10)

    yield hold
    let_go.set()
    for thread in threads:
        thread.join()
