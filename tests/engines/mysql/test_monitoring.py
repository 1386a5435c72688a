"""Monitoring of MySQL and MariaDB: sessions, lock waits, indexes, slow statements, settings, rights."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager

import pymysql
import pytest
from msgspec import structs

from dbctl.engines.contract.checks import FindingQuery, LockHolder
from dbctl.engines.mysql.dialect import PROCESSES
from dbctl.engines.servers.database import find_problems
from dbctl.errors.connection import PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError
from dbctl.services.stats.indexes import IndexProblem, classify_indexes
from tests import servers
from tests.engines.conftest import MySQLFixture


@pytest.fixture
def database_with_counters():
    """Create a database on a server with a performance schema."""
    server = servers.private_mysql("--performance-schema=ON")
    with servers.mysql_database(server=server) as url:
        database = MySQLFixture(url)
        with closing(database.connection):
            yield database
            for session in database.opened:
                session.close()


@contextmanager
def create_account(mysql, *rights):
    """Create an account with some rights; yield its name, and the account quoted for GRANT."""
    name = f"r_{time.time_ns():x}"
    mysql.execute(f"create user {name}@'%'")
    try:
        for right in rights:
            mysql.execute(f"grant {right} to {name}@'%'")
        yield name, f"'{name}'@'%'"
    finally:
        mysql.execute(f"drop user {name}@'%'")


@contextmanager
def run_statement(mysql, sql):
    """Run a statement in another session; yield its connection id, and the list of its results."""
    with closing(servers.mysql_connection(mysql.url)) as other:
        results = []

        def run():
            try:
                with other.cursor() as cursor:
                    cursor.execute(sql)
                results.append(0)
            except pymysql.Error as error:
                results.append(error.args[0])

        connection_id = other.thread_id()
        thread = threading.Thread(target=run)
        thread.start()
        query = f"select 1 from {PROCESSES} p where id = {connection_id} and command = 'Query' and time >= 1"
        try:
            deadline = time.monotonic() + 20
            while not mysql.rows(query):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield connection_id, results
        finally:
            if not results:
                mysql.execute(f"kill query {connection_id}")
            thread.join()


def test_null_in_a_text_field_is_empty_text(mysql):
    connection = mysql.reader().connection
    (holder,) = connection.fetch_as(
        LockHolder, "select 1 as pid, null as command, null as owner, 'open' as mode"
    )
    assert (holder.command, holder.owner, holder.transaction_seconds) == ("", "", None)
    check = FindingQuery(severity="info", code="test", sql="select null", message="since {0}.")
    assert [finding.message for finding in find_problems(connection, [check])] == ["since ."]


def test_sessions_are_listed_while_one_runs_a_statement_with_an_emoji(mysql):
    """The information schema of MySQL, not that of MariaDB, refuses to list such a statement."""
    with run_statement(mysql, "select sleep(60), '🍲'") as (connection_id, _):
        reader = mysql.reader()
        assert connection_id in {session.pid for session in reader.server.list_sessions()}
        assert connection_id in {holder.pid for holder in reader.server.list_lock_holders()}
        reader.checks.server_findings(writing=True)


def test_lock_waits_are_listed_and_cancelled(mysql):
    mysql.execute("create table t (id integer primary key, a text)")
    mysql.execute("insert into t values (1, 'x')")
    reader = mysql.reader()
    with closing(servers.mysql_connection(mysql.url)) as holder, holder.cursor() as cursor:
        holder.begin()
        cursor.execute("update t set a = 'secret' where id = 1")
        with run_statement(mysql, "update t set a = 'secret' where id = 1") as (connection_id, results):
            (wait,) = reader.server.list_lock_waits()
            assert (wait.blocked.pid, wait.blocking.pid) == (connection_id, holder.thread_id())
            assert wait.blocked.query == "update t set a = ? where id = ?"
            assert wait.blocking.state == "idle in transaction"
            assert wait.seconds >= 1
            assert wait.blocked.can_cancel
            statements = {session.pid: session.statement_id for session in reader.server.list_sessions()}
            assert statements[connection_id] == wait.blocked.statement_id
            assert reader.server.cancel(connection_id, terminate=False)
            while not results:
                time.sleep(0.02)
        assert results == [1317]
        holder.rollback()
    assert list(reader.server.list_lock_waits()) == []
    assert not reader.server.cancel(2**31, terminate=True)


def test_account_without_rights_sees_and_cancels_nothing(mysql):
    with create_account(mysql, f"select on {mysql.url.path}.*") as (name, grantee):
        reader = mysql.reader(user=name, password=None)
        assert reader.server.visibility_limits().endswith(f"GRANT PROCESS ON *.* TO {grantee};")
        assert list(reader.server.list_sessions()) == list(reader.server.list_lock_waits()) == []
        with pytest.raises((PrivilegeMissingError, QueryFailedError)):
            reader.server.cancel(mysql.connection.thread_id(), terminate=False)
        hints = {finding.code: finding.hint for finding in reader.checks.server_findings(writing=False)}
        assert hints["transactions-hidden"] == f"GRANT PROCESS ON *.* TO {grantee};"
    assert mysql.reader().server.visibility_limits() == ""


def test_indexes_are_listed_with_their_references(mysql):
    mysql.execute("create table parent (id integer primary key, a varchar(50), unique email (a))")
    mysql.execute(
        "alter table parent add unique email_key1 (a), add index pair (a, id desc), add index part (a(10))"
    )
    mysql.execute(
        "create table `chi ld` (p integer, q integer, key lone (p), key both_ (p, q), foreign key (p) references parent (id))"
    )
    indexes = {(index.table, index.name): index for index in mysql.reader().storage.list_indexes()}
    assert indexes["parent", "PRIMARY"].is_referenced
    assert list(indexes["parent", "email"].columns) == list(indexes["parent", "email_key1"].columns) == ["a"]
    assert list(indexes["parent", "part"].columns) == ["a(10)"]
    assert indexes["parent", "pair"].columns[0] == "a"
    assert not indexes["chi ld", "lone"].is_referenced
    assert {index.bytes for index in indexes.values()} != {None}
    assert {index.scans for index in indexes.values()} == {None} or mysql.rows(
        "select @@performance_schema"
    ) == [(1,)]
    mysql.execute(indexes["chi ld", "lone"].drop_statement)
    (remaining,) = [index for index in mysql.reader().storage.list_indexes() if index.table == "chi ld"]
    assert (remaining.name, remaining.is_referenced) == ("both_", True)


def test_sizes_of_tables_are_the_present_ones(mysql):
    """MySQL remembers for a day what another session has read, unless a session requires the present ones."""
    mysql.execute("create table notes (id integer primary key, note varchar(99)) engine = MyISAM")
    query = "select data_length from information_schema.tables where table_schema = database()"
    assert mysql.rows(query) == [(0,)]
    mysql.execute("insert into notes values (1, repeat('x', 90)), (2, repeat('y', 90))")
    assert [table.table_bytes for table in mysql.reader().storage.measure_tables()] == [200]


def test_index_that_no_query_reads_replaces_no_other_one(mysql):
    hidden = "ignored" if mysql.reader().connection.server.is_mariadb else "invisible"
    mysql.execute(
        f"create table tried (id integer primary key, a integer, b integer, key a (a) {hidden}, key longer (a),"
        f" key b (b), key pair (b, a) {hidden})"
    )
    # MySQL counts the reads of each index from its start on: none
    indexes = [structs.replace(index, scans=None) for index in mysql.reader().storage.list_indexes()]
    assert {index.name for index in indexes if index.is_ignored} == {"a", "pair"}
    states = {index.index: (index.state, index.covered_by) for index in classify_indexes("tried", indexes)}
    assert states["a"] == (IndexProblem.DUPLICATE, "longer")
    assert states["longer"] == states["b"] == (None, None)


def test_server_counters_are_reported(database_with_counters):
    database_with_counters.execute("create table t (id integer primary key, a text)")
    database_with_counters.execute("insert into t values (1, 'x'), (2, 'secret')")
    database_with_counters.execute("update t set a = 'y' where id = 1")
    database_with_counters.execute("delete from t where id = 2")
    database_with_counters.execute("do sleep(0.3)")
    reader = database_with_counters.reader()
    (size,) = reader.storage.measure_tables()
    assert (size.rows, size.inserts, size.updates, size.deletes) == (1, 2, 1, 1)
    query = reader.server.list_slow_queries()[0]
    assert query.total_seconds >= 0.3
    assert query.query.lower().replace(" ", "").replace("`", "") == "dosleep(?)"
    assert "secret" not in str(reader.server.list_slow_queries())
    assert {index.name: index.scans for index in reader.storage.list_indexes()}["PRIMARY"] is not None
    traffic = reader.server.read_traffic()
    assert 0 < traffic.connections <= traffic.max_connections
    assert 0 < traffic.cache_hit_ratio <= 1
    assert traffic.since is not None


def test_slow_queries_have_an_enabling_hint(mysql):
    if mysql.rows("select @@performance_schema") == [(1,)]:
        pytest.skip("this server records slow queries")
    with pytest.raises(NotSupportedError) as caught:
        mysql.reader().server.list_slow_queries()
    assert "performance_schema = ON" in caught.value.hint
    assert "slow_query_log" in caught.value.hint


def test_hints_about_unsafe_tables_resolve_them(mysql):
    mysql.execute("create table `not ours` (a varchar(3)) engine=MyISAM character set utf8mb3")
    mysql.execute("create table ours (a varchar(3)) engine=InnoDB character set utf8mb4")
    hints = {finding.code: finding.hint for finding in mysql.reader().checks.server_findings(writing=True)}
    assert hints["table-not-transactional"] == "ALTER TABLE `not ours` ENGINE=InnoDB;"
    assert hints["charset-limited"] == "ALTER TABLE `not ours` CONVERT TO CHARACTER SET utf8mb4;"
    for code in ("table-not-transactional", "charset-limited"):
        mysql.execute(hints[code])
    codes = {finding.code for finding in mysql.reader().checks.server_findings(writing=True)}
    assert not codes & {"table-not-transactional", "charset-limited"}


def test_table_of_merge_is_not_converted_to_rows_of_its_own(mysql):
    mysql.execute("create table part (a integer) engine=MyISAM")
    mysql.execute("create table whole (a integer) engine=MERGE union=(part)")
    findings = mysql.reader().checks.server_findings(writing=True)
    messages = {finding.hint: finding.message for finding in findings}
    assert messages["ALTER TABLE `part` ENGINE=InnoDB;"].startswith("table part")
    assert not any("`whole` ENGINE" in hint for hint in messages)
    with pytest.raises(NotSupportedError) as caught:
        mysql.reader().require_transactional("whole")
    assert "InnoDB" not in caught.value.hint


def test_non_strict_mode_is_reported():
    server = servers.private_mysql("--performance-schema=ON")
    with servers.mysql_database(server=server) as url, closing(servers.mysql_connection(url)) as connection:
        database = MySQLFixture(url)
        with closing(database.connection), connection.cursor() as cursor:
            cursor.execute("select @@global.sql_mode")
            before = cursor.fetchone()[0]
            cursor.execute("set global sql_mode = 'NO_ENGINE_SUBSTITUTION'")
            try:
                with closing(database.reader()) as reader:
                    (finding,) = [
                        item
                        for item in reader.checks.server_findings(writing=True)
                        if item.code == "not-strict"
                    ]
                    cursor.execute(finding.hint[finding.hint.index("SET GLOBAL") :])
                    assert "not-strict" not in {
                        item.code for item in reader.checks.server_findings(writing=True)
                    }
            finally:
                cursor.execute("set global sql_mode = %s", [before])


def test_missing_rights_have_grant_hints(mysql):
    mysql.execute("create table a (id integer)")
    mysql.execute("create table `b b` (id integer)")
    database = f"`{mysql.url.path}`"
    with create_account(mysql, f"select on {database}.a") as (name, grantee):
        reader = mysql.reader(user=name, password=None)

        def find_grants(*, writing):
            findings = reader.checks.server_findings(writing=writing)
            return [finding.hint for finding in findings if finding.code == "privilege-missing"]

        # A server hides tables from accounts without rights on them.
        assert find_grants(writing=False) == []
        pattern = database.replace("_", r"\_")  # any other character instead would be another database
        assert find_grants(writing=True) == [f"GRANT DELETE, INSERT, UPDATE ON {pattern}.* TO {grantee};"]
        mysql.execute(find_grants(writing=True)[0])
        new_reader = mysql.reader(user=name, password=None)
        (remaining,) = [
            finding.hint
            for finding in new_reader.checks.server_findings(writing=True)
            if finding.code == "privilege-missing"
        ]
        assert remaining == f"GRANT SELECT ON {database}.`b b` TO {grantee};"


def test_settings_are_compared_by_value(mysql):
    required = {
        "innodb_buffer_pool_size": "1M",
        "max_connections": "100000",
        "innodb_page_size": "64K",
        "character_set_server": "UTF8MB4",
        "no_such_setting": "1",
    }
    comparisons = {
        comparison.name: comparison for comparison in mysql.reader().checks.compare_settings(required)
    }
    assert {name for name, comparison in comparisons.items() if comparison.is_sufficient} == {
        "innodb_buffer_pool_size",
        "character_set_server",
    }
    assert comparisons["max_connections"].statement.endswith("max_connections = 100000;")
    assert comparisons["no_such_setting"].actual is None
    if mysql.reader().connection.server.is_mariadb:
        assert comparisons["innodb_page_size"].requires_restart
        assert not comparisons["max_connections"].requires_restart


def test_maintenance_tasks_run(mysql):
    mysql.execute("create table `us er` (id integer primary key, a text)")
    mysql.execute("insert into `us er` values (1, 'x')")
    mysql.execute("create view v as select 1 as one")
    writer = mysql.writer()
    assert [item.statement for item in writer.storage.maintenance_tasks("analyze", [])] == [
        "ANALYZE TABLE `us er`"
    ]
    assert [item.statement for item in writer.storage.maintenance_tasks("optimize", ["us er"])] == [
        "OPTIMIZE TABLE `us er`"
    ]
    assert [item.statement for item in writer.storage.maintenance_tasks("reindex", [])] == [
        "ALTER TABLE `us er` FORCE"
    ]
    assert list(writer.storage.maintenance_tasks("optimize", [])) == []
    for kind in ("vacuum", "checkpoint"):
        with pytest.raises(NotSupportedError):
            writer.storage.maintenance_tasks(kind, [])
    with pytest.raises(SchemaMismatchError):
        writer.storage.maintenance_tasks("analyze", ["gone"])
    for kind in ("analyze", "optimize", "reindex"):
        (task,) = writer.storage.maintenance_tasks(kind, ["us er"])
        writer.storage.maintain(task)
    assert writer.count("us er") == 1
    (bloat,) = mysql.reader().storage.measure_bloat()
    assert (bloat.table, bloat.estimated, bloat.wasted_bytes) == ("us er", True, 0)
    with pytest.raises(RuntimeError):
        mysql.reader().storage.maintain(task)
