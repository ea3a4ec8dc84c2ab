"""Take the pictures in docs/images from the running demo: ``tox -e pictures``.

Needs Chromium (Debian: ``apt-get install chromium``, and ``fonts-noto-cjk`` for Chinese).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
PORT = 8765
ADMIN = f"http://127.0.0.1:{PORT}/admin/"
RECORDS = f"{ADMIN}bamboo_audit/pipelineeventrecord/"
RUNS = f"{ADMIN}bamboo_audit/pipelinetimeline/"


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed. On Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as data:
        Path(data).chmod(0o755)
        demo = subprocess.Popen(
            [sys.executable, "-u", ROOT / "demo/manage.py", "demo", "--port", str(PORT)],
            env={**os.environ, "DEMO_DATA": str(Path(data) / "data")},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            user, password = _login(demo)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                _take(page, user, password)
                browser.close()
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait()


def _login(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait until the demo serves; answers the login that it printed."""
    assert demo.stdout is not None
    printed = ""
    for line in demo.stdout:
        printed += line
        found = re.search(r"Log in +(\S+), password (\S+)", printed)
        if found and "Ctrl-C" in printed:
            return found[1], found[2]
    sys.exit(f"The demo ended without a login:\n{printed}")


def _take(page: Page, user: str, password: str) -> None:
    page.goto(f"{ADMIN}login/")
    page.fill("#id_username", user)
    page.fill("#id_password", password)
    page.click("[type=submit]")
    page.goto(RECORDS)
    page.evaluate(
        "sessionStorage.clear(); localStorage.setItem('django.admin.navSidebarIsOpen', 'false')"
    )
    page.goto(RECORDS)
    page.screenshot(path=IMAGES / "records.png")
    page.goto(f"{RECORDS}?event_type=pre_retry_node")
    page.click("#result_list .field-time a, #result_list th a")
    page.wait_for_selector(".audit-data")
    page.screenshot(path=IMAGES / "record.png")
    page.goto(RUNS)
    page.screenshot(path=IMAGES / "runs.png")


if __name__ == "__main__":
    main()
