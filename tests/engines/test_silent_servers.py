"""Commands end soon if a server becomes silent, and wait for long statements."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump, DumpRequest, LoadRequest
from dbctl.errors.connection import ClientFailedError, UnreachableError
from dbctl.files import liveness, subprocesses
from tests import servers
from tests.relay import open_relay
from tests.shapes import flashpoint_web

SLEEP = {"postgresql": "select pg_sleep({})", "mysql": "select sleep({})"}
#: The last bytes of a server before a session begins.
READY = {"postgresql": b"Z\x00\x00\x00\x05I", "mysql": b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"}
PORTS = {"postgresql": 5432, "mysql": 3306}

pytestmark = [pytest.mark.timeout(60), pytest.mark.slow]


@pytest.fixture(params=["postgresql", "mysql"])
def database(request):
    """Return an empty database of each server type, with TCP connections."""
    database = request.getfixturevalue(request.param)
    if not database.url.host or database.url.host.startswith("/"):
        pytest.skip("the server is reached by a socket")
    return database


@pytest.fixture(autouse=True)
def _shorten_time_limits(monkeypatch):
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(liveness, "_dead_since", {})


@pytest.fixture
def relay(database):
    with open_relay(database.url.host, database.url.port or PORTS[database.url.engine]) as relay:
        yield relay


@pytest.fixture
def url(database, relay):
    options = "&".join(filter(None, [database.url.options, "connect_timeout=2"]))
    return structs.replace(database.url, host="127.0.0.1", port=relay.port, options=options)


def run_later(seconds, action):
    threading.Timer(seconds, action).start()


def create_large_table(database):
    """Create a table that is larger than all network buffers."""
    database.execute(f"create table pieces (id {database.key}, body text not null)")
    database.execute("insert into pieces (body) values (%s)", *[("x" * 60_000,)] * 400)


@pytest.mark.parametrize("for_new", [True, False])
def test_silence_ends_a_statement(database, relay, url, for_new):
    with closing(registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)) as db:
        run_later(0.3, lambda: relay.fall_silent(for_new=for_new))
        with pytest.raises(UnreachableError):
            db.query(SLEEP[database.url.engine].format(2))


@pytest.mark.parametrize("for_new", [True, False])
def test_silence_ends_a_result(database, relay, url, for_new):
    create_large_table(database)
    with closing(registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)) as db:
        db.tables()
        relay.relays_new, relay.bytes_until_silence = not for_new, 2_000_000
        with pytest.raises(UnreachableError):
            db.query("select body from pieces")


def test_status_ends_soon_after_its_timeout(database, relay, url, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", 10.0)
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        database.execute(f"create table t{number} (id {database.key}, body text)")
    relay.bytes_until_silence = limit = 1 << 20
    registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=3).close()
    relay.bytes_until_silence = limit - relay.bytes_until_silence + 1_000  # after the session has begun
    begin = time.monotonic()
    result = answer("--url", servers.text(url), "--timeout", "3", "status", status=None)
    assert (result["data"]["items"][0]["state"], len(result["warnings"])) == ("connection-lost", 1)
    assert time.monotonic() - begin < 11  # 3 s without a byte, and 5 s for another session


def test_silent_idle_connection_is_replaced(database, relay, url):
    with closing(registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)) as db:
        relay.fall_silent(for_new=False)
        assert db.query("select 1 as n") == [(1,)]


def test_silence_during_a_write_changes_nothing(database, relay, url):
    database.execute(f"create table pieces (id {database.key}, body text)")
    with (
        closing(
            registry.load_engine(url.engine).open_for_writing(url, "app/main", timeout=1, pragmas={})
        ) as db,
        pytest.raises(UnreachableError),
        db.transaction(),
    ):
        relay.fall_silent()
        db.insert("pieces", {"id": 1, "body": "x" * 12_000_000})
    assert database.rows("select count(*) from pieces")[0][0] == 0


def test_long_statement_is_not_interrupted(database, url):
    with closing(registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)) as db:
        assert len(db.query(SLEEP[database.url.engine].format(3))) == 1


def test_statement_is_not_interrupted_if_the_server_refuses_new_connections(database, url):
    with closing(registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)) as db:
        other = structs.replace(url, user="no-such-user", password=None)
        session = db.connection.session
        if database.url.engine == "mysql":
            session.url = other
        else:
            session.parameters = {**session.parameters, "user": other.user}
        assert len(db.query(SLEEP[database.url.engine].format(3))) == 1


def test_silence_after_authentication_is_unreachable(database, relay, url):
    relay.silence_trigger = READY[database.url.engine]
    if database.url.engine == "mysql":  # the relay does not recognize encrypted bytes
        url = structs.replace(url, options=f"{url.options}&ssl-mode=DISABLED")
    with pytest.raises(UnreachableError):
        registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)


def test_silence_ends_a_dump(database, relay, url, tmp_path):
    create_large_table(database)
    with closing(registry.load_engine(url.engine).open_for_reading(url, "app/main", timeout=1)) as db:
        db.tables()
        relay.bytes_until_silence = 3_000_000
        with pytest.raises(UnreachableError):
            db.dumps.dump(DumpRequest(tmp_path / "dump", tables=["pieces"]))
    assert not (tmp_path / "dump").exists()


def test_silence_ends_a_restore_and_the_next_restore_succeeds(database, relay, url, tmp_path):
    create_large_table(database)
    path = tmp_path / "dump"
    with closing(
        registry.load_engine(database.url.engine).open_for_reading(database.url, "app/main", timeout=1)
    ) as db:
        result = db.dumps.dump(DumpRequest(path))
    dump = Dump(
        metadata=result.metadata, tables=result.verification.tables, schema=result.verification.schema
    )
    relay.bytes_until_silence = 3_000_000
    request = LoadRequest(path=path, dump=dump, timeout=1)
    with (
        pytest.raises(UnreachableError),
        registry.load_engine(url.engine).restore_target(url, "app/main").trial_restore(request),
    ):
        pass
    relay.end()  # a server cannot drop a database while a COPY waits for its client
    with (
        registry.load_engine(database.url.engine)
        .restore_target(database.url, "app/main")
        .trial_restore(request) as restored
    ):
        assert not restored.verification.problems
        assert restored.verification.tables == dump.tables


def test_status_reports_silent_and_other_servers(tmp_path):
    server = servers.postgresql()
    if not server.host or server.host.startswith("/"):
        pytest.skip("the server is reached by a socket")
    flashpoint_web.deployed_user_db(tmp_path / "user.db")
    with open_relay(server.host, server.port or PORTS["postgresql"]) as relay:
        relay.silence_trigger = READY["postgresql"]
        address = f"postgresql://{server.user}@127.0.0.1:{relay.port}/{server.path}?connect_timeout=2"
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.fp]\nprofile = "flashpoint-web"\n[apps.fp.databases]\nuser = "user.db"\n'
            f'[apps.silent]\nprofile = "waqtor"\n[apps.silent.databases]\nmain = "{address}"\n',
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "dbctl", "status", "--check", "--output", "json"]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=50)
    rows = json.loads(process.stdout)["data"]["items"]
    states = {(row["app"], row["database"]): row["state"] for row in rows}
    assert (states["fp", "user"], states["silent", "main"]) == ("ok", "unreachable")
    assert process.returncode == 12


def test_unresolved_host_name_is_unreachable(database, url, monkeypatch):
    ended = threading.Event()

    def block(*_arguments, **_options):
        ended.wait(50)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", block)
    try:
        with pytest.raises(UnreachableError, match="not resolved"):
            registry.load_engine(url.engine).open_for_reading(
                structs.replace(url, host="db.example.org"), "app/main", timeout=1
            )
    finally:
        ended.set()


def test_idle_program_without_server_is_ended(monkeypatch):
    monkeypatch.setattr(subprocesses, "LOCAL_SECONDS", 1.0)
    watch = subprocesses.ProgramWatch("app/main", "Nothing was changed.")
    with (
        subprocesses.run_program(["/bin/sleep", "50"], {}, watch=watch, writes=True) as program,
        pytest.raises(ClientFailedError),
    ):
        list(program.blocks())


def test_computing_program_is_not_interrupted(monkeypatch):
    monkeypatch.setattr(subprocesses, "LOCAL_SECONDS", 0.5)
    watch = subprocesses.ProgramWatch("app/main", "Nothing was changed.")
    command = ["/bin/sh", "-c", "i=0; while [ $i -lt 900000 ]; do i=$((i+1)); done; echo done"]
    with subprocesses.run_program(command, {}, watch=watch, writes=True) as program:
        assert b"".join(program.blocks()) == b"done\n"
        assert program.finish() == 0
