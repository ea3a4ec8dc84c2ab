"""The shipper works as the application's role, which may insert and read, and little else."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connections

from audit.shipping.shipper import Shipper


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def as_application(using, sql, monkeypatch, spool_dir):
    """An alias that connects as the application's role, after ``audit_grants --apply``."""
    name = connections[using].settings_dict["NAME"]
    owner, role = f"owner of {name}", f"application of {name}"
    sql(f"DROP ROLE IF EXISTS {quoted(role)}")
    sql(f"CREATE ROLE {quoted(role)} LOGIN")
    call_command("audit_grants", application=role, owner=owner, apply=True, stdout=StringIO())
    entry = {**connections[using].settings_dict, "USER": role}
    monkeypatch.setitem(connections.databases, "application", entry)
    shipper = Shipper(spool_dir, "application")
    yield shipper
    shipper.close()
    connections["application"].close()
    del connections["application"]
    sql(f"REASSIGN OWNED BY {quoted(owner)} TO CURRENT_USER")
    for leaving in (role, owner):
        sql(f"DROP OWNED BY {quoted(leaving)}")
        sql(f"DROP ROLE {quoted(leaving)}")


def test_it_ships_with_no_more_rights_than_that(emit, drain, shipped, as_application, books):
    emit(100)
    emit(1, run="", node="nobody")
    emit(1, data={"bad": "x"})
    drain(as_application)
    assert shipped() == list(range(1, 103))
    assert books().position == 102
    as_application.caretaker._looked_at = float("-inf")
    as_application.caretaker.look()


def test_it_sets_refused_payloads_aside(fresh, drain, shipped, as_application):
    from audit.capture import row
    from audit.capture.ids import Ids
    from audit.capture.record import Record

    fresh.append(row.rest(Record("x", Ids("run"), b'{"a": NaN}', b"{}")))
    fresh.append(row.rest(Record("x", Ids("run"), b"{}", b"{}")))
    drain(as_application)
    assert shipped() == [1, 2]
