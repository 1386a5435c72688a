"""Sessions of MySQL and MariaDB: who waits for whom, what ends them, what they may not do, and what never shows."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trustme
from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract import Condition
from dbctl.engines.mysql.backup import client_programs
from dbctl.engines.mysql.options import MODES, connecting, encryption
from dbctl.engines.mysql.reader import MySQLReader
from dbctl.engines.mysql.session import Session, server_of
from dbctl.engines.mysql.writer import MySQLWriter
from dbctl.errors import (
    BusyError,
    ChangedMeanwhileError,
    ConstraintError,
    DbctlError,
    FileFailedError,
    NotSupportedError,
    PrivilegeMissingError,
    QueryFailedError,
    ReadOnlyError,
    SchemaLacksError,
    UnreachableError,
    UrlInvalidError,
)
from dbctl.model import Secret
from dbctl.signals import Interrupted
from dbctl.url import parse
from tests import servers


@pytest.fixture
def table(mysql):
    mysql.execute("create table t (id integer primary key, n integer unique)")
    mysql.execute("insert into t values (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)")
    return mysql


@contextmanager
def role(made, *rights):
    """Give a user that may sign in, and take it away again."""
    name = f"u{made.url.path[-12:]}"
    made.execute(f"create user {name}@'%' identified by 'pw'")
    try:
        for right in rights:
            made.execute(f"grant {right} to {name}@'%'")
        yield {"user": name, "password": Secret("pw")}
    finally:
        for opened in made.opened:
            opened.close()
        made.execute(f"drop user {name}@'%'")


# Reading only ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reader", "writer"])
def test_no_question_writes_anything(table, mode):
    if servers.mysql_server().is_mariadb:
        table.execute("create sequence s")
    opened = getattr(table, mode)()
    for sql in (
        "insert into t values (9, 9)",
        "replace into t values (1, 9)",
        "delete from t",
        "select nextval(s)",
        "create table u (a integer)",
        "drop table t",
        "truncate t",
        "select * from t into outfile '/tmp/dbctl-was-here'",
        "select * from t into dumpfile '/tmp/dbctl-was-here'",
        "select * from t /*! into outfile '/tmp/dbctl-was-here' */",
        "select * from t /*M! into outfile '/tmp/dbctl-was-here' */",
        "load data infile '/etc/passwd' into table t",
        "set session transaction read write",
        "set transaction_read_only = 0",
        "set statement max_statement_time = 1 for delete from t",
        "select 1; commit; drop table t",
        "commit",
        "analyze delete from t",
        "analyze table t",
        "explain analyze delete from t",
        "call nosuch()",
        "select load_file('/etc/passwd')",
        "select release_all_locks()",
        "select get_lock('app', 1)",
        "do sleep(0)",
        "begin not atomic delete from t; end",
        "execute immediate 'delete from t'",
        "lock tables t write",
        "with q as (select 1) delete from t",
        "(select 1) union (select 2); delete from t",
        "handler t open",
        "kill 1",
        "select * from t lock in share mode",
        "select * from t for update",
    ):
        with pytest.raises((ReadOnlyError, QueryFailedError)):
            opened.query(sql)
    assert table.rows("select count(*), sum(n) from t") == [(5, 15)]
    assert not os.path.exists("/tmp/dbctl-was-here")  # noqa: PTH110, S108


def test_a_function_that_writes_is_refused_by_the_server(table):
    table.execute(
        "create function f() returns int deterministic modifies sql data begin delete from t; return 1; end"
    )
    with pytest.raises(ReadOnlyError):
        table.reader().query("select f()")
    writer = table.writer()
    with pytest.raises(ReadOnlyError):
        writer.query("select f()")
    with writer.transaction():
        writer.query(
            "select f()"
        )  # inside a transaction that writes nobody can forbid it, so it is taken back
        assert writer.count("t") == 5
    assert table.rows("select count(*) from t") == [(5,)]


@pytest.mark.parametrize(
    "sql",
    [
        "select insert('abc', 1, 1, 'x'), replace('a', 'a', 'b')",
        "select 'delete; update' -- insert",
        "(select 1) union select 2",
        "show tables",
        "show create table t",
        "with q as (select id from t) select count(*) from q",
        pytest.param("values (1), (2)", marks=pytest.mark.mariadb),
        "select 1;",
    ],
)
def test_what_is_a_question_is_answered(table, sql):
    assert table.writer().query(sql)


def test_a_question_inside_a_transaction_sees_it(table):
    writer = table.writer()
    with writer.transaction():
        writer.delete("t", [Condition("id", "=", 1)])
        assert writer.query("select count(*) from t") == [(4,)]
        with pytest.raises(QueryFailedError):
            writer.query("select nosuch from t")
        writer.delete("t", [Condition("id", "=", 2)])
    assert table.rows("select count(*) from t") == [(3,)]


def test_the_server_itself_keeps_a_reader_from_writing(table):
    session = table.reader()._session
    for sql in ("insert into t values (9, 9)", "create table u (a integer)", "drop table t"):
        with pytest.raises(Exception, match="READ ONLY"):
            session.run(sql)


def test_a_session_takes_one_statement_at_a_time(table):
    with pytest.raises(Exception, match="syntax"):
        table.writer()._session.run("select 1; select 2")


# Waiting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["begin; update t set n = 9 where id = 1", "lock tables t write"])
def test_who_holds_a_lock_is_waited_for_and_named(table, lock):
    for sql in lock.split("; "):
        table.execute(sql)
    pid = table.own.thread_id()
    writer = table.writer()
    with (
        pytest.raises(BusyError, match=rf"session {pid} of the server \(user root") as caught,
        writer.transaction(),
    ):
        writer.update("t", {"n": 8}, [Condition("id", "=", 1)])
    assert "waited 1 s" in str(caught.value)
    table.execute("rollback")
    table.execute("unlock tables")
    with writer.transaction():
        assert writer.update("t", {"n": 8}, [Condition("id", "=", 1)]) == 1


def test_no_time_to_wait_means_none(table):
    table.execute("begin")
    table.execute("select * from t for update")
    writer = registry.open_for_writing(table.url, "app/user", timeout=0, pragmas={})
    began = time.monotonic()
    with pytest.raises(BusyError), writer.transaction():
        writer.select("t", ["id"], hold=True)
    with pytest.raises(BusyError), writer.transaction():
        writer.delete("t", [])
    writer.close()
    assert time.monotonic() - began < 30  # and not for a day


@pytest.mark.parametrize(
    "isolation", [pytest.param("repeatable read", marks=pytest.mark.mariadb), "serializable"]
)
def test_what_somebody_changed_meanwhile_is_not_changed_again(table, isolation):
    """Also where a server, like MySQL, does not refuse it by itself: what is read cannot be changed there."""
    writer = table.writer()
    if isolation == "serializable":
        if servers.mysql_server().is_mariadb:
            writer._session.run("set session innodb_snapshot_isolation = 0")
            writer._session.isolation = isolation
            writer._session.settle()
        assert writer._session.isolation == isolation
        table.execute("set innodb_lock_wait_timeout = 1")
    try:
        with writer.transaction():
            assert writer.select("t", ["n"], [Condition("id", "=", 1)]) == [(1,)]
            if isolation == "serializable":
                with pytest.raises(Exception, match="Lock wait"):
                    table.execute("update t set n = 100 where id = 1")
            else:
                table.execute("update t set n = 100 where id = 1")
            writer.update("t", {"n": 50}, [Condition("id", "=", 1)])
    except ChangedMeanwhileError:
        assert table.rows("select n from t where id = 1") == [(100,)]
        assert isolation == "repeatable read"
    else:
        assert table.rows("select n from t where id = 1") == [(50,)]
        assert isolation == "serializable"


@pytest.mark.mariadb
def test_after_the_server_has_refused_what_changed_nothing_more_is_written(table):
    writer = table.writer()
    with pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        writer.delete("t", [Condition("id", "=", 5)])
        with pytest.raises(ChangedMeanwhileError), writer.transaction():
            writer.select("t", ["n"])
            table.execute("update t set n = 100 where id = 1")
            writer.update("t", {"n": 50}, [Condition("id", "=", 1)])
        writer.insert("t", {"id": 9, "n": 9})
    assert table.rows("select id from t order by id") == [(1,), (2,), (3,), (4,), (5,)]
    with writer.transaction():
        writer.insert("t", {"id": 9, "n": 9})
    assert writer.count("t") == 6


def test_two_that_wait_for_each_other_both_end(table):
    table.execute("begin")
    table.execute("update t set n = n + 20 where id >= 3")  # the server ends whoever changed less
    table.execute("update t set n = 20 where id = 2")

    def other():
        table.execute("update t set n = 21 where id = 1")

    writer = MySQLWriter(table.url, "app/user", timeout=60)
    with closing(writer), pytest.raises(BusyError), writer.transaction():
        writer.update("t", {"n": 10}, [Condition("id", "=", 1)])
        waiting = threading.Thread(target=other)
        waiting.start()
        writer.update("t", {"n": 11}, [Condition("id", "=", 2)])
    waiting.join()
    table.execute("commit")
    assert table.rows("select n from t order by id limit 2") == [(21,), (20,)]


def test_after_the_server_has_ended_a_deadlock_nothing_more_is_written(table):
    table.execute("begin")
    table.execute("update t set n = n + 20 where id >= 3")  # as above
    table.execute("update t set n = 20 where id = 2")

    def other():
        table.execute("update t set n = 21 where id = 1")

    writer = MySQLWriter(table.url, "app/user", timeout=60)
    with closing(writer), pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        writer.update("t", {"n": 10}, [Condition("id", "=", 1)])
        waiting = threading.Thread(target=other)
        waiting.start()
        with pytest.raises(BusyError), writer.transaction():
            writer.update("t", {"n": 11}, [Condition("id", "=", 2)])
        writer.insert("t", {"id": 9, "n": 9})
    waiting.join()
    table.execute("commit")
    assert table.rows("select id, n from t where id in (1, 2, 9) order by id") == [(1, 21), (2, 20)]


@pytest.mark.parametrize("text", ["it's", "' or 1 = 1 -- ", "a\\'b", "a\nb", "a\\"])
def test_a_quote_in_a_value_ends_nothing_wherever_the_server_looks_for_it(table, text):
    """MySQL looks inside derived tables by writing the condition down anew."""
    sql = "select * from (select :text as a union select 'other') q where a = :text"
    for opened in (table.reader(), table.writer()):
        assert opened.query(sql, {"text": text}) == [(text,)]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (r"select 'a\b'", r"a\b"),
        (r"select '\' as a from t where 'x' <> ' limit 0 -- ' limit 1", "\\"),
        (r"""select 'it''s \''' as "a\b" """, r"it's \'"),
        (r"select max('a_b') from t where 'a_b' like 'a\_b' and 'axb' not like 'a\_b'", "a_b"),
    ],
)
def test_a_backslash_in_a_statement_is_a_letter(table, sql, told):
    reader = table.reader()
    assert reader.query(sql) == [(told,)]
    with reader.ask(sql) as answer:
        assert [tuple(row) for batch in answer.batches for row in batch] == [(told,)]


