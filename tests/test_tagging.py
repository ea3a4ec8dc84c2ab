"""``audit.tag``: what it refuses, and what keeps it from being recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import audit
from audit.capture.failures import failures
from audit.log import append
from audit.models import PipelineEventRecord

uses_database = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def configure(settings):
    before = getattr(settings, "BAMBOO_AUDIT", {})

    def change(**keys):
        settings.BAMBOO_AUDIT = {**before, **keys}

    return change


@pytest.mark.parametrize("root_id", [None, 5, b"run", ["run"]])
def test_an_id_that_is_no_text_is_the_callers_mistake(root_id):
    with pytest.raises(TypeError, match="must be the id of a run as text"):
        audit.tag(root_id, ticket=7)


def test_no_id_and_no_tags_are_the_callers_mistakes():
    with pytest.raises(ValueError, match="empty"):
        audit.tag("", ticket=7)
    with pytest.raises(ValueError, match="no tags"):
        audit.tag("run")


@uses_database
def test_a_tag_may_have_any_name():
    audit.tag("run-named", root_id=1, self=2)
    (tagged,) = PipelineEventRecord.objects.for_run("run-named")
    assert tagged.data == {"tags": {"root_id": 1, "self": 2}}


@uses_database
def test_a_log_that_fails_is_not_the_callers_mistake(monkeypatch):
    def fail(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr(append, "_insert", fail)
    audit.tag("run", ticket=7)
    assert failures.summary().by_reason == {"RuntimeError": 1}
    assert failures.summary().last_event_type == "run_tagged"


@uses_database
@pytest.mark.parametrize(
    ("keys", "missed"),
    [({"ENABLED": False}, 1), ({"DELIVERY": "off"}, 0), ({"EXCLUDE_EVENTS": ["run_tagged"]}, 0)],
    ids=str,
)
def test_settings_hold_for_tags_too(configure, keys, missed):
    configure(**keys)
    audit.tag("run-not-recorded", ticket=7)
    assert not PipelineEventRecord.objects.for_run("run-not-recorded").exists()
    assert failures.summary().total == missed


def test_importing_needs_no_settings():
    root = Path(audit.__file__).parents[1]
    program = "import audit; audit.context(actor='x').__enter__(); print(audit.tag.__name__)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=root,
        env={"PYTHONPATH": str(root)},
    )
    assert (done.stdout, done.stderr) == ("tag\n", "")
