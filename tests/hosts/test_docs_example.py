"""The example that the docs have for a host's own tests, as it is printed there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/test.md"


@pytest.mark.engine
def test_the_example_of_a_hosts_test_passes(tmp_path):
    pytest.importorskip("pipeline")
    blocks = re.findall(
        r'^```python title="(\S+)"\n(.*?)^```', PAGE.read_text("utf-8"), re.M | re.S
    )
    assert [name for name, _ in blocks] == ["settings.py", "test_release.py"]
    for name, text in blocks:
        (tmp_path / name).write_text(text, "utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--ds=settings", "-o", "pythonpath=.", "--rootdir=."],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 1 passed" in ran.stdout
