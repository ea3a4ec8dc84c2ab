"""A rebuild in tasks of the host's own Celery, by a real worker of which a child is killed."""

from __future__ import annotations

import pytest

pytest.importorskip("celery")

from celery import Celery
from lab.hosts import children, within
from workers import broker
from workers.at_work import kill_one_at_work

from audit.exceptions import AuditError
from audit.projections import on_celery

RUNS = 40
REBUILD = """
import lab.ordinary_celery
from django.core.management import call_command
from audit.projections import on_celery, rebuild

rebuild.PART, on_celery.SILENT_FOR = 1, {silent}
call_command("audit_replay", rebuild=True, celery=True, workers=2, projection=[{projection}])
"""
FILL = f"""
    INSERT INTO bamboo_audit_pipelineeventrecord (
        occurred_at, writer_id, writer_position, event_type, root_pipeline_id, pipeline_id,
        node_id, node_version, data, context
    )
    SELECT now(), gen_random_uuid(), 1, 'node_enter', 'run' || n, 'run' || n, 'node' || n, '',
           '{{}}', '{{}}'
    FROM generate_series(1, {RUNS}) AS n
"""
BEGUN = "SELECT to_regclass('bamboo_audit_next_public.bamboo_audit_rebuildshard') IS NOT NULL"
DONE = """
    SELECT count(*) FILTER (WHERE is_done), count(*)
    FROM bamboo_audit_next_public.bamboo_audit_rebuildshard
"""


@pytest.fixture
def worker(host):
    def start(**more):
        broker.settings(host.folder)
        return host.start(
            *("-m", "celery", "-A", "lab.ordinary_celery", "worker", "-P", "prefork", "-c", "2"),
            *("-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            AUDIT_TEST_BROKER=str(host.folder),
            **more,
        )

    return start


def rebuild(host, silent=30, projection=""):
    host.query(FILL)
    script = REBUILD.format(silent=silent, projection=projection)
    return host.start("-c", script, AUDIT_TEST_BROKER=str(host.folder))


def done(host):
    """How many parts are loaded, of how many; None: none yet, or no more."""
    if not host.query("SELECT to_regclass('bamboo_audit_next_public.bamboo_audit_rebuildshard')")[
        0
    ][0]:
        return 0, None
    return host.query(DONE)[0]


def test_a_child_that_is_killed_in_the_middle_takes_nothing_with_it(host, worker):
    worker_process = worker(AUDIT_TEST_SLOW="0.3")
    coordinator = rebuild(host)
    for _ in within(60):
        if done(host)[0] < 3:
            continue
        if kill_one_at_work(host.folder, children(worker_process.pid)):
            break
    said, complaint = coordinator.communicate(timeout=120)
    assert coordinator.returncode == 0, complaint
    assert f"{RUNS} records of all runs folded" in said
    assert host.query("SELECT count(*), sum(nodes) FROM bamboo_audit_pipelinetimeline") == [
        (RUNS, RUNS)
    ]
    assert host.query("SELECT count(*) FROM bamboo_audit_statetransition") == [(RUNS,)]
    worker_process.terminate()
    worker_process.communicate(timeout=60)


def test_tasks_that_a_broker_lost_are_sent_again(host, worker):
    coordinator = rebuild(host, silent=1)
    for _ in within(30):
        if done(host)[1] and any((host.folder / "queue").iterdir()):
            break
    for message in (host.folder / "queue").iterdir():
        message.unlink()
    worker_process = worker()
    said, complaint = coordinator.communicate(timeout=120)
    assert coordinator.returncode == 0, complaint
    assert "No part of the rebuild was done" in complaint
    assert f"{RUNS} records of all runs folded" in said
    worker_process.terminate()
    worker_process.communicate(timeout=60)


def test_who_waits_is_told_why_a_task_cannot_go_on(host, worker):
    worker_process = worker(AUDIT_TEST_SLOW="no number")
    coordinator = rebuild(host)
    _, complaint = coordinator.communicate(timeout=120)
    assert coordinator.returncode == 1
    said = " ".join(complaint.split())
    assert "could not load its part: Projection 'timelines' stays" in said
    assert "could not convert string to float" in complaint
    assert host.query("SELECT count(*) FROM bamboo_audit_pipelinetimeline") == [(0,)]
    worker_process.terminate()
    worker_process.communicate(timeout=60)


def test_a_broker_that_is_away_is_told(monkeypatch):
    app = Celery("host", broker="amqp://127.0.0.1:1", set_as_current=False)
    app.conf.task_publish_retry = False

    @app.task(name=on_celery.NAME)
    def task(**_):
        """Never runs."""

    monkeypatch.setattr(on_celery, "rebuild_part", task)
    with pytest.raises(AuditError, match=r"cannot be sent: .*refused.* Is the broker there"):
        on_celery.send(1, token="t", turn=1, skip_broken=False, queue=None)
