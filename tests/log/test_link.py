"""The log's own connection, where the process forks."""

from __future__ import annotations

import os

import psycopg
import pytest

from audit import conf
from audit.exceptions import LogUnavailable
from audit.log import forks
from audit.log.link import Link

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def link():
    made = Link(conf.get("DATABASE"))
    yield made
    made.close()


@pytest.fixture
def forking(monkeypatch):
    """``forking(times)``: so many connections are made while a thread of the host's forks."""
    real, children, made = psycopg.connect, [], []
    gate, hold = os.pipe()

    def prepare(times):
        def connect(**parameters):
            connection = real(**parameters)
            made.append(connection)
            if len(made) <= times:
                child = os.fork()
                if not child:
                    os.close(hold)
                    os.read(gate, 1)  # lives, with all that it inherited, until the test is over
                    os._exit(0)
                children.append(child)
            return connection

        monkeypatch.setattr(psycopg, "connect", connect)
        return made

    yield prepare
    os.close(hold)
    os.close(gate)
    for child in children:
        os.waitpid(child, 0)


def test_a_connection_that_a_child_has_as_well_is_not_used(link, forking):
    made = forking(1)
    (mine,) = link.rows("log_schema")
    assert mine
    assert [each.closed for each in made] == [True, False]


def test_a_process_that_forks_all_the_time_is_told_so(link, forking):
    forking(99)
    with pytest.raises(LogUnavailable, match="forks all the time"):
        link.rows("log_schema")
    assert not link.is_open


def test_it_waits_for_a_fork_that_is_under_way(link, forking, monkeypatch):
    """One whose turn it is only after another thread let go of what forks wait for."""
    made = forking(0)
    begun = forks._forks.begun
    forks._forks.begin()
    slept = []

    def ended(seconds):
        slept.append(seconds)
        forks._forks.end()

    monkeypatch.setattr(forks.time, "sleep", ended)
    assert link.rows("log_schema")
    assert (len(slept), len(made)) == (1, 1)
    assert forks._forks.begun == begun + 1
    assert not forks._forks.under_way