def test_what_an_app_made_with_quotes_and_backslashes_is_read_and_computed_as_it_means(table):
    """MySQL keeps it as a text, and reads that in the mode of whoever opens the table first."""
    table.execute("set sql_mode = ''")
    table.execute(
        r"""create table odd (id integer primary key, a varchar(20) default ('it''s'),
        b varchar(40) generated always as (concat(a, '\\ x''y')) stored, check (a <> 'don''t \\'))"""
    )
    for opened in (table.reader, table.writer):
        table.execute("flush tables")
        assert opened().count("odd") == 0
    table.execute("flush tables")
    writer = table.writer()
    with writer.transaction():
        writer.insert("odd", {"id": 1})
    table.execute("insert into odd (id) values (2)")
    assert writer.select("odd", ["a", "b"]) == [("it's", r"it's\ x'y")] * 2
    with pytest.raises(ConstraintError), writer.transaction():
        writer.insert("odd", {"id": 3, "a": "don't \\"})


def test_the_lock_of_dbctl_tells_who_holds_it_and_ends_with_the_session(table):
    first, second = table.writer(), table.writer()
    with first.lock("users delete"):
        with pytest.raises(BusyError) as caught, second.lock("roles create"):
            pass
        told = str(caught.value)
        assert f"by dbctl users delete (pid {os.getpid()} on " in told
        assert f"session {first._session.number} of the server" in told
        table.execute(f"kill {first._session.number}")
        with second.lock("roles create"):
            pass


