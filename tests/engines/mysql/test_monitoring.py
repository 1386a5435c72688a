"""What MySQL and MariaDB tell of themselves: sessions and who waits for whom, indexes, slow statements, settings, rights."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager

import pymysql
import pytest

from dbctl.errors import NotSupportedError, PrivilegeMissingError, QueryFailedError, SchemaLacksError
from tests import servers
from tests.engines.conftest import MadeMySQL


@pytest.fixture
def counting():
    """A database of a server that counts what is done on it."""
    server = servers.private_mysql("--performance-schema=ON")
    with servers.mysql_database(server=server) as url:
        made = MadeMySQL(url)
        with closing(made.own):
            yield made
            for opened in made.opened:
                opened.close()


@contextmanager
def account(mysql, *rights):
    """An account that may sign in, and what it is granted in this database; gives its name and what a GRANT calls it."""
    name = f"r_{time.time_ns():x}"
    mysql.execute(f"create user {name}@'%'")
    try:
        for right in rights:
            mysql.execute(f"grant {right} to {name}@'%'")
        yield name, f"'{name}'@'%'"
    finally:
        mysql.execute(f"drop user {name}@'%'")


@contextmanager
def running(mysql, sql):
    """Another session in the middle of a statement; gives its number, and what became of it."""
    with closing(servers.mysql_connection(mysql.url)) as other:
        ended = []

        def run():
            try:
                with other.cursor() as cursor:
                    cursor.execute(sql)
                ended.append(0)
            except pymysql.Error as error:
                ended.append(error.args[0])

        number = other.thread_id()
        thread = threading.Thread(target=run)
        thread.start()
        look = f"select 1 from information_schema.processlist where id = {number} and command = 'Query' and time >= 1"
        try:
            until = time.monotonic() + 20
            while not mysql.rows(look):
                assert time.monotonic() < until
                time.sleep(0.05)
            yield number, ended
        finally:
            if not ended:
                mysql.execute(f"kill query {number}")
            thread.join()


def test_who_waits_for_whom_is_told_with_the_statement_and_ended(mysql):
    mysql.execute("create table t (id integer primary key, a text)")
    mysql.execute("insert into t values (1, 'x')")
    reader = mysql.reader()
    with closing(servers.mysql_connection(mysql.url)) as holder, holder.cursor() as cursor:
        holder.begin()
        cursor.execute("update t set a = 'secret' where id = 1")
        with running(mysql, "update t set a = 'secret' where id = 1") as (number, ended):
            (found,) = reader.waits()
            assert (found.blocked.pid, found.blocking.pid) == (number, holder.thread_id())
            assert found.blocked.query == "update t set a = ? where id = ?"
            assert found.blocking.state == "idle in transaction"
            assert found.seconds >= 1
            assert found.blocked.may_end
            again = {one.pid: one.statement for one in reader.sessions()}
            assert again[number] == found.blocked.statement
            assert reader.cancel(number, terminate=False)
            while not ended:
                time.sleep(0.02)
        assert ended == [1317]
        holder.rollback()
    assert list(reader.waits()) == []
    assert not reader.cancel(2**31, terminate=True)


def test_an_account_without_rights_sees_less_and_ends_nothing_and_is_told_so(mysql):
    with account(mysql, f"select on {mysql.url.path}.*") as (name, told):
        reader = mysql.reader(user=name, password=None)
        assert reader.hidden().endswith(f"GRANT PROCESS ON *.* TO {told};")
        assert list(reader.sessions()) == list(reader.waits()) == []
        with pytest.raises((PrivilegeMissingError, QueryFailedError)):
            reader.cancel(mysql.own.thread_id(), terminate=False)
        codes = {one.code: one.hint for one in reader.concerns(writing=False)}
        assert codes["not-shown"] == f"GRANT PROCESS ON *.* TO {told};"
    assert mysql.reader().hidden() == ""


def test_indexes_are_told_with_what_keeps_them_from_going(mysql):
    mysql.execute("create table parent (id integer primary key, a varchar(50), unique email (a))")
    mysql.execute(
        "alter table parent add unique email_key1 (a), add index pair (a, id desc), add index part (a(10))"
    )
    mysql.execute(
        "create table `chi ld` (p integer, q integer, key lone (p), key both_ (p, q), foreign key (p) references parent (id))"
    )
    told = {(one.table, one.name): one for one in mysql.reader().indexes()}
    assert told["parent", "PRIMARY"].needed
    assert list(told["parent", "email"].columns) == list(told["parent", "email_key1"].columns) == ["a"]
    assert list(told["parent", "part"].columns) == ["a(10)"]
    assert told["parent", "pair"].columns[0] == "a"
    assert not told["chi ld", "lone"].needed
    assert {one.bytes for one in told.values()} != {None}
    assert {one.scans for one in told.values()} == {None} or mysql.rows("select @@performance_schema") == [
        (1,)
    ]
    mysql.execute(told["chi ld", "lone"].drop)
    (left,) = [one for one in mysql.reader().indexes() if one.table == "chi ld"]
    assert (left.name, left.needed) == ("both_", True)


def test_what_a_server_counts_is_told(counting):
    counting.execute("create table t (id integer primary key, a text)")
    counting.execute("insert into t values (1, 'x'), (2, 'secret')")
    counting.execute("update t set a = 'y' where id = 1")
    counting.execute("delete from t where id = 2")
    counting.execute("do sleep(0.3)")
    reader = counting.reader()
    (told,) = reader.measured()
    assert (told.rows, told.inserts, told.updates, told.deletes) == (1, 2, 1, 1)
    slowest = reader.slow()[0]
    assert slowest.total_seconds >= 0.3
    assert slowest.query.lower().replace(" ", "").replace("`", "") == "dosleep(?)"
    assert "secret" not in str(reader.slow())
    assert {one.name: one.scans for one in reader.indexes()}["PRIMARY"] is not None
    traffic = reader.traffic()
    assert 0 < traffic.connections <= traffic.max_connections
    assert 0 < traffic.cache_hit_ratio <= 1
    assert traffic.since is not None


def test_what_switches_the_memory_for_slow_statements_on_is_told(mysql):
    if mysql.rows("select @@performance_schema") == [(1,)]:
        pytest.skip("this server remembers them")
    with pytest.raises(NotSupportedError) as caught:
        mysql.reader().slow()
    assert "performance_schema = ON" in caught.value.hint
    assert "slow_query_log" in caught.value.hint


def test_tables_that_are_not_safe_are_told_with_the_statement_that_helps(mysql):
    mysql.execute("create table `not ours` (a varchar(3)) engine=MyISAM character set utf8mb3")
    mysql.execute("create table ours (a varchar(3)) engine=InnoDB character set utf8mb4")
    found = {one.code: one.hint for one in mysql.reader().concerns(writing=True)}
    assert found["not-transactional"] == "ALTER TABLE `not ours` ENGINE=InnoDB;"
    assert found["not-every-text"] == "ALTER TABLE `not ours` CONVERT TO CHARACTER SET utf8mb4;"
    for code in ("not-transactional", "not-every-text"):
        mysql.execute(found[code])
    codes = {one.code for one in mysql.reader().concerns(writing=True)}
    assert not codes & {"not-transactional", "not-every-text"}


def test_a_server_that_changes_values_without_a_word_is_told():
    server = servers.private_mysql("--performance-schema=ON")
    with servers.mysql_database(server=server) as url, closing(servers.mysql_connection(url)) as own:
        made = MadeMySQL(url)
        with closing(made.own), own.cursor() as cursor:
            cursor.execute("select @@global.sql_mode")
            before = cursor.fetchone()[0]
            cursor.execute("set global sql_mode = 'NO_ENGINE_SUBSTITUTION'")
            try:
                with closing(made.reader()) as reader:
                    (found,) = [one for one in reader.concerns(writing=True) if one.code == "not-strict"]
                    cursor.execute(found.hint)
                    assert "not-strict" not in {one.code for one in reader.concerns(writing=True)}
            finally:
                cursor.execute("set global sql_mode = %s", [before])


def test_a_missing_right_is_told_with_the_grant_that_gives_it(mysql):
    mysql.execute("create table a (id integer)")
    mysql.execute("create table `b b` (id integer)")
    at = f"`{mysql.url.path}`"
    with account(mysql, f"select on {at}.a") as (name, told):
        reader = mysql.reader(user=name, password=None)

        def lacking(*, writing):
            found = reader.concerns(writing=writing)
            return [one.hint for one in found if one.code == "privilege-missing"]

        # A server shows nothing of a table to an account that may do nothing with it.
        assert lacking(writing=False) == []
        assert lacking(writing=True) == [f"GRANT DELETE, INSERT, UPDATE ON {at}.* TO {told};"]
        mysql.execute(lacking(writing=True)[0])
        again = mysql.reader(user=name, password=None)
        (left,) = [one.hint for one in again.concerns(writing=True) if one.code == "privilege-missing"]
        assert left == f"GRANT SELECT ON {at}.`b b` TO {told};"


def test_settings_are_compared_by_what_they_mean(mysql):
    wanted = {
        "innodb_buffer_pool_size": "1M",
        "max_connections": "100000",
        "innodb_page_size": "64K",
        "character_set_server": "UTF8MB4",
        "no_such_setting": "1",
    }
    told = {one.name: one for one in mysql.reader().tuned(wanted)}
    assert {name for name, one in told.items() if one.fits} == {
        "innodb_buffer_pool_size",
        "character_set_server",
    }
    assert told["max_connections"].change.endswith("max_connections = 100000;")
    assert told["no_such_setting"].actual is None
    if mysql.reader().server.is_mariadb:
        assert told["innodb_page_size"].restart
        assert not told["max_connections"].restart


def test_looking_after_tables_does_what_it_says(mysql):
    mysql.execute("create table `us er` (id integer primary key, a text)")
    mysql.execute("insert into `us er` values (1, 'x')")
    mysql.execute("create view v as select 1 as one")
    writer = mysql.writer()
    assert [one.statement for one in writer.tasks("analyze", [])] == ["ANALYZE TABLE `us er`"]
    assert [one.statement for one in writer.tasks("optimize", ["us er"])] == ["OPTIMIZE TABLE `us er`"]
    assert [one.statement for one in writer.tasks("reindex", [])] == ["ALTER TABLE `us er` FORCE"]
    assert list(writer.tasks("optimize", [])) == []
    for kind in ("vacuum", "checkpoint"):
        with pytest.raises(NotSupportedError):
            writer.tasks(kind, [])
    with pytest.raises(SchemaLacksError):
        writer.tasks("analyze", ["gone"])
    for kind in ("analyze", "optimize", "reindex"):
        (task,) = writer.tasks(kind, ["us er"])
        writer.maintain(task)
    assert writer.count("us er") == 1
    (waste,) = mysql.reader().wasted()
    assert (waste.table, waste.estimated, waste.wasted_bytes) == ("us er", True, 0)
    with pytest.raises(RuntimeError):
        mysql.reader().maintain(task)
