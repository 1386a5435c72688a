"""A server that falls silent ends no command late, and one that is at work for long is waited for."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.dumps import Dump
from dbctl.errors import ClientFailedError, UnreachableError
from dbctl.files import liveness, subprocesses
from tests import servers
from tests.relay import relaying
from tests.shapes import flashpoint_web

SLEEP = {"postgresql": "select pg_sleep({})", "mysql": "select sleep({})"}
#: What each server sends last when a session may begin: ready, idle; an OK without a warning.
READY = {"postgresql": b"Z\x00\x00\x00\x05I", "mysql": b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"}
PORTS = {"postgresql": 5432, "mysql": 3306}

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["postgresql", "mysql"])
def made(request):
    """An empty database of each kind of server, reached by TCP."""
    made = request.getfixturevalue(request.param)
    if not made.url.host or made.url.host.startswith("/"):
        pytest.skip("the server is reached by a socket")
    return made


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(liveness, "_died", {})


@pytest.fixture
def relay(made):
    with relaying(made.url.host, made.url.port or PORTS[made.url.engine]) as relay:
        yield relay


@pytest.fixture
def url(made, relay):
    options = "&".join(filter(None, [made.url.options, "connect_timeout=2"]))
    return structs.replace(made.url, host="127.0.0.1", port=relay.port, options=options)


def later(seconds, action):
    threading.Timer(seconds, action).start()


def fill(made):
    """Make a table whose rows are more than all the buffers on the way hold."""
    made.execute(f"create table pieces (id {made.key}, body text not null)")
    made.execute("insert into pieces (body) values (%s)", *[("x" * 60_000,)] * 400)


@pytest.mark.parametrize("for_new", [True, False])
def test_silence_in_the_middle_of_a_statement_ends_it(made, relay, url, for_new):
    with closing(registry.open_for_reading(url, "app/main", timeout=1)) as db:
        later(0.3, lambda: relay.fall_silent(for_new=for_new))
        with pytest.raises(UnreachableError):
            db.query(SLEEP[made.url.engine].format(2))


@pytest.mark.parametrize("for_new", [True, False])
def test_silence_in_the_middle_of_an_answer_ends_it(made, relay, url, for_new):
    fill(made)
    with closing(registry.open_for_reading(url, "app/main", timeout=1)) as db:
        db.tables()
        relay.spares_new, relay.bytes_until_silence = not for_new, 2_000_000
        with pytest.raises(UnreachableError):
            db.query("select body from pieces")


def test_a_connection_that_fell_silent_is_replaced_where_nothing_depends_on_it(made, relay, url):
    with closing(registry.open_for_reading(url, "app/main", timeout=1)) as db:
        relay.fall_silent(for_new=False)
        assert db.query("select 1 as n") == [(1,)]


def test_silence_while_a_large_value_is_written_changes_nothing(made, relay, url):
    made.execute(f"create table pieces (id {made.key}, body text)")
    with (
        closing(registry.open_for_writing(url, "app/main", timeout=1, pragmas={})) as db,
        pytest.raises(UnreachableError),
        db.transaction(),
    ):
        relay.fall_silent()
        db.insert("pieces", {"id": 1, "body": "x" * 12_000_000})
    assert made.rows("select count(*) from pieces")[0][0] == 0


def test_a_long_statement_is_waited_for(made, url):
    with closing(registry.open_for_reading(url, "app/main", timeout=1)) as db:
        assert len(db.query(SLEEP[made.url.engine].format(3))) == 1


def test_a_server_that_turns_new_connections_away_is_waited_for(made, url):
    with closing(registry.open_for_reading(url, "app/main", timeout=1)) as db:
        other = structs.replace(url, user="nobody-of-this-name", password=None)
        session = db._session
        if made.url.engine == "mysql":
            session.url = other
        else:
            session.parameters = {**session.parameters, "user": other.user}
        assert len(db.query(SLEEP[made.url.engine].format(3))) == 1


def test_silence_behind_the_sign_in_is_unreachable(made, relay, url):
    relay.last_words = READY[made.url.engine]
    if made.url.engine == "mysql":  # encrypted, the words are not recognized
        url = structs.replace(url, options=f"{url.options}&ssl-mode=DISABLED")
    with pytest.raises(UnreachableError):
        registry.open_for_reading(url, "app/main", timeout=1)


def test_a_dump_ends_when_the_server_falls_silent(made, relay, url, tmp_path):
    fill(made)
    with closing(registry.open_for_reading(url, "app/main", timeout=1)) as db:
        db.tables()
        relay.bytes_until_silence = 3_000_000
        with pytest.raises(UnreachableError):
            db.dump(tmp_path / "dump", tables=["pieces"])
    assert not (tmp_path / "dump").exists()


def test_a_restore_ends_when_the_server_falls_silent_and_the_next_works(made, relay, url, tmp_path):
    fill(made)
    path = tmp_path / "dump"
    with closing(registry.open_for_reading(made.url, "app/main", timeout=1)) as db:
        dumped = db.dump(path)
    dump = Dump(facts=dumped.facts, tables=dumped.proof.tables, schema=dumped.proof.schema)
    relay.bytes_until_silence = 3_000_000
    with pytest.raises(UnreachableError), registry.outside(url, "app/main").tried(path, dump, timeout=1):
        pass
    relay.end()  # a server drops no database while a COPY waits for its client
    with registry.outside(made.url, "app/main").tried(path, dump, timeout=1) as tried:
        assert not tried.proof.problems
        assert tried.proof.tables == dump.tables


def test_status_names_the_silent_server_and_reports_the_others(tmp_path):
    server = servers.postgresql()
    if not server.host or server.host.startswith("/"):
        pytest.skip("the server is reached by a socket")
    flashpoint_web.deployed_user_db(tmp_path / "user.db")
    with relaying(server.host, server.port or PORTS["postgresql"]) as relay:
        relay.last_words = READY["postgresql"]
        address = f"postgresql://{server.user}@127.0.0.1:{relay.port}/{server.path}?connect_timeout=2"
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.fp]\nprofile = "flashpoint-web"\n[apps.fp.databases]\nuser = "user.db"\n'
            f'[apps.silent]\nprofile = "waqtor"\n[apps.silent.databases]\nmain = "{address}"\n',
            encoding="utf-8",
        )
        words = [sys.executable, "-m", "dbctl", "status", "--check", "--output", "json"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=50)
    rows = json.loads(done.stdout)["data"]["items"]
    states = {(row["app"], row["database"]): row["state"] for row in rows}
    assert (states["fp", "user"], states["silent", "main"]) == ("ok", "unreachable")
    assert done.returncode == 12


def test_a_name_that_is_not_resolved_is_unreachable(made, url, monkeypatch):
    ended = threading.Event()

    def hang(*_words, **_more):
        ended.wait(50)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(UnreachableError, match="not resolved"):
            registry.open_for_reading(structs.replace(url, host="db.example.org"), "app/main", timeout=1)
    finally:
        ended.set()


def test_a_program_without_a_server_that_does_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(subprocesses, "LOCAL_SECONDS", 1.0)
    watch = subprocesses.Watch("app/main", "Nothing was changed.")
    with (
        subprocesses.running(["/bin/sleep", "50"], {}, watch=watch, writes=True) as program,
        pytest.raises(ClientFailedError),
    ):
        list(program.blocks())


def test_a_program_that_computes_is_waited_for(monkeypatch):
    monkeypatch.setattr(subprocesses, "LOCAL_SECONDS", 0.5)
    watch = subprocesses.Watch("app/main", "Nothing was changed.")
    words = ["/bin/sh", "-c", "i=0; while [ $i -lt 900000 ]; do i=$((i+1)); done; echo done"]
    with subprocesses.running(words, {}, watch=watch, writes=True) as program:
        assert b"".join(program.blocks()) == b"done\n"
        assert program.finish() == 0
