from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.db import DEFAULT_DB_ALIAS, connections, router

from audit import conf
from audit.models import PipelineEventRecord
from audit.routers import APP_LABEL, AuditRouter

routes = AuditRouter()


@pytest.fixture(params=["default", "audit", "elsewhere"])
def home(request, settings):
    """The log's database; that of the settings is put back afterwards."""
    settings.BAMBOO_AUDIT = {"DATABASE": request.param}
    return request.param


def test_reads_and_writes_of_the_log_go_home_and_no_others(home):
    for ask in (routes.db_for_read, routes.db_for_write):
        assert ask(PipelineEventRecord) == home
        assert ask(PipelineEventRecord, instance=None, future_hint=1) == home
        assert ask(User) is None


# (the database asked about, the log's database, the app) and whether it may migrate there.
MIGRATIONS = {
    ("default", "default", APP_LABEL): True,
    ("default", "default", "auth"): None,
    ("other", "default", APP_LABEL): False,
    ("other", "default", "auth"): None,
    ("default", "audit", APP_LABEL): False,
    ("default", "audit", "auth"): None,
    ("audit", "audit", APP_LABEL): True,
    ("audit", "audit", "auth"): False,
    ("audit", "audit", "pipeline"): False,
    ("other", "audit", APP_LABEL): False,
    ("other", "audit", "auth"): None,
}


@pytest.mark.parametrize(("asked", "may"), MIGRATIONS.items())
def test_who_may_migrate_where(settings, asked, may):
    db, log, app_label = asked
    settings.BAMBOO_AUDIT = {"DATABASE": log}
    assert routes.allow_migrate(db, app_label) is may
    assert routes.allow_migrate(db, app_label, model_name="x", future_hint=1) is may


def test_a_change_of_the_database_takes_effect_at_once(settings):
    for name in ("audit", "default", "audit"):
        settings.BAMBOO_AUDIT = {"DATABASE": name}
        assert routes.db_for_read(PipelineEventRecord) == name


def test_nothing_of_ours_relates_to_anything_of_others():
    ours, theirs = PipelineEventRecord(), User()
    assert routes.allow_relation(ours, ours) is True
    assert routes.allow_relation(ours, theirs) is False
    assert routes.allow_relation(theirs, ours) is False
    assert routes.allow_relation(theirs, Permission()) is None


def test_djangos_own_answer_in_these_settings():
    log = conf.get("DATABASE")
    assert (
        router.db_for_read(PipelineEventRecord) == router.db_for_write(PipelineEventRecord) == log
    )
    assert router.db_for_write(User) == DEFAULT_DB_ALIAS
    for alias in connections.databases:
        assert router.allow_migrate_model(alias, PipelineEventRecord) is (alias == log)
        assert router.allow_migrate_model(alias, User) is (alias == DEFAULT_DB_ALIAS)
