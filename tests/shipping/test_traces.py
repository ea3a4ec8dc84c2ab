"""What shipping leaves behind: nothing in the database's sessions, and no secret anywhere."""

from __future__ import annotations

import json
import re
import time

from lab.hosts import stopped, within

from audit.options import DEFAULT_REDACT

SECRET = "hunter2-correct-horse"
LASTING = re.compile(
    r"\bset\s+(?!local\b|transaction\b|position\b|seen_at\b|ended\b)|\bprepare\b|\blisten\b"
    r"|\bdeclare\b|\btemp(orary)?\s+table\b|\bpg_advisory_(?!xact)|\bset_config\([^)]*false\s*\)",
    re.IGNORECASE,
)


def spellings(pattern):
    """The ways in which hosts write such a name."""
    words = pattern.split("_")
    return {
        pattern,
        pattern.upper(),
        "-".join(words),
        "x_" + pattern,
        words[0] + "".join(word.title() for word in words[1:]),
    }


def said_in(server, host):
    """What the host's shippers have sent to the server: (how, statement)."""
    log = (server.folder / "server.log").read_text("utf-8", "replace").replace("\n\t", " ")
    mine = [line for line in log.splitlines() if line.startswith(f"bamboo-audit|{host.name}|")]
    return re.findall(r"LOG:  (statement|execute [^:]*): (.*)", "\n".join(mine))


def test_the_shipper_leaves_no_state_in_its_session(host, server):
    """PgBouncer in transaction mode gives each transaction another session."""
    host.query(f"ALTER DATABASE \"{host.name}\" SET log_statement = 'all'")
    process = host.script("""
for turn in range(20):
    emit(200, size=200)
    time.sleep(0.05)
on_pipeline_event(event=SimpleNamespace(event_type="node_enter", data={"node_id": "rootless"}))
on_pipeline_event(event=SimpleNamespace(event_type="\\0", data={"a": "\\0"}))
sys.stdin.readline()
""")
    for _ in within(10):
        if len(host.stored()) > 4_000 and host.arrived():
            break
    host.finish(process)
    host.ship()
    said = said_in(server, host)
    assert len([statement for _, statement in said if "COPY" in statement]) >= 5
    assert any("bamboo_audit_advance" in statement for _, statement in said)
    assert {kind for kind, _ in said} <= {"statement", "execute <unnamed>"}, "nothing is prepared"
    assert [statement for _, statement in said if LASTING.search(statement)] == []


def test_it_holds_no_transaction_while_there_is_nothing_to_ship(host):
    process = host.script("emit(10); sys.stdin.readline()")
    for _ in within(10):
        if host.acknowledged() and host.arrived():
            break
    time.sleep(0.3)
    found = host.query(
        "SELECT state, backend_xmin FROM pg_stat_activity"
        " WHERE application_name = 'bamboo-audit' AND datname = current_database()"
    )
    assert found == [("idle", None)], "and one connection"
    host.finish(process)


def test_no_secret_is_written_anywhere(host, server):
    """Neither to the spool, where it would wait for the database, nor to the log."""
    keys = sorted(set().union(*(spellings(pattern) for pattern in DEFAULT_REDACT)))
    (host.folder / "keys").write_text(json.dumps(keys))
    code = f"""
import json
secret = {SECRET!r}
for key in json.load(open("keys")):
    emit(1, **{{"plain": {{key: secret}}, "deep": [{{"a": [{{key: [secret, {{"b": secret}}]}}]}}]}})
    emit(1, text_of_json=json.dumps({{"a": {{key: secret}}}}))
    emit(1, twice=json.dumps({{"inner": json.dumps({{key: secret}})}}))
    emit(1, typed={{"type": "password", "value": secret}})
os._exit(0)
"""
    with stopped(server):
        host.run(code)
        files = [path for path in host.spool_dir.rglob("*") if path.is_file()]
        assert any(b"redacted" in path.read_bytes() for path in files)
        assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    host.ship()
    assert host.check() == len(keys) * 4
    assert host.query(
        "SELECT count(*) FROM bamboo_audit_pipelineeventrecord r WHERE r::text LIKE %s",
        f"%{SECRET}%",
    ) == [(0,)]
