"""Commands with a MariaDB server and its replica: reads, backups, lag, writes, promotion."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from dbctl.url import parse_url
from tests import servers
from tests.databases import MySQL
from tests.services import larder_app

pytestmark = [pytest.mark.slow, pytest.mark.mariadb]
SMALL = ("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M")


class Pair:
    """Larder on a primary and a replica, and its configuration."""

    def __init__(self, primary, replica, folder):
        self.folder, self.replica_server = folder, replica
        with (
            closing(servers.mysql_connection(parse_url(replica.url))) as connection,
            connection.cursor() as cursor,
        ):
            source = parse_url(primary.url)
            cursor.execute(
                f"change master to master_host='127.0.0.1', master_port={source.port}, master_user='root',"
                " master_use_gtid=slave_pos"
            )
            cursor.execute("start slave")
        with (
            closing(servers.mysql_connection(parse_url(primary.url))) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("create database larder character set utf8mb4")
            cursor.execute("use larder")
            larder_app.fill_mysql(cursor)
        self.primary, self.replica = (
            MySQL(parse_url(server.url.replace("/mysql", "/larder"))) for server in (primary, replica)
        )
        self.wait_for_replay()
        self.configure()

    def configure(self, max_lag="60s"):
        larder_app.configure(self.folder, self.primary.url)
        with (self.folder / "dbctl.toml").open("a") as file:
            file.write(f'[apps.larder.replicas.pantry]\nurl = "{self.replica.url}"\nmax_lag = "{max_lag}"\n')

    def wait_for_replay(self):
        ((position,),) = self.primary.rows("select @@gtid_binlog_pos")
        deadline = time.monotonic() + 30
        server = MySQL(parse_url(self.replica_server.url))
        while server.rows(f"select master_gtid_wait('{position}', 1)") != [(0,)]:
            assert time.monotonic() < deadline, "the replica does not apply changes"


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory):
    primary = servers._start_mysql((*SMALL, "--log-bin", "--server-id=1"), None, listening=True)
    replica = servers._start_mysql((*SMALL, "--read-only=1", "--server-id=2"), None, listening=True)
    yield Pair(primary, replica, tmp_path_factory.mktemp("pair"))
    primary.stop()
    replica.stop()


@pytest.fixture
def pair(shared_pair, monkeypatch):
    monkeypatch.chdir(shared_pair.folder)
    shared_pair.configure()
    return shared_pair


def test_reads_and_backups_use_the_replica(pair, answer):
    for words in (
        ["users", "list"],
        ["settings", "list"],
        ["data", "rows", "recipes"],
        ["integrity", "check"],
    ):
        assert answer(*words, "--replica") == answer(*words)
    content = pair.primary.content()
    created = answer("backup", "create", "--replica")["data"]
    answer("restore", "apply", created["id"], "--yes")
    assert pair.primary.content() == content
    pair.wait_for_replay()
    (row,) = answer("stats", "overview", "--replica")["data"]["items"]
    assert (row["lag_seconds"], row["lag_bytes"]) == (0, 0)
    (row,) = answer("stats", "overview")["data"]["items"]
    assert (row["lag_seconds"], row["lag_bytes"]) == (None, None)


@pytest.mark.parametrize(
    "words",
    [
        ["users", "deactivate", "ana"],
        ["settings", "set", "kitchen.title", "Pantry"],
        ["restore", "apply", "latest", "--yes"],
    ],
    ids=" ".join,
)
def test_writes_are_refused(pair, answer, words):
    answer("backup", "create")
    pair.wait_for_replay()
    before = pair.primary.content()
    assert answer(*words, "--replica", status=6)["error"]["code"] == "replica-read-only"
    assert pair.primary.content() == before


def test_stopped_replica_and_promotion_are_refused(pair, answer):
    replica = MySQL(parse_url(pair.replica_server.url))
    replica.run("stop slave")
    try:
        refused = answer("users", "list", "--replica", "--timeout", "0", status=6)
        assert refused["error"]["code"] == "replica-lag"
        assert "replica-lag" in str(answer("doctor", "--timeout", "0", status=4)["data"]["findings"])
    finally:
        replica.run("start slave")
    replica.run("stop slave", "reset slave all")
    refused = answer("users", "list", "--replica", status=6)
    assert refused["error"]["code"] == "replica-promoted"
    assert answer("status", "--check", status=3)["exit_code"] == 3