def test_the_lock_is_of_one_database_and_not_of_a_server(table):
    with (
        servers.mysql_database() as url,
        closing(MySQLWriter(url, "app/other", timeout=0)) as other,
        table.writer().lock("users delete"),
        other.lock("users delete"),
    ):
        pass


def test_the_holders_of_a_database_are_the_sessions_of_other_processes(table):
    own = table.writer()._session.number
    with closing(servers.mysql_connection(table.url)) as other:
        owners = {holder.pid: holder.owner for holder in registry.holders(table.url, "app/user")}
        assert owners[other.thread_id()] == "root"
        assert own not in owners


# What ends a session -------------------------------------------------------------------------------------------------


def test_a_reader_whose_session_was_ended_reads_again_and_a_writer_does_not(table):
    reader, writer = table.reader(), table.writer()
    for opened in (reader, writer):
        assert opened.count("t") == 5
    with pytest.raises(UnreachableError) as caught, writer.transaction():
        writer.delete("t", [])
        table.execute(f"kill {writer._session.number}")
        writer.update("t", {"n": 0}, [])
    assert "rolled back" in caught.value.hint
    with pytest.raises((UnreachableError, RuntimeError)):
        writer.count("t")
    table.execute(f"kill {reader._session.number}")
    assert reader.count("t") == 5


