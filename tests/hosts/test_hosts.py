"""bamboo-audit in host projects: their checks, their migrations, their own test suites.

``shop/`` is a Django project with an app that is labelled ``audit``. Its tests are run by
Django's own runner, in processes of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import django
import pytest

import audit
from audit.testing.postgres import ensure

SHOP = Path(__file__).with_name("shop")
HAS_ENGINE = find_spec("pipeline") is not None
GOOD = ["one_database", "log_apart", "no_postgres"]

both = pytest.mark.parametrize(
    "engine",
    [
        False,
        pytest.param(
            True,
            marks=[
                pytest.mark.engine,
                pytest.mark.skipif(not HAS_ENGINE, reason="no bamboo-pipeline"),
            ],
        ),
    ],
    ids=["without-engine", "with-engine"],
)


def manage(settings: str, *words: str, engine: bool, database: str = "unused"):
    """``manage.py`` of the shop, in a process of its own."""
    strict = [] if engine else ["-W", "error"]
    here = Path(audit.__file__).parents[1], Path(django.__file__).parents[1]
    return subprocess.run(
        [sys.executable, *strict, "-m", "django", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=SHOP,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, [SHOP, *here])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": f"shop.configs.{settings}",
            "DATABASE_URL": ensure(durable=False),
            "SHOP_TEST_DATABASE": database,
            "WITH_ENGINE": "1" if engine else "0",
        },
    )


@both
@pytest.mark.parametrize("settings", GOOD)
def test_the_hosts_own_suite_passes(settings, engine):
    parallel = ["--parallel", "2"] if settings == "one_database" else []
    database = f"shop_{settings}_{'engine' if engine else 'alone'}_{os.getpid()}"
    suites = ["shop.audit", *(["shop.work"] if engine else [])]
    ran = manage(
        settings, "test", "--noinput", *suites, *parallel, engine=engine, database=database
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    (tests,) = re.findall(r"^Ran (\d+) tests", ran.stderr, re.MULTILINE)
    assert int(tests) == 13 + (7 if engine else 0)
    skipped = re.findall(r"^OK(?: \(skipped=(\d+)\))?$", ran.stderr, re.MULTILINE)
    assert skipped == ["" if settings != "no_postgres" else str(5 + (3 if engine else 0))]
    # Django keeps a test off a database that it does not name. The recorder tells it once a
    # minute, in the words of Django, which say what to do; the run goes on.
    forbidden = settings == "log_apart" and engine
    assert (ran.stdout + ran.stderr).count("Traceback") == (1 if forbidden else 0)
    assert ("Add 'audit' to shop.work.tests" in ran.stderr) == forbidden
    assert "Warning" not in ran.stderr or engine, ran.stderr


@pytest.mark.parametrize("settings", GOOD)
def test_data_of_migrations_comes_back_after_a_flush(settings):
    # Without the engine: it has a model without a table, which Django fails to serialize.
    database = f"shop_serialized_{settings}_{os.getpid()}"
    ran = manage(
        settings, "test", "--noinput", "shop.audit.serialized", engine=False, database=database
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^Ran 2 tests.*^OK$", ran.stderr, re.MULTILINE | re.DOTALL)


@both
@pytest.mark.parametrize("settings", GOOD)
def test_the_hosts_set_up_has_no_mistakes(settings, engine):
    ran = manage(settings, "check", engine=engine)

    assert ran.returncode == 0, ran.stderr
    mistakes = re.findall(r"bamboo_audit\.[EW]\d+", ran.stdout + ran.stderr)
    # Where the engine is installed and not used, a host is told that nothing is recorded.
    idle = HAS_ENGINE and not engine and settings != "no_postgres"
    assert mistakes == (["bamboo_audit.W001"] if idle else [])


@both
def test_a_host_without_postgresql_is_told_what_to_do(engine):
    ran = manage("forgotten", "check", engine=engine)

    assert ran.returncode == 1
    assert "(bamboo_audit.E005) The log is to be in database 'default', which is sqlite" in (
        ran.stderr
    )
    assert "or set BAMBOO_AUDIT['DELIVERY'] = \"off\" where there is none" in ran.stderr
    assert "Traceback" not in ran.stderr


@both
@pytest.mark.parametrize("settings", GOOD)
def test_nobodys_migrations_are_mixed_up(settings, engine):
    plan = manage(settings, "showmigrations", "audit", "bamboo_audit", engine=engine)
    assert re.findall(r"^(\w+)\n \[.\] (\w+)$", plan.stdout, re.MULTILINE) == [
        ("audit", "0001_entry"),
        ("bamboo_audit", "0001_log"),
    ], plan.stderr

    made = manage(
        settings, "makemigrations", "audit", "bamboo_audit", "--check", "--dry-run", engine=engine
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "No changes detected" in made.stdout
