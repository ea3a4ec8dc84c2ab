"""A rebuild that is killed at any instant, again and again: what serves is always whole."""

from __future__ import annotations

FILL = """
from audit.testing.projections import store_sample
from django.core.management import call_command

for _ in range(12):
    store_sample()
call_command("audit_replay")
"""
KILL = """
import random
import signal

from django.core.management import call_command
from django.db import connections
from audit.projections import rebuild

rebuild.PART = 100
chance, killed = random.Random(7), 0
for _ in range(20):
    connections.close_all()
    pid = os.fork()
    if not pid:
        call_command("audit_replay", rebuild=True, workers=chance.choice([1, 2]))
        os._exit(0)
    time.sleep(chance.uniform(0.02, 0.8))
    os.kill(pid, signal.SIGKILL)
    killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
    print(digest(), flush=True)
    if chance.random() < 0.2:
        spoil()
print("killed", killed)
call_command("audit_replay", rebuild=True)
print(digest())
"""
DIGEST = """
from django.db import connection

TABLES = ("pipelinetimeline", "nodetimeline", "statetransition")

def digest():
    with connection.cursor() as cursor:
        found = []
        for table in TABLES:
            cursor.execute(
                f"SELECT md5(string_agg(each::text, '|' ORDER BY each::text)), count(*) "
                f"FROM bamboo_audit_{table} AS each"
            )
            found.append("%s %d" % cursor.fetchone())
    return "; ".join(found)

def spoil():
    with connection.cursor() as cursor:
        cursor.execute("UPDATE bamboo_audit_nodetimeline SET name = 'SPOILT'")
        cursor.execute("DELETE FROM bamboo_audit_statetransition WHERE ordinal = 1")
"""


def test_what_serves_is_whole_however_often_a_rebuild_is_killed(host):
    host.run(FILL, 120)
    right = host.run(DIGEST + "print(digest())").strip()
    spoilt = host.run(DIGEST + "spoil()\nprint(digest())").strip()
    said = host.run(DIGEST + KILL, 180).splitlines()
    *found, last = [line for line in said if line.count(";") == 2]
    (killed,) = [line.split()[1] for line in said if line.startswith("killed ")]
    assert len(found) == 20
    assert set(found) <= {right, spoilt}
    assert right in found
    assert int(killed) >= 10
    assert last == right
