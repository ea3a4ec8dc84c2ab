from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from importlib.util import find_spec
from io import StringIO
from typing import Any

import pytest
from django.core import checks as django_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from audit import checks, conf, partitions, receivers
from audit.log import ddl
from audit.routers import AuditRouter

HAS_ENGINE = find_spec("pipeline") is not None
TABLE = "bamboo_audit_pipelineeventrecord"
AUDIT_ROUTER = "audit.routers.AuditRouter"
needs_engine = pytest.mark.skipif(not HAS_ENGINE, reason="bamboo-pipeline is not installed")

uses_database = pytest.mark.django_db(databases="__all__")


def by_id(messages: list[Any]) -> dict[str, Any]:
    """Our messages, by id without the prefix."""
    prefix = "bamboo_audit."
    return {one.id.removeprefix(prefix): one for one in messages if one.id.startswith(prefix)}


def found() -> dict[str, Any]:
    """What can be known without asking a database."""
    return by_id(checks.check_configuration())


def found_in_log() -> dict[str, Any]:
    return by_id(checks.check_log(databases=[conf.get("DATABASE")]))


def found_by_django(alias: str) -> dict[str, Any]:
    return by_id(django_checks.run_checks(databases=[alias]))


@pytest.fixture
def configure(settings):
    """Change some keys of ``BAMBOO_AUDIT``."""
    before = getattr(settings, "BAMBOO_AUDIT", {})

    def change(**keys: Any) -> None:
        settings.BAMBOO_AUDIT = {**before, **keys}

    return change


@pytest.fixture
def add_database(monkeypatch):
    """Another entry in ``DATABASES``, a copy of the log's with changes."""
    added = []

    def add(alias: str, **changes: Any) -> None:
        entry = {**connections.databases[conf.get("DATABASE")], **changes}
        monkeypatch.setitem(connections.databases, alias, entry)
        added.append(alias)

    yield add
    for alias in added:
        connections[alias].close()
        del connections[alias]


