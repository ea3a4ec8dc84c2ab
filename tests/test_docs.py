from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GENERATE = runpy.run_path(str(ROOT / "docs/generate.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", GENERATE["PAGES"])
def test_pages_that_come_from_the_code_are_up_to_date(name):
    expected = GENERATE["NOTE"] + GENERATE["PAGES"][name]()
    assert (ROOT / "docs" / name).read_text("utf-8") == expected, "run: python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith("http") and not (page.parent / link).resolve().exists()
    ]
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readme_begins_with_the_two_commands(name):
    blocks = re.findall(r"```sh\n(.*?)\n```", (ROOT / name).read_text("utf-8"), re.DOTALL)
    start = "python3.11 -m venv .venv && .venv/bin/pip install "
    assert blocks[:2] == [
        start + '-e ".[demo]" && .venv/bin/python demo/manage.py demo',
        start + "tox && .venv/bin/tox",
    ]
