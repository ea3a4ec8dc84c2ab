from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import audit
from audit import sql

HERE = Path(audit.__file__).parent
MODULES = sorted(path for path in HERE.rglob("*.py") if "migrations" not in path.parts)
INLINE = {"SELECT current_schema()"}
STATEMENT = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|TRUNCATE|GRANT|REVOKE|COPY|LOCK"
    r"|SET LOCAL|EXPLAIN|WITH)\s"
)


def test_every_query_has_a_name_and_a_sentence():
    text = "\n".join(sql.read(name) for name in sql.FILES)
    headers = re.findall(r"^-- (\S+) --\n((?:-- .*\n)+)", text, re.MULTILINE)
    assert [name for name, _ in headers] == list(sql.queries())
    assert len(headers) == text.count(" --\n"), "a name that the reader does not see"
    for name, comment in headers:
        assert re.fullmatch(r"[a-z_]+", name)
        sentence = " ".join(line.removeprefix("-- ") for line in comment.splitlines())
        assert re.match(r"[A-Z]", sentence), name
        assert sentence.endswith("."), name


@pytest.mark.parametrize("name", sql.queries())
def test_every_query_is_used(name):
    assert any(f'"{name}"' in path.read_text("utf-8") for path in MODULES)


@pytest.mark.parametrize("name", sql.queries())
def test_every_query_begins_with_a_statement(name):
    query = sql.queries()[name]
    body = "\n".join(line for line in query.splitlines() if not line.startswith("--"))
    assert STATEMENT.match(body)


def test_the_names_are_looked_up_once():
    assert sql.queries() is sql.queries()
    with pytest.raises(FileNotFoundError):
        sql.read("gone.sql")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HERE)))
def test_no_module_has_sql_of_its_own(path):
    tree = ast.parse(path.read_text("utf-8"))
    docstrings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    inline = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in docstrings
        and STATEMENT.match(node.value)
    ]
    assert set(inline) <= INLINE


def test_the_sql_files_are_shipped_with_the_package():
    names = {path.name for path in (HERE / "sql").glob("*.sql")}
    assert names == {
        "0001_log.sql",
        "0001_log_reverse.sql",
        "0002_writers.sql",
        "0002_writers_reverse.sql",
        "0003_timelines.sql",
        "0003_timelines_reverse.sql",
        "0004_set_aside.sql",
        "0004_set_aside_reverse.sql",
        "grants.sql",
        "queries.sql",
        "projections.sql",
        "rebuild.sql",
        "redelivery.sql",
        "timelines.sql",
    }