def test_a_commit_that_breaks_off_is_told_as_one_that_may_have_been_made(table):
    writer = table.writer()
    with pytest.raises(UnreachableError) as caught, writer.transaction():
        writer.delete("t", [])
        number = writer._session.number
        table.execute(f"kill {number}")
        while table.rows(f"select id from information_schema.processlist where id = {number}"):
            time.sleep(0.01)
    assert "look whether it was made" in caught.value.hint
    assert table.rows("select count(*) from t") == [(5,)]


SLEEPER = """
import sys
from dbctl import signals as interrupt
from dbctl.engines.mysql.writer import MySQLWriter
from dbctl.url import parse
interrupt.listen()
writer = MySQLWriter(parse(sys.argv[1]), "app/user", timeout=1)
try:
    with writer.transaction():
        writer.delete("t", [])
        print("deleted", flush=True)
        writer.query("select sleep(600)")
except interrupt.Interrupted as error:
    sys.exit(error.exit_status)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_runs_on_the_server_and_rolls_everything_back(table, number):
    ran = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, servers.text(table.url)], stdout=subprocess.PIPE, text=True
    )
    sleeping = "select count(*) from information_schema.processlist where db = database() and info = 'select sleep(600)'"
    with ran:
        assert ran.stdout.readline() == "deleted\n"
        while table.rows(sleeping) == [(0,)]:
            assert ran.poll() is None
        ran.send_signal(number)
        assert ran.wait() == 128 + number
    deadline = time.monotonic() + 60
    while table.rows(sleeping) != [(0,)]:
        assert time.monotonic() < deadline
    table.execute("set innodb_lock_wait_timeout = 50")
    table.execute("update t set n = n + 10")
    assert table.rows("select count(*) from t") == [(5,)]


def test_a_signal_between_a_question_and_its_answer_ends_the_session(table):
    """What is asked next would wait for that answer, and take it for its own."""
    writer = table.writer()
    session = writer._session

    def interrupted(**_):
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted), writer.transaction():
        writer.delete("t", [])
        session._read_query_result = interrupted
        writer.query("select sleep(600)")
    with pytest.raises(RuntimeError, match="closed"):
        writer.count("t")
    deadline = time.monotonic() + 60
    while table.rows(f"select count(*) from information_schema.processlist where id = {session.number}") != [
        (0,)
    ]:
        assert time.monotonic() < deadline
    table.execute("set innodb_lock_wait_timeout = 50")
    table.execute("update t set n = n + 10")
    assert table.rows("select count(*) from t") == [(5,)]


# Transactions --------------------------------------------------------------------------------------------------------


def test_after_a_failure_that_somebody_swallowed_nothing_is_written(table):
    writer = table.writer()
    with pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        writer.delete("t", [Condition("id", "=", 1)])
        with pytest.raises(ConstraintError):
            writer.insert("t", {"id": 2})
    assert table.rows("select count(*) from t") == [(5,)]
    with pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        with pytest.raises(ConstraintError):
            writer.insert("t", {"id": 2})
        writer.delete("t", [])
    assert writer.count("t") == 5


def test_a_failure_inside_a_nested_transaction_spoils_only_that_one(table):
    writer = table.writer()
    with writer.transaction():
        with pytest.raises(ConstraintError), writer.transaction():
            writer.delete("t", [Condition("id", "=", 1)])
            writer.insert("t", {"id": 2})
        writer.delete("t", [Condition("id", "=", 3)])
    assert table.rows("select id from t order by id") == [(1,), (2,), (4,), (5,)]


def test_a_refused_row_is_told_without_its_values(table):
    table.execute(
        "create table s (token varchar(40) unique, other text not null, e enum('a'), n integer, check (token <> 'x'))"
    )
    table.execute("insert into s values ('hush-hush', 'x', 'a', 1)")
    writer = table.writer()
    good = {"token": "hush-hush-2", "other": "x"}
    for values in (
        good | {"token": "hush-hush"},
        good | {"other": None},
        good | {"e": "hush-hush"},
        good | {"n": "hush-hush"},
        good | {"token": "x"},
        good | {"token": "hush-hush" * 9},
    ):
        with pytest.raises(DbctlError) as caught, writer.transaction():
            writer.insert("s", values)
        assert caught.value.code in ("constraint", "value-invalid")
        assert "hush-hush" not in str(caught.value)


# What is not allowed, or not there -----------------------------------------------------------------------------------


def test_a_missing_right_is_told_with_the_statement_that_grants_it(table):
    database = table.url.path
    table.execute('create table "a`b" (id integer primary key)')
    with role(table, f"select on {database}.t") as who:
        writer = table.writer(**who)
        assert writer.count("t") == 5
        assert "a`b" not in writer.tables()
        for write, wanted in (
            (
                lambda: writer.delete("t", []),
                f"GRANT SELECT, DELETE ON `{database}`.`t` TO '{who['user']}'@'%';",
            ),
            (lambda: writer.update("t", {"n": 1}, []), "GRANT SELECT, UPDATE ON"),
            (lambda: writer.insert("t", {"id": 9}), "GRANT SELECT, INSERT ON"),
        ):
            with pytest.raises(PrivilegeMissingError, match="command denied") as caught, writer.transaction():
                write()
            assert wanted in caught.value.hint
            told = caught.value.hint
            table.execute(told[told.index("GRANT") :].rstrip(";"))
        with pytest.raises(PrivilegeMissingError) as caught:
            writer.query('select * from "a`b"')
        assert f"GRANT SELECT ON `{database}`.`a``b` TO" in caught.value.hint


def test_a_server_that_is_not_there_and_a_database_that_is_not(table):
    away = parse("mysql://someone:hush-hush@127.0.0.1:1/app")
    missing = structs.replace(table.url, path="no such database")
    wrong = structs.replace(table.url, user="nobody", password=Secret("hush-hush"))
    nowhere = parse("mysql://root@/app?unix_socket=/nonexistent/socket")
    for url, reason in (
        (away, "refused"),
        (missing, "no such database"),
        (wrong, "denied"),
        (nowhere, "No such file"),
    ):
        for mode in (registry.open_for_reading, registry.open_for_writing):
            more = {} if mode is registry.open_for_reading else {"pragmas": {}}
            with pytest.raises(UnreachableError, match=reason) as caught:
                mode(url, "app/user", timeout=0.1, **more)
            assert "hush-hush" not in f"{caught.value} {caught.value.hint} {caught.value.__context__!r}"


def test_a_user_without_any_right_to_a_database_is_told_what_to_grant(table):
    with role(table) as who, pytest.raises(UnreachableError, match="denied") as caught:
        table.reader(**who)
    assert (
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{table.url.path}`.* TO '{who['user']}'@"
        in caught.value.hint
    )


def test_a_password_is_taken_as_utf8_and_a_wrong_one_never_shown(table):
    name = f"u{table.url.path[-12:]}"
    table.execute(f"create user {name} identified by 'pä🍲'")
    try:
        table.execute(f"grant all on {table.url.path}.* to {name}")
        assert table.reader(user=name, password=Secret("pä🍲")).count("t") == 5
    finally:
        table.execute(f"drop user {name}")


@pytest.mark.parametrize("setting", ["--read-only=1", "--transaction-read-only=1"])
def test_what_somebody_has_set_to_be_read_only_is_not_written_by_those_whom_the_server_would_let(setting):
    server = servers.private_mysql(
        setting
    )  # a replica, above all: what is written there is on no other server
    with closing(servers.mysql_connection(server)) as own, own.cursor() as cursor:
        cursor.execute("set session transaction read write")
        cursor.execute("create database kept")
        cursor.execute("create table kept.t (id integer primary key)")
    url = structs.replace(server, path="kept")
    with pytest.raises(ReadOnlyError, match="read_only is on") as caught:
        MySQLWriter(url, "app/user", timeout=1)
    assert "Nothing was changed" in caught.value.hint
    with closing(MySQLReader(url, "app/user", timeout=1)) as reader:
        assert reader.count("t") == 0


def test_a_server_that_is_told_to_be_read_only_and_one_that_takes_nobody_else_are_told():
    server = servers.private_mysql("--max-user-connections=0")
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as own,
        own.cursor() as cursor,
    ):
        cursor.execute("create table t (id integer primary key)")
        cursor.execute("create user r@localhost with max_user_connections 1")
        cursor.execute(f"grant all on {url.path}.* to r@localhost")
        as_app = structs.replace(url, user="r")
        with closing(MySQLWriter(as_app, "app/user", timeout=1)) as writer:
            cursor.execute("set global read_only = 1")  # after it was looked at
            with pytest.raises(ReadOnlyError), writer.transaction():
                writer.insert("t", {"id": 1})
            with pytest.raises(UnreachableError, match="max_user_connections"):
                MySQLReader(as_app, "app/user", timeout=1)


@pytest.mark.parametrize(
    ("number", "told", "code"),
    [
        (1021, "Disk full", "disk-full"),
        (1114, "The table 't' is full", "disk-full"),
        (1205, "Lock wait timeout exceeded", "busy"),
        (3572, "Statement aborted because lock(s) could not be acquired", "busy"),
        (1213, "Deadlock found", "busy"),
        (1020, "Record has changed", "changed-meanwhile"),
        (1290, "running with the --read-only option", "read-only"),
        (1290, "running with the --secure-file-priv option", "query-failed"),
        (1836, "Running in read-only mode", "read-only"),
        (1451, "Cannot delete or update a parent row", "constraint"),
        (3819, "Check constraint is violated", "constraint"),
        (1877, "Table is corrupted", "corrupt"),
        (1366, "Incorrect integer value", "value-invalid"),
        (
            1227,
            "Access denied; you need (at least one of) the SUPER, X privilege(s) for this",
            "privilege-missing",
        ),
    ],
)
def test_what_a_server_reports_is_told_by_its_number(table, number, told, code):
    text = told.replace("'", "''")
    table.execute(
        f"create trigger g before insert on t for each row signal sqlstate '45000' set mysql_errno = {number}, message_text = '{text}'"
    )
    writer = table.writer()
    with pytest.raises(DbctlError) as caught, writer.transaction():
        writer.insert("t", {"id": 9})
    assert caught.value.code == code
    assert writer.count("t") == 5


def test_a_server_that_writes_names_in_small_letters_is_read_as_it_spells_them():
    server = servers.private_mysql("--lower-case-table-names=1")
    with (
        servers.mysql_database(server=server) as url,
        closing(MySQLWriter(url, "app/user", timeout=1)) as writer,
    ):
        with writer.schema_transaction():
            writer.run_statement(
                'create table "User" (id integer primary key, boss integer, foreign key (boss) references "User" (id))'
            )
        assert list(writer.tables()) == ["user"]
        assert [key.table for key in writer.references("user")] == ["user"]
        with pytest.raises(SchemaLacksError, match="table User"):
            writer.count("User")


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        ("10.11.19-MariaDB-0+deb12u1", False),
        ("5.5.5-10.6.21-MariaDB-log", False),
        ("11.8.2-MariaDB", False),
        ("8.0.44", False),
        ("8.4.7-commercial", False),
        ("9.5.0", False),
        ("10.5.29-MariaDB", True),
        ("5.5.5-10.3.39-MariaDB", True),
        ("5.7.44-log", True),
        ("8.0.16", True),
        ("nonsense", True),
    ],
)
def test_servers_that_are_too_old_are_refused(told, refused):
    if refused:
        with pytest.raises(NotSupportedError, match=told.partition("-")[0]) as caught:
            server_of(told, "app/user")
        assert "MySQL 8.0.17 and MariaDB 10.6.0" in caught.value.hint
    else:
        assert server_of(told, "app/user").product == ("MariaDB" if "Maria" in told else "MySQL")


# Options of a URL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("nosuch=hush-hush", "no option 'nosuch'"),
        ("ssl-mode=hush-hush", "ssl-mode is one of"),
        ("connect_timeout=hush-hush", "no number"),
        ("unix_socket=a%00b", "UTF-8"),
    ],
)
def test_options_of_a_url_that_are_not_known_are_refused_without_what_they_say(mysql, options, reason):
    with pytest.raises(UrlInvalidError, match=reason) as caught:
        mysql.reader(options=options)
    assert "hush-hush" not in str(caught.value)


def test_a_url_without_a_database_is_refused_and_what_orms_add_is_left_out(mysql):
    with pytest.raises(UrlInvalidError, match="names no database"):
        mysql.reader(path="")
    options = (
        "connection_limit=5&pool_timeout=7&charset=latin1&connect_timeout=7&ssl-mode=PREFERRED&timezone=Z"
    )
    reader = mysql.reader(options=options)
    assert reader.query("select @@character_set_client, @@time_zone") == [("utf8mb4", "+00:00")]


@pytest.mark.parametrize(
    ("options", "checked", "named"),
    [
        ("ssl=true", False, False),
        ("ssl-mode=REQUIRED", False, False),
        ("sslaccept=strict", True, True),
        ("ssl-mode=VERIFY_CA", True, False),
        ("ssl_ca=BUNDLE", True, False),
        ("ssl-mode=VERIFY_IDENTITY&ssl-ca=BUNDLE", True, True),
        ("sslcert=BUNDLE", True, False),
    ],
)
def test_tls_is_asked_for_in_the_words_of_mysql_and_of_prisma(options, checked, named):
    bundle = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    context = connecting(parse(f"mysql://u@h/d?{options.replace('BUNDLE', bundle)}"))["ssl"]
    assert (context.verify_mode == ssl.CERT_REQUIRED, context.check_hostname) == (checked, named)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", ("preferred", "", "", "")),
        ("ssl=true", ("required", "", "", "")),
        ("ssl-cert=c&ssl-key=k", ("required", "", "c", "k")),
        ("ssl_ca=a&ssl_cert=c&ssl_key=k", ("verify_ca", "a", "c", "k")),
        ("sslcert=a&sslaccept=strict", ("verify_identity", "a", "", "")),
        ("ssl-mode=disabled", ("disabled", "", "", "")),
    ],
)
def test_the_words_for_encryption_are_told_apart(options, told):
    asked = encryption(parse(f"mysql://u@h/d?{options}"))
    assert (asked.mode, asked.authority, asked.certificate, asked.key) == told


@pytest.mark.parametrize("mode", MODES)
def test_the_servers_own_programs_are_told_the_same(mode):
    mariadb, mysql = server_of("10.11.19-MariaDB", "a"), server_of("8.4.7", "a")
    url = parse(f"mysql://u@h/d?ssl-mode={mode}")
    for server, wanted in (
        (mysql, f'ssl-mode="{mode.upper()}"'),
        (mariadb, {"disabled": 'ssl="0"', "preferred": ""}.get(mode, 'ssl="1"')),
    ):
        with client_programs.at(url, server) as word:
            text = Path(word.partition("=")[2]).read_text()
        assert wanted in text
        assert ("ssl-verify-server-cert" in text) == (server is mariadb and mode.startswith("verify"))


def test_tls_is_left_out_only_where_the_url_says_so_or_a_socket_is_used():
    assert connecting(parse("mysql://u@h/d?ssl-mode=DISABLED"))["ssl_disabled"]
    assert connecting(parse("mysql://u@/d?unix_socket=/s"))["ssl_disabled"]
    as_host = connecting(parse("mysql://u@%2Fs/d"))
    assert (as_host["host"], as_host["unix_socket"], as_host["ssl_disabled"]) == ("localhost", "/s", True)
    assert not {"ssl", "ssl_disabled"} & set(connecting(parse("mysql://u@h/d")))


@pytest.mark.parametrize("options", ["", "ssl=true"])
def test_authorities_that_nothing_is_checked_by_are_not_loaded(options):
    told = connecting(parse(f"mysql://u@h/d?{options}"))
    with closing(Session(**told, defer_connect=True)) as one:
        assert one.ctx.cert_store_stats()["x509"] == 0


def test_a_certificate_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "no.pem").write_text("nothing")
    for path in (tmp_path / "no.pem", tmp_path / "missing.pem"):
        with pytest.raises(UrlInvalidError, match=path.name):
            connecting(parse(f"mysql://u@h/d?ssl-ca={path}"))


def _cipher(made) -> str:
    return made.rows("show session status like 'Ssl_cipher'")[0][1]


def test_tls_that_is_required_is_never_left_out(mysql):
    if mysql.rows("show variables like 'have_ssl'") == [("have_ssl", "YES")] or _cipher(mysql):
        pytest.skip("the server has TLS")
    with pytest.raises(UnreachableError, match="SSL"):
        mysql.reader(options="ssl-mode=REQUIRED")


def test_a_server_that_wants_encryption_is_reached_and_known_by_its_certificate(tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    for name, one in (("authority", authority), ("stranger", stranger)):
        one.cert_pem.write_to_path(tmp_path / name)
    authority.issue_cert("db.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "certificate")
    port = servers.free_port()
    listening = ("--skip-networking=OFF", "--bind-address=127.0.0.1", f"--port={port}")
    server = servers.private_mysql(*listening, certificate=tmp_path / "certificate")
    socket_of = server.options

    def encrypted(options):
        with closing(
            MySQLReader(structs.replace(server, options=f"{socket_of}&{options}"), "app/user", timeout=1)
        ) as one:
            return one.query("show session status like 'Ssl_cipher'")[0][1] != ""

    for options in ("ssl-mode=REQUIRED", "ssl=true", f"ssl-ca={tmp_path}/authority"):
        assert encrypted(options)
    by_port = structs.replace(server, host="127.0.0.1", port=port, options="")
    with closing(
        MySQLReader(by_port, "app/user", timeout=1)
    ) as one:  # asked for nothing, and it takes nobody else
        assert one.query("show session status like 'Ssl_cipher'")[0][1] != ""
    with closing(
        MySQLReader(structs.replace(server, options=f"{socket_of}&ssl=true"), "app/user", timeout=1)
    ) as one:
        for options, code in (("ssl=true", ["server-not-proven"]), ("ssl-mode=VERIFY_IDENTITY", [])):
            one._url = structs.replace(server, host="db.example", options=options)
            assert [told.code for told in one._encryption()] == code
    for options, reason in (
        (f"ssl-mode=VERIFY_CA&ssl-ca={tmp_path}/stranger", "certificate verify failed"),
        (
            f"ssl-mode=VERIFY_IDENTITY&ssl-ca={tmp_path}/authority",
            "certificate verify failed",
        ),  # of another name
    ):
        with pytest.raises(UnreachableError, match=reason):
            encrypted(options)


OPTION_FILE = """
# of every client
[mysqldump]
password = wrong
[client]
user = {user}
password = "p#w'\\s\\""   # quoted
"""


def test_a_password_may_stand_in_the_option_file_of_mysqls_clients(table, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    name = f"u{table.url.path[-12:]}"
    table.execute(f"""create user {name} identified by 'p#w'' "'""")
    file = tmp_path / ".my.cnf"
    try:
        table.execute(f"grant all on {table.url.path}.* to {name}")
        file.write_text(OPTION_FILE.format(user=name))
        for user in (name, ""):
            assert table.reader(user=user).query("select current_user()") == [(f"{name}@%",)]
        with pytest.raises(UnreachableError):
            table.reader(user="somebody_else")
        file.write_text(OPTION_FILE.format(user=name) + "host = db.example\n")
        with pytest.raises(UnreachableError):
            table.reader(user=name)
        file.chmod(0o666)
        with pytest.raises(FileFailedError, match="others may write"):
            table.reader(user=name)
        assert table.reader(user="root", password=Secret("")).count("t") == 5
    finally:
        table.execute(f"drop user {name}")


def test_a_missing_driver_is_told_with_the_line_that_installs_it(tmp_path):
    (tmp_path / "pymysql").mkdir()
    (tmp_path / "pymysql" / "__init__.py").write_text("raise ImportError(\"No module named 'pymysql'\")")
    command = [sys.executable, "-m", "dbctl", "--url", "mysql://u@h/d", "stats", "overview"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "pip install 'dbctl[mysql]'" in ran.stderr


def test_every_failure_of_a_session_is_one_of_ours(table):
    table.execute(
        "create function f() returns integer deterministic begin signal sqlstate '45000' set message_text = 'as it likes'; return 1; end"
    )
    with pytest.raises(DbctlError, match="as it likes"):
        table.reader().query("select f()")
