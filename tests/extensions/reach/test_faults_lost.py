"""Routes that are lost in the middle of a read, a dump, a transaction and a commit."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing, nullcontext, suppress

import pytest
from msgspec import structs

from dbctl.url import DEFAULT_PORTS
from tests import relay, servers
from tests.extensions.reach.processes import find_ssh, wait_until, wait_until_empty
from tests.extensions.reach.test_faults import shared_connection
from tests.extensions.reach.test_ssh import reached

#: Count the sessions that wait for a row.
WAITING = {
    "postgresql": "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    "mysql": "select count(*) from information_schema.innodb_trx where trx_state = 'LOCK WAIT'",
}
#: Count the sessions that read rows for a dump.
DUMPING = {
    "postgresql": "select count(*) from pg_stat_activity where datname = current_database() and query like 'COPY%'",
    "mysql": "select count(*) from information_schema.processlist where db = database() and info like 'SELECT /*!40001%'",
}
#: Many rows that a dump does not compress.
MANY = {
    "postgresql": "create table much as select n, (select string_agg(md5(random()::text || n || i), '') from generate_series(1, 40) i) from generate_series(1, 10000) n",
    "mysql": "create table much as select n, concat(sha2(rand(), 512), repeat(sha2(rand(), 512), 8)) as t"
    " from json_table(concat('[0', repeat(',0', 19999), ']'), '$[*]' columns (n for ordinality)) numbers",
}
SLEEPS = {"postgresql": "select pg_sleep(30)", "mysql": "select sleep(30)"}
#: What a client sends last in a change.
COMMITS = {"postgresql": b"commit\0", "mysql": b"\x03commit"}


def connect(url):
    return (servers.connection if url.engine == "postgresql" else servers.mysql_connection)(url)


def run(url, *statements):
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        rows = []
        for sql in statements:
            cursor.execute(sql)
            rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return [tuple(row) for row in rows]


@pytest.fixture(params=["postgresql", "mysql"])
def url(request):
    with (
        servers.postgresql_database(encoding="UTF8")
        if request.param == "postgresql"
        else servers.mysql_database()
    ) as url:
        run(
            url,
            "create table t (id integer primary key, name varchar(20))",
            "insert into t values (1, 'one'), (2, 'two')",
        )
        yield url


def kill_connections(hosts, runtime):
    hosts.bastion.kill_connections()


def stop_host(hosts, runtime):
    hosts.bastion.stop()


def kill_ssh(hosts, runtime):
    for process in find_ssh(runtime):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


#: Engines, and what loses the route: each of both once, as neither depends on the other.
EVENTS = [("postgresql", kill_connections), ("mysql", kill_ssh)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("via", "lose"),
    [("ssh:bastion", kill_connections), ("ssh:bastion", stop_host), ("ssh:bastion ssh:inner", kill_ssh)],
)
def test_lost_route_during_a_read_is_reported(start, ssh_hosts, runtime, url, via, lose):
    wait = start("data", "query", SLEEPS[url.engine], "--url", reached(url, via))
    time.sleep(0.5)
    wait_until(lambda: run(url, *count_sleeping(url)) != [(0,)])
    lose(ssh_hosts, runtime)
    status, error, _ = wait()
    assert (status, error["code"]) == (10, "route-lost"), error
    assert f"the connection to {via.rpartition(':')[2]} was lost" in error["message"]


def count_sleeping(url):
    if url.engine == "postgresql":
        return [
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
        ]
    return [
        "select count(*) from information_schema.processlist where db = database() and state = 'User sleep'"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("via", "lose"), [("ssh:bastion", kill_connections), ("ssh:bastion ssh:inner", kill_ssh)]
)
def test_lost_route_during_a_dump_leaves_no_backup(
    start, dbctl, ssh_hosts, runtime, url, via, lose, tmp_path
):
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.shop]\nprofile = "plain"\nvia = "{via}"\ndatabases = "{reached(url, "")}"\n'
        'backup.repository = "backups"\n'
    )
    run(url, MANY[url.engine])
    wait = start("backup", "create", "--limit-rate", "1M")
    wait_until(lambda: run(url, DUMPING[url.engine]) != [(0,)])
    lose(ssh_hosts, runtime)
    status, error, _ = wait()
    assert (status, error["code"]) == (10, "route-lost"), error
    assert f"the connection to {via.rpartition(':')[2]} was lost" in error["message"]
    assert not list((tmp_path / "backups").rglob("*.json"))
    assert json.loads(dbctl("backup", "list", "-o", "json").stdout)["data"]["items"] == []


@pytest.mark.slow
@pytest.mark.parametrize(("url", "lose"), EVENTS, indirect=["url"])
def test_lost_route_during_a_transaction_changes_nothing(start, ssh_hosts, runtime, url, lose):
    address = reached(url, "ssh:bastion")
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("begin")
        cursor.execute("select * from t where id = 1 for update")
        wait = start("data", "set", "t", "1", "name=uno", "--url", address, "--yes", "--timeout", "30")
        wait_until(lambda: run(url, WAITING[url.engine]) != [(0,)])
        lose(ssh_hosts, runtime)
        status, error, _ = wait()
        connection.rollback()
    assert (status, error["code"]) == (10, "route-lost"), error
    assert run(url, "select name from t where id = 1") == [("one",)]


@pytest.mark.slow
@pytest.mark.parametrize(("url", "lose"), EVENTS, indirect=["url"])
def test_lost_route_during_a_migration_is_reported(start, ssh_hosts, runtime, url, lose, tmp_path):
    run(url, "drop table t")
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "001_slow.sql").write_text(f"create table first (id integer);\n{SLEEPS[url.engine]};\n")
    words = "migrate", "up", "--migrations", str(folder), "--no-backup", "--url"
    wait = start(*words, reached(url, "ssh:bastion"))
    wait_until(lambda: run(url, *count_sleeping(url)) != [(0,)])
    lose(ssh_hosts, runtime)
    status, error, _ = wait()
    if url.engine == "postgresql":
        assert (status, error["code"]) == (10, "route-lost"), error
    else:
        assert (status, error["code"]) == (1, "migration-partial"), error
        assert "statement 1 of 2 ran" in error["hint"]
    assert "the connection to bastion was lost" in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize(("url", "lose"), EVENTS, indirect=["url"])
def test_commit_whose_answer_is_lost_is_in_doubt(start, ssh_hosts, runtime, url, lose):
    with relay.open_relay("127.0.0.1", url.port or DEFAULT_PORTS[url.engine]) as silent:
        silent.silence_trigger = COMMITS[url.engine]
        address = reached(structs.replace(url, port=silent.port), "ssh:bastion")
        if url.engine == "mysql":  # a server of MySQL encrypts by default, which would hide the trigger
            address += "&ssl_mode=disabled"
        wait = start("data", "set", "t", "1", "name=uno", "--url", address, "--yes")
        wait_until(lambda: run(url, "select name from t where id = 1") == [("uno",)])
        lose(ssh_hosts, runtime)
        status, error, _ = wait()
    assert (status, error["code"]) == (1, "commit-in-doubt"), error
    assert "the connection to bastion was lost" in error["message"]


def test_lost_connection_of_the_user_is_reported(start, ssh_hosts, runtime, url):
    with shared_connection(ssh_hosts):
        wait = start("data", "query", SLEEPS[url.engine], "--url", reached(url, "ssh:bastion"))
        wait_until(lambda: run(url, *count_sleeping(url)) != [(0,)])
        kill_connections(ssh_hosts, runtime)
        status, error, _ = wait()
    assert (status, error["code"]) == (10, "route-lost"), error
    assert "the connection to bastion was lost" in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "share"), [("postgresql", shared_connection), ("mysql", nullcontext)], indirect=["url"]
)
def test_timeout_waits_for_a_server_that_starts(start, ssh_hosts, url, share):
    port = servers.free_port()
    with share(ssh_hosts):
        address = reached(structs.replace(url, port=port), "ssh:bastion")
        wait = start("data", "rows", "t", "--url", address, "--timeout", "20")
        time.sleep(2)
        with relay.open_relay("127.0.0.1", url.port or DEFAULT_PORTS[url.engine], listening_port=port):
            status, error, errors = wait()
    assert (status, error) == (0, None), errors


@pytest.mark.slow
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_killed_dbctl_ends_an_ssh_that_is_still_connecting(start_dbctl, ssh_hosts, runtime, url, tmp_path):
    opened, ended = tmp_path / "opened", tmp_path / "ended"
    (tmp_path / "plain").write_text(ssh_hosts.config.read_text())
    wait = f"touch {opened}; until [ -e {ended} ]; do sleep 0.02; done"
    connect = f"ssh -F {tmp_path / 'plain'} -W 127.0.0.1:{ssh_hosts.bastion.port} inner"
    ssh_hosts.config.write_text(
        f'ProxyCommand sh -c "{wait}; exec {connect}"\n{ssh_hosts.config.read_text()}'
    )
    # The connection is opened while its end, which came too early, is not yet over.
    client = ssh_hosts.programs / "ssh"
    client.write_text(
        f"{client.read_text().replace('exec ', '')}status=$?\n"
        f'case "$*" in *"-O exit"*) touch {ended}; sleep 3;; esac; exit $status\n'
    )
    process = start_dbctl("data", "rows", "t", "--url", reached(url, "ssh:bastion"))
    wait_until(opened.exists)
    process.kill()
    wait_until_empty(runtime)
    wait_until(lambda: not find_ssh(runtime))
