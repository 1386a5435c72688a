"""Commands on a Galera cluster of three nodes: conflicts, lost nodes, partitions, causal reads, schema changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress

import pymysql
import pytest

from dbctl.config.sections import Selection
from dbctl.engines.contract.database import Condition
from dbctl.engines.mysql.database import MySQLReader, MySQLWriter
from dbctl.errors.connection import ConcurrentChangeError
from dbctl.errors.operations import CommitInDoubtError, NodeNotReadyError
from dbctl.model import Plan
from dbctl.services.app.change import Change, PreparedChange
from dbctl.services.app.session import open_app
from tests import servers
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.databases import MySQL
from tests.galera import node_url, start_cluster
from tests.services import larder_app

pytestmark = [pytest.mark.slow, pytest.mark.mariadb]
PIP = [Condition("handle", "=", "pip")]
LABELS = "recipe_uuid,label\n" + "".join(
    f"b2c8d1ef-0000-4000-8000-000000000003,label {number}\n" for number in range(2000)
)


@pytest.fixture(scope="module")
def cluster():
    with start_cluster() as cluster:
        yield cluster


class Larder:
    """Larder in a database of its own on every node of a cluster."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder, self.name = cluster, folder, f"t_{time.time_ns():x}"
        with (
            closing(servers.mysql_connection(cluster.nodes[0].url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"create database {self.name} character set utf8mb4")
            cursor.execute(f"use {self.name}")
            larder_app.fill_mysql(cursor)
        self.wait_until_applied(1, 2)
        self.use(0)

    def use(self, number):
        """Configure dbctl for one node."""
        larder_app.configure(self.folder, servers.text(self.url(number)))

    def url(self, number):
        return node_url(self.cluster.nodes[number], self.name)

    def on(self, number):
        return MySQL(self.url(number))

    def wait_until_applied(self, *numbers):
        """Wait until nodes have applied the changes of all."""
        for number in numbers:
            MySQL(self.cluster.nodes[number].url).run("set session wsrep_sync_wait = 1", "select 1")

    def contents(self, *numbers):
        """Return the content on each node, after it has applied the changes of all."""
        self.wait_until_applied(*numbers)
        return [self.on(number).content() for number in numbers]


@pytest.fixture
def larder(cluster, tmp_path, monkeypatch):
    cluster.wait_until_complete()
    monkeypatch.chdir(tmp_path)
    larder = Larder(cluster, tmp_path)
    yield larder
    with closing(servers.mysql_connection(cluster.nodes[0].url)) as connection, connection.cursor() as cursor:
        cursor.execute("select schema_name from information_schema.schemata")
        for (name,) in cursor.fetchall():
            if name.startswith(larder.name):
                cursor.execute(f"drop database `{name}`")


def test_conflicting_commit_is_rolled_back(larder):
    with (
        closing(MySQLWriter(larder.url(0), "larder/pantry")) as writer,
        pytest.raises(ConcurrentChangeError),
        writer.transaction(),
    ):
        writer.update("members", {"mail": "first@larder.example"}, PIP)
        larder.on(1).run("update members set mail = 'second@larder.example' where handle = 'pip'")
    for content in larder.contents(0, 1, 2):
        assert "second@larder.example" in str(content["members"])
        assert "first@larder.example" not in str(content["members"])


def test_conflicting_change_is_planned_and_applied_again(larder):
    mails = []

    def draft(db):
        ((mail,),) = db.select("members", ["mail"], PIP)
        mails.append(mail)
        plan = Plan(title="Change an address", target="larder/pantry", steps=["update one row"], rows={})
        if len(mails) == 1:
            larder.on(1).run("update members set mail = 'other@larder.example' where handle = 'pip'")
        return PreparedChange(
            plan=plan, apply=lambda db: db.update("members", {"mail": f"{mail}.again"}, PIP)
        )

    with open_app(Selection(), timeout=5) as app:
        assert Change(app, "pantry", draft).apply() == 1
    assert mails == ["pip@larder.example", "other@larder.example"]
    assert larder.on(2).rows("select count(*) from members where mail = 'other@larder.example.again'") in (
        [(1,)],
        [(0,)],  # not applied there yet
    )
    assert all("other@larder.example.again" in str(content) for content in larder.contents(0, 1, 2))


def test_concurrent_commands_on_two_nodes_all_succeed(larder):
    folders = []
    for number in (0, 1):
        folders.append(larder.folder / f"node{number}")
        folders[-1].mkdir()
        larder_app.configure(folders[-1], servers.text(larder.url(number)))
    processes = [
        forge.start(folder, "settings", "set", "kitchen.title", f"{folder.name} {number}", "-o", "json")
        for number in range(4)
        for folder in folders
    ]
    results = [forge.wait_for_result(process) for process in processes]
    # Commands on one node wait for its lock; those on the other node conflict, and are repeated.
    assert [status for status, _ in results] == [0] * len(results), results
    first, *others = larder.contents(0, 1, 2)
    assert others == [first, first]


def test_read_includes_earlier_writes_on_other_nodes(larder):
    """While a node applies nothing, a read on it waits instead of returning old rows."""
    with closing(servers.mysql_connection(larder.url(2))) as connection, connection.cursor() as cursor:
        cursor.execute("flush tables with read lock")
        larder.on(0).run("update members set mail = 'new@larder.example' where handle = 'pip'")
        mails = []

        def read():
            with closing(MySQLReader(larder.url(2), "larder/pantry")) as reader:
                mails.extend(reader.select("members", ["mail"], PIP))

        thread = threading.Thread(target=read)
        thread.start()
        thread.join(0.5)
        assert mails == []
        cursor.execute("unlock tables")
        thread.join(30)
        assert mails == [("new@larder.example",)]


def test_plan_names_schema_changes_that_block_the_cluster(larder, answer):
    folder = larder.folder / "migrations"
    folder.mkdir()
    (folder / "0001_kinds.sql").write_text(
        "-- migrate:up\ncreate table kinds (id int primary key);\ninsert into kinds values (1);\n"
        "alter table kinds add column name text;\n-- migrate:down\ndrop table kinds;\n"
    )
    with closing(servers.mysql_connection(larder.url(0))) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database {larder.name}_plain")
    url = servers.text(node_url(larder.cluster.nodes[0], f"{larder.name}_plain"))
    (larder.folder / "dbctl.toml").write_text(
        f'[apps.plain]\nprofile = "plain"\n[apps.plain.databases]\nmain = "{url}"\n'
        f'[apps.plain.migrations]\nmain = "{folder}"\n[apps.plain.backup]\nrepository = "backups"\n'
    )
    steps = answer("migrate", "up", "--dry-run")["data"]["plan"]["steps"]
    assert any("2 schema changes, in total order isolation" in step for step in steps), steps
    answer("migrate", "up")
    larder.wait_until_applied(1, 2)
    for number in (1, 2):
        other = MySQL(node_url(larder.cluster.nodes[number], f"{larder.name}_plain"))
        assert other.rows("select id, name from kinds") == [(1, None)]
    assert "total order" in str(answer("migrate", "down", "--dry-run", "--yes")["data"]["plan"]["steps"])


def test_schema_changes_of_a_session_run_on_every_node(larder):
    """Also if the server's default is to change the schema of this node only."""
    admin = larder.on(0)
    admin.run("set global wsrep_osu_method = 'RSU'")
    try:
        with closing(MySQLWriter(larder.url(0), "larder/pantry")) as writer:
            assert writer.connection.fetch("select @@session.wsrep_osu_method") == [("TOI",)]
            assert writer.server.blocks_all_servers("/* note */ ALTER TABLE members ADD x int")
            assert not writer.server.blocks_all_servers("update members set mail = ''")
    finally:
        admin.run("set global wsrep_osu_method = 'TOI'")


def test_server_without_cluster_blocks_no_other_server():
    with servers.mysql_database() as url, closing(MySQLReader(url, "larder/pantry")) as reader:
        assert not reader.server.blocks_all_servers("ALTER TABLE members ADD x int")


def test_backup_and_restore_lock_no_tables(larder, answer):
    """Locks of tables hold on one node only, and stop it from applying changes."""
    old = larder.on(0).content()
    log = servers.mysql_connection(larder.cluster.nodes[0].url)
    with closing(log), log.cursor() as cursor:
        cursor.execute("set global log_output = 'TABLE'")
        cursor.execute("set global general_log = 1")
        try:
            answer("backup", "create")
            larder.on(1).run("delete from recipe_labels", "update members set mail = concat(handle, 'x')")
            answer("sessions", "cleanup", "--yes")
            answer("restore", "apply", "latest", "--yes")
            cursor.execute("set global general_log = 0")
            cursor.execute(
                "select argument from mysql.general_log where argument regexp '^(/[^/]*/)? *(lock tables?|flush)'"
            )
            statements = [bytes(statement).decode() for (statement,) in cursor.fetchall()]
            cursor.execute(
                "select count(*) from mysql.general_log where argument like '%create table%members%'"
            )
            ((logged,),) = cursor.fetchall()
        finally:
            cursor.execute("set global general_log = 0")
            cursor.execute("truncate mysql.general_log")
    assert (statements, logged > 0) == ([], True)
    for content in larder.contents(0, 1, 2):
        assert content == old


def test_doctor_reports_what_the_cluster_does_not_replicate(larder, answer):
    larder.on(0).run("create table notes (id int) engine = MyISAM", "create table logs (line text)")
    findings = {finding["code"]: finding for finding in answer("doctor", status=4)["data"]["findings"]}
    assert findings["table-not-replicated"]["severity"] == "error"
    assert {"table-without-key", "lock-node-local"} <= findings.keys()


@contextmanager
def partitioned(cluster):
    """Stop the second and the third node, so that the first one loses the primary component."""
    for node in cluster.nodes[1:]:
        node.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for node in cluster.nodes[1:]:
            node.send_signal(signal.SIGCONT)
        cluster.wait_until_complete()


def test_partitioned_node_is_refused(larder, answer):
    old = larder.on(0).content()
    with partitioned(larder.cluster):
        larder.cluster.nodes[0].wait_for(wsrep_cluster_status="non-Primary")
        for words in (["users", "list"], ["users", "deactivate", "ana"], ["backup", "create"]):
            assert answer(*words, status=10)["error"]["code"] == "node-not-ready"
        assert answer("status", status=10)["data"]["items"][0]["state"] == "node-not-ready"
        assert "node-not-ready" in str(answer("doctor", status=10)["data"]["findings"])
    assert larder.contents(0, 1, 2) == [old] * 3
    answer("users", "deactivate", "ana")


def test_partition_during_commit_is_in_doubt(larder):
    """The cluster may apply the change once the partition ends: all nodes have it, or none."""
    old = larder.on(0).content()
    with (
        closing(MySQLWriter(larder.url(0), "larder/pantry")) as writer,
        pytest.raises(CommitInDoubtError),
        partitioned(larder.cluster),
        writer.transaction(),
    ):
        writer.update("members", {"mail": "doubt@larder.example"}, PIP)
        for node in larder.cluster.nodes[1:]:
            node.send_signal(signal.SIGSTOP)
    first, *others = larder.contents(0, 1, 2)
    assert others == [first, first]
    assert first == old or "doubt@larder.example" in str(first["members"])


def test_partition_during_transaction_changes_nothing(larder):
    old = larder.on(0).content()
    with (
        closing(MySQLWriter(larder.url(0), "larder/pantry")) as writer,
        pytest.raises(NodeNotReadyError),
        partitioned(larder.cluster),
        writer.transaction(),
    ):
        writer.update("members", {"mail": "lost@larder.example"}, PIP)
        larder.cluster.nodes[0].wait_for(wsrep_cluster_status="non-Primary")
    assert larder.contents(0, 1, 2) == [old] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_node_with_full_disk_does_not_affect_the_others(tmp_path, monkeypatch, answer):
    """It leaves the cluster, because it cannot apply the changes; no command reads from it."""
    disks = []

    def mount_small_disk(nodes):
        disk = nodes[2].place
        mount = ["mount", "-t", "tmpfs", "-o", "size=192m,mode=755", "tmpfs", disk]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not permitted")
        disks.append(disk)

    monkeypatch.chdir(tmp_path)
    try:
        with start_cluster(mount_small_disk) as cluster:
            larder = Larder(cluster, tmp_path)
            larder.contents(2)
            with suppress(OSError), (disks[0] / "filler").open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
            larder.on(0).run("create table large (id int auto_increment primary key, text longtext)")
            for _ in range(40):
                # while the node leaves, the others form a new cluster, and refuse a write
                with suppress(pymysql.err.OperationalError):
                    larder.on(0).run("insert into large (text) values (repeat('x', 2000000))")
            answer("users", "deactivate", "ana")
            for node in cluster.nodes[:2]:
                node.wait_for(wsrep_ready="ON", wsrep_cluster_size="2")
            first, second = larder.contents(0, 1)
            assert first == second
            larder.use(2)
            assert answer("users", "list", status=10)["error"]["code"] in ("node-not-ready", "unreachable")
            larder.use(1)
            assert "ana" in str(answer("users", "list")["data"]["items"])
    finally:
        for disk in disks:
            subprocess.run(["umount", "--lazy", disk], check=True)
            shutil.rmtree(disk.parent)  # the cluster could not remove the folder of the disk


def test_migration_continues_on_another_node(larder, answer):
    """A schema change commits; the ledger records which statements ran."""
    random, folder = create_rng("galera migrate"), larder.folder / "migrations"
    folder.mkdir()
    statements = "".join(f"create table kinds{number} (id int primary key);\n" for number in range(8))
    (folder / "0001_kinds.sql").write_text(f"-- migrate:up\n{statements}")
    with (
        closing(servers.mysql_connection(larder.cluster.nodes[0].url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"create database {larder.name}_plain")

    def configure(number):
        url = servers.text(node_url(larder.cluster.nodes[number], f"{larder.name}_plain"))
        (larder.folder / "dbctl.toml").write_text(
            f'[apps.plain]\nprofile = "plain"\n[apps.plain.databases]\nmain = "{url}"\n'
            f'[apps.plain.migrations]\nmain = "{folder}"\n'
        )

    configure(0)
    process = forge.start(larder.folder, "migrate", "up", "-o", "json")
    time.sleep(random.uniform(0.05, 0.4))
    larder.cluster.nodes[0].kill()
    forge.wait_for_result(process)
    larder.cluster.nodes[1].wait_for(wsrep_ready="ON", wsrep_cluster_size="2")
    configure(1)
    result = answer("migrate", "up", status=None)
    if result["exit_code"]:
        assert result["error"]["code"] == "migration-statement-unknown", result
        tables = MySQL(node_url(larder.cluster.nodes[1], f"{larder.name}_plain")).tables()
        number = int(result["error"]["message"].partition("whether statement ")[2].split()[0])
        answer(
            "migrate",
            "repair",
            "--statement",
            "done" if f"kinds{number - 1}" in tables else "undone",
            "--yes",
        )
        answer("migrate", "up")
    larder.cluster.restart(larder.cluster.nodes[0])
    for number in (0, 1, 2):
        tables = MySQL(node_url(larder.cluster.nodes[number], f"{larder.name}_plain")).tables()
        assert {f"kinds{index}" for index in range(8)} <= set(tables)


#: A change of a user and all rows that refer to it, and of the whole database. The others commit as the first does, and
#: ``test_standby`` has all of them.
KILLED_WRITES = [larder_app.WRITES[number] for number in (7, 11)]


@pytest.mark.parametrize("words", KILLED_WRITES, ids=lambda words: " ".join(words[:2]))
def test_killed_node_leaves_no_partial_change(larder, words):
    random = create_rng(f"galera {words}")
    (larder.folder / "rows.csv").write_text(LABELS)
    status, result = forge.wait_for_result(forge.start(larder.folder, "backup", "create", "-o", "json"))
    assert status == 0, result
    larder.on(1).run(
        "update members set mail = concat(handle, '@changed.example')", larder_app.CHANGE_SETTING
    )
    for _ in range(choose_count(1, 20)):
        old, *_ = larder.contents(0)
        process = forge.start(larder.folder, *words, "-o", "json")
        time.sleep(random.uniform(0.0, 0.3))
        larder.cluster.nodes[0].kill()
        status, result = forge.wait_for_result(process)
        code = result["error"]["code"] if status else ""
        for node in larder.cluster.nodes[1:]:
            node.wait_for(wsrep_ready="ON", wsrep_cluster_size="2")
        new, other = larder.contents(1, 2)
        assert new == other
        if not status:
            assert new != old
        elif code not in ("commit-in-doubt", "restore-unfinished"):
            assert new == old, result
        larder.cluster.restart(larder.cluster.nodes[0])
        assert larder.contents(0, 1, 2) == [new] * 3
        if new != old:
            break
