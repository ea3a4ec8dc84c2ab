"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import audit
from audit import checks, conf, exceptions
from audit.events import VOCABULARY

HERE = Path(audit.__file__).parent
MODULES = sorted(path for path in HERE.rglob("*.py") if "migrations" not in path.parts)
REFERENCE = Path(__file__).resolve().parents[1] / "docs/reference"
MOST_LINES = 300

CHECKS = sorted(set(re.findall(r"[EWI]\d{3}\b", Path(checks.__file__).read_text("utf-8"))))
COMMANDS = sorted(path.stem for path in (HERE / "management/commands").glob("audit_*.py"))
ERRORS = sorted(
    name
    for name, value in vars(exceptions).items()
    if isinstance(value, type) and issubclass(value, exceptions.AuditError)
)
PUBLIC = [
    *conf.OPTIONS,
    conf.SETTING,
    conf.ENABLED_VARIABLE,
    *VOCABULARY,
    *(f"bamboo_audit.{check}" for check in CHECKS),
    *COMMANDS,
    *ERRORS,
]


@pytest.fixture(scope="module")
def reference() -> str:
    if not REFERENCE.exists():
        pytest.skip("the documentation is not here")
    return "\n".join(path.read_text("utf-8") for path in REFERENCE.glob("*.md"))


@pytest.mark.parametrize("name", PUBLIC)
def test_what_users_see_is_in_the_reference(reference, name):
    assert re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", reference)


def test_the_reference_names_no_check_that_is_gone(reference):
    named = set(re.findall(r"bamboo_audit\.([EWI]\d{3})", reference))
    assert named == set(CHECKS)


def test_there_is_something_to_name():
    assert len(CHECKS) >= 18
    assert len(COMMANDS) >= 3
    assert len(ERRORS) >= 6


def test_every_command_helps():
    for command in COMMANDS:
        source = (HERE / f"management/commands/{command}.py").read_text("utf-8")
        assert re.search(r'^    help = "[A-Z].*[.?]"$', source, re.MULTILINE), command


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HERE)))
def test_no_module_is_too_long_to_be_read_at_once(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HERE)))
def test_every_module_says_what_it_is(path):
    source = path.read_text("utf-8")
    if not source.strip():
        return
    commands = path.parent.name == "commands"  # those have their help instead
    assert ast.get_docstring(ast.parse(source)) or commands


def test_only_conf_reads_djangos_settings():
    readers = [path.name for path in MODULES if "import settings" in path.read_text("utf-8")]
    assert readers == ["conf.py"]


def test_importing_the_package_needs_no_django_setup():
    assert re.fullmatch(r"\d+\.\d+\.\d+", audit.__version__)
    assert audit.__all__ == ["__version__", "context", "tag"]