@pytest.fixture
def may_connect_anywhere(django_db_setup, django_db_blocker):
    """Django's tests refuse connections to databases that were added meanwhile."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def own_database(settings, configure, add_database):
    """The log in a database of its own, as it should be: nothing to complain about."""
    add_database("log", OPTIONS={"connect_timeout": 3})
    configure(DATABASE="log")
    settings.DATABASE_ROUTERS = [AUDIT_ROUTER]


class Greedy:
    """A router that answers for every model."""

    def db_for_read(self, model: Any, **_: Any) -> str:
        return "default"

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool:
        return True


class OurMigrationsAnywhere(AuditRouter):
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return True if app_label == "bamboo_audit" else super().allow_migrate(db, app_label)


class OtherMigrationsAnywhere(AuditRouter):
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return super().allow_migrate(db, app_label) if app_label == "bamboo_audit" else None


# The healthy set-up.


@uses_database
def test_a_healthy_set_up_is_silent():
    out, err = StringIO(), StringIO()
    call_command("check", databases=[conf.get("DATABASE")], stdout=out, stderr=err)

    assert err.getvalue() == "" if HAS_ENGINE else "I001" in err.getvalue()
    assert found_by_django(conf.get("DATABASE")).keys() == (set() if HAS_ENGINE else {"I001"})
    if HAS_ENGINE:
        assert out.getvalue() == "System check identified no issues (0 silenced).\n"


def test_a_log_in_a_database_of_its_own_is_silent(may_connect_anywhere, own_database):
    assert found_by_django("log").keys() == (set() if HAS_ENGINE else {"I001"})


@uses_database
def test_the_database_is_asked_only_where_that_is_wanted(django_assert_num_queries):
    with django_assert_num_queries(0, connection=connections[conf.get("DATABASE")]):
        call_command("check", stdout=StringIO(), stderr=StringIO())
        assert checks.check_log() == []
        assert checks.check_log(databases=["default"] * (conf.get("DATABASE") != "default")) == []


# Each message, provoked.


def test_e001_not_a_dict(settings):
    settings.BAMBOO_AUDIT = ["audit"]
    assert "BAMBOO_AUDIT is a list" in found()["E001"].msg


def test_e002_unknown_key(configure):
    configure(database="audit")
    assert found()["E002"].hint == 'Did you mean "DATABASE"?'


def test_e003_wrong_value(configure):
    configure(INLINE_TIMEOUT="2")
    assert "0.01 to 60" in found()["E003"].hint


def test_e004_no_such_database(configure):
    configure(DATABASE="gone")
    assert "default" in found()["E004"].hint
    assert found_in_log() == {}


def test_e005_not_postgresql(configure, add_database):
    add_database("lite", ENGINE="django.db.backends.sqlite3", NAME=":memory:", OPTIONS={})
    configure(DATABASE="lite")
    assert "which is sqlite" in found()["E005"].msg
    assert found_in_log() == {}


def test_e010_nobody_commits(configure, add_database):
    add_database("log", OPTIONS={"connect_timeout": 3}, AUTOCOMMIT=False)
    configure(DATABASE="log")
    assert "nobody would commit" in found()["E010"].msg


def test_e011_a_projection_is_none(configure):
    configure(PROJECTIONS=["audit.no.such.Thing"])
    assert "which cannot be imported" in found()["E011"].msg
    assert found()["E011"].hint == "See docs/how-to/projections.md"


def test_e006_another_router_answers_first(settings, own_database):
    settings.DATABASE_ROUTERS = [Greedy(), AUDIT_ROUTER]
    assert {"E006", "E007", "W004"} <= found().keys()
    assert found()["E006"].hint.startswith('Put "audit.routers.AuditRouter" first')

    settings.DATABASE_ROUTERS = [AUDIT_ROUTER, Greedy()]
    assert not {"E006", "E007", "W004"} & found().keys()


def test_e006_tells_reads_and_writes_apart(settings, own_database):
    class ReadsFromReplica:
        def db_for_read(self, model: Any, **_: Any) -> str:
            return "default"

    settings.DATABASE_ROUTERS = [ReadsFromReplica(), AUDIT_ROUTER]
    (message,) = [one for one in checks.check_configuration() if one.id == "bamboo_audit.E006"]
    assert "send reads of the log to database 'default'" in message.msg


def test_e006_no_router_at_all(settings, own_database):
    settings.DATABASE_ROUTERS = []
    assert {"E006", "E007", "W004"} <= found().keys()


def test_e007_our_migrations_anywhere(settings, own_database):
    settings.DATABASE_ROUTERS = [OurMigrationsAnywhere()]
    message = found().pop("E007")
    assert "wrong for: " in message.msg
    assert "default" in message.msg
    assert "log" not in re.search(r"wrong for: (.*)\)", message.msg)[1]
    assert not {"E006", "W004"} & found().keys()


def test_w004_other_migrations_in_the_logs_database(settings, own_database):
    settings.DATABASE_ROUTERS = [OtherMigrationsAnywhere()]
    assert "'log'" in found()["W004"].msg
    assert not {"E006", "E007"} & found().keys()


@pytest.mark.parametrize("key", ["EXCLUDE_EVENTS", "REQUIRE_REASON"])
def test_w016_an_event_type_with_a_slip_of_the_pen(configure, key):
    configure(**{key: ["pre_skip_node", "pre_skip_nodes"]})
    message = found()["W016"]
    assert f"'{key}'] names the event type 'pre_skip_nodes'" in message.msg
    assert message.hint.startswith('Did you mean "pre_skip_node"?')
    configure(**{key: ["pre_skip_node"]})
    assert "W016" not in found()


@needs_engine
def test_w005_no_connect_timeout(own_database, add_database):
    add_database("log", OPTIONS={})
    assert "connect_timeout" in found()["W005"].hint


@pytest.mark.skipif(HAS_ENGINE, reason="bamboo-pipeline is installed")
def test_w005_is_not_for_a_process_that_records_nothing(own_database, add_database):
    add_database("log", OPTIONS={})
    assert found().keys() == {"I001"}


@needs_engine
def test_e008_signals_are_off(monkeypatch):
    engine_settings = importlib.import_module("pipeline.conf.default_settings")
    monkeypatch.setattr(engine_settings, "ENABLE_PIPELINE_EVENT_SIGNALS", False)
    assert "restart every process" in found()["E008"].hint


@needs_engine
@pytest.mark.parametrize("uid", [receivers.EVENT_UID, receivers.STATE_UID])
def test_e009_our_receiver_is_not_connected(monkeypatch, uid):
    signal = receivers.signals()[uid]
    monkeypatch.setattr(signal, "receivers", list(signal.receivers))
    assert signal.disconnect(dispatch_uid=uid)

    assert uid.removeprefix("bamboo_audit.") in found()["E009"].msg
    receivers.connect()
    assert "E009" not in found()


@needs_engine
@pytest.mark.parametrize("uid", [receivers.EVENT_UID, receivers.STATE_UID])
def test_w002_others_are_called_before_ours(monkeypatch, uid):
    def other(**_: Any) -> None:
        pass

    signal = receivers.signals()[uid]
    monkeypatch.setattr(signal, "receivers", list(signal.receivers))
    signal.connect(other)
    assert "W002" not in found(), "after ours, it does no harm"
    signal.receivers.insert(0, signal.receivers.pop())
    assert found()["W002"].msg.startswith(f"1 other receiver(s) of {uid[13:]} are called before")


@needs_engine
def test_w001_the_engine_is_not_in_installed_apps():
    # In a process of its own: the engine's apps cannot be loaded twice in one.
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            "import django; django.setup(); from audit import checks; "
            "print(*(message.id for message in checks.check_configuration()))",
        ],
        env={"DJANGO_SETTINGS_MODULE": "settings_typing", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout.split() == ["bamboo_audit.W001"], answer.stderr


def test_i001_no_engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "pipeline.eri.signals", None)
    assert found()["I001"].level == django_checks.INFO


@pytest.mark.parametrize(
    "changes", [{"HOST": "/nowhere"}, {"NAME": "nobody knows"}, {"USER": "nobody knows"}]
)
def test_w010_the_database_is_away(may_connect_anywhere, own_database, add_database, changes):
    add_database("log", OPTIONS={"connect_timeout": 3}, **changes)
    (message,) = found_in_log().values()
    assert message.id == "bamboo_audit.W010"
    assert "cannot be asked" in message.msg


@uses_database
def test_w011_an_old_server(monkeypatch):
    monkeypatch.setattr(ddl, "OLDEST_SERVER", 990_000)  # no older one can be had
    assert found_in_log().keys() == {"W011"}


@uses_database
@pytest.mark.parametrize(
    ("delivery", "meanwhile"),
    [("spool", "records wait in the spool until it is."), ("inline", "every event is lost.")],
)
def test_w012_the_log_is_not_there(log_connection, configure, delivery, meanwhile):
    configure(DELIVERY=delivery)
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO away")
    alias = conf.get("DATABASE")
    (message,) = found_in_log().values()
    assert f"Run: manage.py migrate bamboo_audit --database {alias}" in message.hint
    assert message.msg.endswith(meanwhile)


@uses_database
def test_w013_no_partition_is_ahead(log_connection, record_factory):
    last = partitions.report(conf.get("DATABASE")).partitions[-1]
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} ALTER COLUMN id RESTART WITH {last.low + 7}")
    position = record_factory()
    assert f"{position:,}" in found_in_log()["W013"].msg

    call_command("audit_partitions", stdout=StringIO())
    assert found_in_log() == {}


@uses_database
@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (f"ALTER TABLE {TABLE} DISABLE TRIGGER bamboo_audit_no_change", "the log"),
        (f"ALTER TABLE {TABLE} ENABLE TRIGGER bamboo_audit_no_truncate", "the log"),
        (f"ALTER TABLE {TABLE} ENABLE REPLICA TRIGGER bamboo_audit_no_change", "the log"),
        (f"DROP TRIGGER bamboo_audit_no_truncate ON {TABLE}", "the log"),
        (f"DROP TRIGGER bamboo_audit_no_change ON {TABLE}", "the log"),
        (f"ALTER TABLE {TABLE}_p000001 DISABLE TRIGGER ALL", f"{TABLE}_p000001"),
        (f"DROP TRIGGER bamboo_audit_no_truncate ON {TABLE}_p000002", f"{TABLE}_p000002"),
    ],
)
def test_w014_the_guards_are_gone(log_connection, statement, named):
    with log_connection.cursor() as cursor:
        cursor.execute(statement)
    message = found_in_log()["W014"]
    assert f"refuses changes of {named}:" in message.msg


@uses_database
def test_w014_the_guard_was_replaced_by_one_that_lets_pass(log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION bamboo_audit_refuse_change() RETURNS trigger "
            "LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$"
        )
    assert "W014" in found_in_log()


@uses_database
def test_w014_a_trigger_of_somebody_else_swallows_inserts(log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN NULL; END $$"
        )
        cursor.execute(
            f"CREATE TRIGGER swallow BEFORE INSERT ON {TABLE}_p000001 FOR EACH ROW "
            "EXECUTE FUNCTION swallow()"
        )
    assert f"{TABLE}_p000001" in found_in_log()["W014"].msg


@uses_database
def test_w015_a_default_partition(log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE elsewhere PARTITION OF {TABLE} DEFAULT")
    assert "elsewhere" in found_in_log()["W015"].msg


# All of them.


def test_every_id_has_a_test_here():
    source = inspect.getsource(checks)
    ids = set(re.findall(r"\b([EWI]\d{3})\b", source))
    tests = {name[5:9].upper() for name in globals() if re.match(r"test_[ewi]\d{3}_", name)}
    assert ids == tests


def test_every_message_has_a_hint_and_ends_its_sentence(settings, own_database, add_database):
    add_database("log", OPTIONS={})
    settings.DATABASE_ROUTERS = [Greedy()]
    settings.BAMBOO_AUDIT = {"DATABASE": "log", "colour": 1, "DELIVERY": "spool"}
    messages = checks.check_configuration()
    assert len(messages) >= 6
    for message in messages:
        assert message.hint
        assert message.msg.endswith(".")
        assert message.id.startswith("bamboo_audit.")


def test_with_delivery_off_only_the_settings_are_checked(settings, add_database):
    add_database("lite", ENGINE="django.db.backends.sqlite3", NAME=":memory:", OPTIONS={})
    settings.BAMBOO_AUDIT = {"DELIVERY": "off", "DATABASE": "lite", "colour": 1}
    assert found().keys() == {"E002"}
    assert checks.check_log(databases=["lite"]) == []


def test_an_error_stops_manage_py_check(configure):
    configure(DATABASE="gone")
    with pytest.raises(SystemCheckError, match=r"bamboo_audit\.E004"):
        call_command("check", stdout=StringIO(), stderr=StringIO())


@uses_database
def test_a_warning_does_not_stop_the_migrate_that_mends_it(log_connection):
    with log_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO away")
    call_command("check", databases=[conf.get("DATABASE")], stdout=StringIO(), stderr=StringIO())
