"""Sessions of MySQL and MariaDB: locks, interruptions, refused actions, hidden secrets, and connection options."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pymysql
import pytest
import trustme
from msgspec import structs

from dbctl.engines import registry
from dbctl.engines.contract.database import Condition
from dbctl.engines.contract.streaming import UserQuery
from dbctl.engines.mysql import dump_programs
from dbctl.engines.mysql.database import MySQLReader, MySQLWriter
from dbctl.engines.mysql.dialect import PROCESSES, parse_server
from dbctl.engines.mysql.engine import ENGINE
from dbctl.engines.mysql.options import MODES, connection_arguments, read_encryption
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.swap import MySQLServer
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ConcurrentChangeError,
    ConstraintError,
    FileFailedError,
    PrivilegeMissingError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError, UrlInvalidError
from dbctl.model import Secret
from dbctl.signals import Interrupted
from dbctl.url import parse_url
from tests import servers
from tests.in_process import CLEAN_ENVIRONMENT, run_command
from tests.services.larder_app import fill_mysql


@pytest.fixture
def table(mysql):
    mysql.execute("create table t (id integer primary key, n integer unique)")
    mysql.execute("insert into t values (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)")
    return mysql


@contextmanager
def create_user(database, *rights):
    """Create a user with some rights, and drop it at the end."""
    name = f"u{database.url.path[-12:]}"
    database.execute(f"create user {name}@'%' identified by 'pw'")
    try:
        for right in rights:
            database.execute(f"grant {right} to {name}@'%'")
        yield {"user": name, "password": Secret("pw")}
    finally:
        for session in database.opened:
            session.close()
        database.execute(f"drop user {name}@'%'")


def test_full_server_is_reported(table):
    with create_user(table, f"select on {table.url.path}.*") as user:
        table.execute(f"alter user {user['user']}@'%' with max_user_connections 1")
        table.reader(**user)
        with pytest.raises(UnreachableError, match="max_user_connections") as caught:
            table.reader(**user)
        assert "MAX_USER_CONNECTIONS 0" in caught.value.hint


def test_hidden_tables_are_a_possible_cause(table, answer):
    table.execute("create table users (id integer primary key)")
    profile = ["users", "list", "--profile", "vaultwarden", "--url"]
    with create_user(table, f"create on {table.url.path}.*") as user:
        url = structs.replace(table.url, user=user["user"], password=None)
        error = answer(*profile, f"main={str(url).replace('@', ':pw@')}", status=2)["error"]
    assert (error["code"], "may not read" in error["hint"]) == ("wrong-app", True)


# Read-only queries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["reader", "writer"])
def test_queries_cannot_write(table, mode):
    if servers.mysql_server().is_mariadb:
        table.execute("create sequence s")
    session = getattr(table, mode)()
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
            session.query(sql)
    assert table.rows("select count(*), sum(n) from t") == [(5, 15)]
    assert not os.path.exists("/tmp/dbctl-was-here")  # noqa: PTH110, S108


def test_writing_function_is_rejected_by_the_server(table):
    table.execute(
        "create function f() returns int deterministic modifies sql data begin delete from t; return 1; end"
    )
    with pytest.raises(ReadOnlyError):
        table.reader().query("select f()")
    writer = table.writer()
    with pytest.raises(ReadOnlyError):
        writer.query("select f()")
    with writer.transaction():
        writer.query("select f()")  # a writing transaction cannot forbid it, so it is rolled back
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
def test_read_only_statements_run(table, sql):
    assert table.writer().query(sql)


def test_query_inside_transaction_sees_its_changes(table):
    writer = table.writer()
    with writer.transaction():
        writer.delete("t", [Condition("id", "=", 1)])
        assert writer.query("select count(*) from t") == [(4,)]
        with pytest.raises(QueryFailedError):
            writer.query("select nosuch from t")
        writer.delete("t", [Condition("id", "=", 2)])
    assert table.rows("select count(*) from t") == [(3,)]


def test_server_rejects_writes_of_a_reader(table):
    session = table.reader().connection.session
    for sql in ("insert into t values (9, 9)", "create table u (a integer)", "drop table t"):
        with pytest.raises(Exception, match="READ ONLY"):
            session.run(sql)


def test_session_rejects_multiple_statements(table):
    with pytest.raises(Exception, match="syntax"):
        table.writer().connection.session.run("select 1; select 2")


# Locks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["begin; update t set n = 9 where id = 1", "lock tables t write"])
def test_busy_error_names_the_lock_holder(table, lock):
    for sql in lock.split("; "):
        table.execute(sql)
    pid = table.connection.thread_id()
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


def test_zero_timeout_does_not_wait(table):
    table.execute("begin")
    table.execute("select * from t for update")
    writer = registry.load_engine(table.url.engine).open_for_writing(
        table.url, "app/user", timeout=0, pragmas={}
    )
    start = time.monotonic()
    with pytest.raises(BusyError), writer.transaction():
        writer.select("t", ["id"], for_update=True)
    with pytest.raises(BusyError), writer.transaction():
        writer.delete("t", [])
    writer.close()
    assert time.monotonic() - start < 30  # not without a limit


@pytest.mark.parametrize(
    "isolation", [pytest.param("repeatable read", marks=pytest.mark.mariadb), "serializable"]
)
def test_concurrent_change_is_not_overwritten(table, isolation):
    """A server that does not reject such a change, like MySQL, locks the rows that a transaction reads."""
    writer = table.writer()
    if isolation == "serializable":
        if servers.mysql_server().is_mariadb:
            writer.connection.session.run("set session innodb_snapshot_isolation = 0")
            writer.connection.session.isolation = isolation
            writer.connection.session.apply_settings()
        assert writer.connection.session.isolation == isolation
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
    except ConcurrentChangeError:
        assert table.rows("select n from t where id = 1") == [(100,)]
        assert isolation == "repeatable read"
    else:
        assert table.rows("select n from t where id = 1") == [(50,)]
        assert isolation == "serializable"


@pytest.mark.mariadb
def test_no_write_after_a_rejected_concurrent_change(table):
    writer = table.writer()
    with pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        writer.delete("t", [Condition("id", "=", 5)])
        with pytest.raises(ConcurrentChangeError), writer.transaction():
            writer.select("t", ["n"])
            table.execute("update t set n = 100 where id = 1")
            writer.update("t", {"n": 50}, [Condition("id", "=", 1)])
        writer.insert("t", {"id": 9, "n": 9})
    assert table.rows("select id from t order by id") == [(1,), (2,), (3,), (4,), (5,)]
    with writer.transaction():
        writer.insert("t", {"id": 9, "n": 9})
    assert writer.count("t") == 6


def test_deadlock_ends_both_transactions(table):
    table.execute("begin")
    table.execute(
        "update t set n = n + 20 where id >= 3"
    )  # the server ends the transaction with fewer changes
    table.execute("update t set n = 20 where id = 2")

    def update_first_row():
        table.execute("update t set n = 21 where id = 1")

    writer = MySQLWriter(table.url, "app/user", timeout=60)
    with closing(writer), pytest.raises(ConcurrentChangeError), writer.transaction():
        writer.update("t", {"n": 10}, [Condition("id", "=", 1)])
        thread = threading.Thread(target=update_first_row)
        thread.start()
        writer.update("t", {"n": 11}, [Condition("id", "=", 2)])
    thread.join()
    table.execute("commit")
    assert table.rows("select n from t order by id limit 2") == [(21,), (20,)]


def test_no_write_after_a_deadlock(table):
    table.execute("begin")
    table.execute(
        "update t set n = n + 20 where id >= 3"
    )  # the server ends the transaction with fewer changes
    table.execute("update t set n = 20 where id = 2")

    def update_first_row():
        table.execute("update t set n = 21 where id = 1")

    writer = MySQLWriter(table.url, "app/user", timeout=60)
    with closing(writer), pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        writer.update("t", {"n": 10}, [Condition("id", "=", 1)])
        thread = threading.Thread(target=update_first_row)
        thread.start()
        with pytest.raises(ConcurrentChangeError), writer.transaction():
            writer.update("t", {"n": 11}, [Condition("id", "=", 2)])
        writer.insert("t", {"id": 9, "n": 9})
    thread.join()
    table.execute("commit")
    assert table.rows("select id, n from t where id in (1, 2, 9) order by id") == [(1, 21), (2, 20)]


@pytest.mark.parametrize("text", ["it's", "' or 1 = 1 -- ", "a\\'b", "a\nb", "a\\"])
def test_quotes_in_values_are_escaped_in_derived_tables(table, text):
    """MySQL pushes conditions into derived tables as text."""
    sql = "select * from (select :text as a union select 'other') q where a = :text"
    for session in (table.reader(), table.writer()):
        assert session.query(sql, {"text": text}) == [(text,)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (r"select 'a\b'", r"a\b"),
        (r"select '\' as a from t where 'x' <> ' limit 0 -- ' limit 1", "\\"),
        (r"""select 'it''s \''' as "a\b" """, r"it's \'"),
        (r"select max('a_b') from t where 'a_b' like 'a\_b' and 'axb' not like 'a\_b'", "a_b"),
    ],
)
def test_backslash_in_a_statement_is_a_plain_character(table, sql, expected):
    reader = table.reader()
    assert reader.query(sql) == [(expected,)]
    with reader.streams.query_read_only(UserQuery(sql)) as result:
        assert [tuple(row) for batch in result.batches for row in batch] == [(expected,)]


def test_quotes_and_backslashes_in_expressions_keep_their_meaning(table):
    """MySQL stores expressions as text, and parses them in the SQL mode of the session that opens the table first."""
    table.execute("set sql_mode = ''")
    table.execute(
        r"""create table odd (id integer primary key, a varchar(20) default ('it''s'),
        b varchar(40) generated always as (concat(a, '\\ x''y')) stored, check (a <> 'don''t \\'))"""
    )
    for open_session in (table.reader, table.writer):
        table.execute("flush tables")
        assert open_session().count("odd") == 0
    table.execute("flush tables")
    writer = table.writer()
    with writer.transaction():
        writer.insert("odd", {"id": 1})
    table.execute("insert into odd (id) values (2)")
    assert writer.select("odd", ["a", "b"]) == [("it's", r"it's\ x'y")] * 2
    with pytest.raises(ConstraintError), writer.transaction():
        writer.insert("odd", {"id": 3, "a": "don't \\"})


def test_lock_names_its_holder_and_ends_with_the_session(table):
    first, second = table.writer(), table.writer()
    with first.lock("users delete"):
        with pytest.raises(BusyError) as caught, second.lock("roles create"):
            pass
        message = str(caught.value)
        assert f"by dbctl users delete (pid {os.getpid()} on " in message
        assert f"session {first.connection.session.connection_id} of the server" in message
        table.execute(f"kill {first.connection.session.connection_id}")
        with second.lock("roles create"):
            pass


def test_lock_covers_one_database_only(table):
    with (
        servers.mysql_database() as url,
        closing(MySQLWriter(url, "app/other", timeout=0)) as other,
        table.writer().lock("users delete"),
        other.lock("users delete"),
    ):
        pass


def test_holders_are_sessions_of_other_processes(table):
    own_id = table.writer().connection.session.connection_id
    with closing(servers.mysql_connection(table.url)) as other:
        owners = {
            holder.pid: holder.owner
            for holder in registry.load_engine(table.url.engine).list_lock_holders(table.url, "app/user")
        }
        assert owners[other.thread_id()] == "root"
        assert own_id not in owners


def test_session_of_another_server_with_the_id_of_an_own_session_is_a_holder():
    first, second = (servers.private_mysql(*settings) for settings in (["--performance-schema=ON"], []))
    with (
        servers.mysql_database(server=first) as own_url,
        servers.mysql_database(server=second) as url,
        ExitStack() as stack,
    ):
        own_id = other_id = 0
        while own_id != other_id or not own_id:
            if own_id <= other_id:
                reader = stack.enter_context(closing(MySQLReader(own_url, "app/user", timeout=5)))
                own_id = reader.connection.session.connection_id
            else:
                other_id = stack.enter_context(closing(servers.mysql_connection(url))).thread_id()
        holders = registry.load_engine(url.engine).list_lock_holders(url, "app/user")
        assert other_id in {holder.pid for holder in holders}


# Interruptions -------------------------------------------------------------------------------------------------


def test_only_readers_reconnect_after_a_killed_session(table):
    reader, writer = table.reader(), table.writer()
    for session in (reader, writer):
        assert session.count("t") == 5
    with pytest.raises(UnreachableError) as caught, writer.transaction():
        writer.delete("t", [])
        table.execute(f"kill {writer.connection.session.connection_id}")
        writer.update("t", {"n": 0}, [])
    assert (caught.value.code, caught.value.exit_status) == ("connection-lost", 10)
    assert "rolled back" in caught.value.hint
    with pytest.raises((UnreachableError, RuntimeError)):
        writer.count("t")
    table.execute(f"kill {reader.connection.session.connection_id}")
    assert reader.count("t") == 5


@pytest.mark.parametrize(
    ("command", "statement", "status"),
    [
        pytest.param(  # in a new session
            "integrity check", "set session sql_mode = 'ANSI_QUOTES'", 0, marks=pytest.mark.mariadb
        ),
        ("backup create", "select @@version, coalesce(@@hostname", 10),
    ],
)
def test_session_that_is_killed_between_two_statements_is_reported(
    table, monkeypatch, tmp_path, command, statement, status
):
    killed, query = list[int](), Session.query

    def kill_before(session, sql, **options):
        text = sql.decode(errors="replace") if isinstance(sql, bytes) else sql
        if not killed and text.startswith(statement):
            killed.append(session.connection_id)
            table.execute(f"kill {killed[0]}")
        return query(session, sql, **options)

    table.execute("alter table t add check (n > 0)")
    config = f'[apps.a]\nprofile = "plain"\n[apps.a.databases]\nmain = "{servers.text(table.url)}"\n'
    (tmp_path / "dbctl.toml").write_text(f'{config}[apps.a.backup]\nrepository = "backups"\n')
    with monkeypatch.context() as patch:
        patch.setattr(Session, "query", kill_before)
        result = run_command(command.split(), environment=os.environ, cwd=tmp_path)
    assert killed, result.stderr
    assert result.returncode == status, result.stderr
    assert (b"connection to a/main was lost" in result.stderr) == bool(status)


def test_reader_that_lost_its_transaction_does_not_reconnect(table):
    reader = table.reader()
    with pytest.raises(UnreachableError), reader.connection.read_transaction():
        assert reader.query("select count(*) from t") == [(5,)]  # nested
        table.execute(f"kill {reader.connection.session.connection_id}")
        reader.count("t")


def test_interrupted_commit_is_reported_as_in_doubt(table):
    writer = table.writer()
    with pytest.raises(UnreachableError) as caught, writer.transaction():
        writer.delete("t", [])
        connection_id = writer.connection.session.connection_id
        table.execute(f"kill {connection_id}")
        while table.rows(f"select id from {PROCESSES} own where id = {connection_id}"):
            time.sleep(0.01)
    assert caught.value.code == "commit-in-doubt"
    assert table.rows("select count(*) from t") == [(5,)]


SLEEPER = """
import sys
from dbctl import signals
from dbctl.engines.mysql.database import MySQLWriter
from dbctl.url import parse_url
signals.install_handlers()
writer = MySQLWriter(parse_url(sys.argv[1]), "app/user", timeout=1)
try:
    with writer.transaction():
        writer.delete("t", [])
        print("deleted", flush=True)
        writer.query("select sleep(600)")
except signals.Interrupted as error:
    sys.exit(error.exit_status)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_the_statement_and_rolls_back(table, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, servers.text(table.url)], stdout=subprocess.PIPE, text=True
    )
    sleeping = f"select count(*) from {PROCESSES} own where db = database() and info = 'select sleep(600)'"
    with process:
        assert process.stdout.readline() == "deleted\n"
        while table.rows(sleeping) == [(0,)]:
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait() == 128 + number
    deadline = time.monotonic() + 60
    while table.rows(sleeping) != [(0,)]:
        assert time.monotonic() < deadline
    table.execute("set innodb_lock_wait_timeout = 50")
    table.execute("update t set n = n + 10")
    assert table.rows("select count(*) from t") == [(5,)]


SCRATCH = """
import sys
from contextlib import closing
from dbctl import signals
from dbctl.engines.mysql.database import open_scratch
from dbctl.url import parse_url
signals.install_handlers()
try:
    with closing(open_scratch(parse_url(sys.argv[1]), "app/user")) as scratch:
        print(scratch.connection.session.database, flush=True)
        scratch.query("select sleep(600)")
except signals.Interrupted as error:
    sys.exit(error.exit_status)
"""


def test_signal_during_a_statement_drops_the_scratch_database(table):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRATCH, servers.text(table.url)], stdout=subprocess.PIPE, text=True
    )
    with process:
        name = process.stdout.readline().strip()
        sleeping = f"select count(*) from {PROCESSES} own where db = '{name}' and info like '%sleep%'"
        while table.rows(sleeping) == [(0,)]:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert table.rows(f"show databases like '{name}'") == []


def test_temporary_database_of_a_killed_process_is_reported(table):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRATCH, servers.text(table.url)], stdout=subprocess.PIPE, text=True
    )

    def list_reported():
        return [finding.hint for finding in table.reader().checks.find_abandoned()]

    with process:
        name = process.stdout.readline().strip()
        assert not [hint for hint in list_reported() if name in hint]  # it is in use
        process.kill()
    session = f"select id from {PROCESSES} own where db = '{name}'"
    for (session_id,) in table.rows(session):  # the server notices the end only after the statement
        table.execute(f"kill {session_id}")
    deadline = time.monotonic() + 60
    while not (hints := [hint for hint in list_reported() if name in hint]):
        assert time.monotonic() < deadline
    table.execute(hints[0].partition("with: ")[2].rstrip(";"))
    assert table.rows(f"show databases like '{name}'") == []


def test_signal_before_a_result_ends_the_session(table):
    """Otherwise the next query would receive that result."""
    writer = table.writer()
    session = writer.connection.session

    def interrupt(**_):
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted), writer.transaction():
        writer.delete("t", [])
        session._read_query_result = interrupt
        writer.query("select sleep(600)")
    with pytest.raises(RuntimeError, match="closed"):
        writer.count("t")
    deadline = time.monotonic() + 60
    while table.rows(f"select count(*) from {PROCESSES} own where id = {session.connection_id}") != [(0,)]:
        assert time.monotonic() < deadline
    table.execute("set innodb_lock_wait_timeout = 50")
    table.execute("update t set n = n + 10")
    assert table.rows("select count(*) from t") == [(5,)]


# Transactions --------------------------------------------------------------------------------------------------------


def test_no_write_after_a_suppressed_error(table):
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


def test_error_in_nested_transaction_rolls_back_only_that_transaction(table):
    writer = table.writer()
    with writer.transaction():
        with pytest.raises(ConstraintError), writer.transaction():
            writer.delete("t", [Condition("id", "=", 1)])
            writer.insert("t", {"id": 2})
        writer.delete("t", [Condition("id", "=", 3)])
    assert table.rows("select id from t order by id") == [(1,), (2,), (4,), (5,)]


def test_constraint_error_hides_values(table):
    table.execute(
        "create table s (token varchar(40) unique, other text not null, e enum('a'), n integer, check (token <> 'x'))"
    )
    table.execute("insert into s values ('hush-hush', 'x', 'a', 1)")
    writer = table.writer()
    valid_values = {"token": "hush-hush-2", "other": "x"}
    for values in (
        valid_values | {"token": "hush-hush"},
        valid_values | {"other": None},
        valid_values | {"e": "hush-hush"},
        valid_values | {"n": "hush-hush"},
        valid_values | {"token": "x"},
        valid_values | {"token": "hush-hush" * 9},
    ):
        with pytest.raises(DbctlError) as caught, writer.transaction():
            writer.insert("s", values)
        assert caught.value.code in ("constraint", "value-invalid")
        assert "hush-hush" not in str(caught.value)


# Refused and missing objects -----------------------------------------------------------------------------------


def test_missing_right_has_a_grant_hint(table):
    database = table.url.path
    table.execute('create table "a`b" (id integer primary key)')
    with create_user(table, f"select on {database}.t") as credentials:
        writer = table.writer(**credentials)
        assert writer.count("t") == 5
        assert "a`b" not in writer.tables()
        for write, grant in (
            (
                lambda: writer.delete("t", []),
                f"GRANT SELECT, DELETE ON `{database}`.`t` TO '{credentials['user']}'@'%';",
            ),
            (lambda: writer.update("t", {"n": 1}, []), "GRANT SELECT, UPDATE ON"),
            (lambda: writer.insert("t", {"id": 9}), "GRANT SELECT, INSERT ON"),
        ):
            with pytest.raises(PrivilegeMissingError, match="command denied") as caught, writer.transaction():
                write()
            assert grant in caught.value.hint
            hint = caught.value.hint
            table.execute(hint[hint.index("GRANT") :].rstrip(";"))
        with pytest.raises(PrivilegeMissingError) as caught:
            writer.query('select * from "a`b"')
        assert f"GRANT SELECT ON `{database}`.`a``b` TO" in caught.value.hint


def test_missing_server_and_missing_database_are_unreachable(table):
    refused_url = parse_url("mysql://user:hush-hush@127.0.0.1:1/app")
    missing_database = structs.replace(table.url, path="no such database")
    wrong_password = structs.replace(table.url, user="no_such_user", password=Secret("hush-hush"))
    missing_socket = parse_url("mysql://root@/app?unix_socket=/nonexistent/socket")
    for url, reason in (
        (refused_url, "refused"),
        (missing_database, "no such database"),
        (wrong_password, "denied"),
        (missing_socket, "No such file"),
    ):
        for open_database in (ENGINE.open_for_reading, ENGINE.open_for_writing):
            with pytest.raises(UnreachableError, match=reason) as caught:
                open_database(url, "app/user", timeout=0.1)
            assert "hush-hush" not in f"{caught.value} {caught.value.hint} {caught.value.__context__!r}"


def test_user_without_rights_gets_a_grant_hint(table):
    with create_user(table) as credentials, pytest.raises(UnreachableError, match="denied") as caught:
        table.reader(**credentials)
    pattern = table.url.path.replace("_", r"\_")
    assert (
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{pattern}`.* TO '{credentials['user']}'@"
        in caught.value.hint
    )


def test_password_is_sent_as_utf8(table):
    name = f"u{table.url.path[-12:]}"
    table.execute(f"create user {name} identified by 'pä🍲'")
    try:
        table.execute(f"grant all on {table.url.path}.* to {name}")
        assert table.reader(user=name, password=Secret("pä🍲")).count("t") == 5
    finally:
        table.execute(f"drop user {name}")


@pytest.mark.parametrize("setting", ["--read-only=1", "--transaction-read-only=1"])
def test_administrators_cannot_write_to_a_read_only_server(setting):
    server = servers.private_mysql(setting)  # such as a replica: its changes would exist on no other server
    with closing(servers.mysql_connection(server)) as connection, connection.cursor() as cursor:
        cursor.execute("set session transaction read write")
        cursor.execute("create database app")
        cursor.execute("create table app.t (id integer primary key)")
    url = structs.replace(server, path="app")
    with pytest.raises(ReadOnlyError, match="read_only is on") as caught:
        MySQLWriter(url, "app/user", timeout=1)
    assert "Nothing was changed" in caught.value.hint
    with closing(MySQLReader(url, "app/user", timeout=1)) as reader:
        assert reader.count("t") == 0
    with pytest.raises(ReadOnlyError) as caught, MySQLServer(url, "app/user").central():
        pass
    assert "scratch in [apps.NAME.backup]" in caught.value.hint


@pytest.mark.parametrize("setting", ["innodb-read-only", "innodb-force-recovery=5"])
def test_setting_of_innodb_makes_a_server_read_only(setting):
    server = servers.private_mysql(f"--{setting}")
    with pytest.raises(ReadOnlyError, match="innodb_"):
        MySQLWriter(structs.replace(server, path="mysql"), "app/user", timeout=1)


def test_read_only_server_and_full_server_are_reported():
    server = servers.private_mysql("--max-user-connections=0")
    with (
        servers.mysql_database(server=server) as url,
        closing(servers.mysql_connection(url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("create table t (id integer primary key)")
        cursor.execute("create user r@localhost with max_user_connections 1")
        cursor.execute(f"grant all on {url.path}.* to r@localhost")
        app_url = structs.replace(url, user="r")
        with closing(MySQLWriter(app_url, "app/user", timeout=1)) as writer:
            cursor.execute("set global read_only = 1")  # after dbctl has checked it
            with pytest.raises(ReadOnlyError), writer.transaction():
                writer.insert("t", {"id": 1})
            with pytest.raises(UnreachableError, match="max_user_connections"):
                MySQLReader(app_url, "app/user", timeout=1)


@pytest.mark.parametrize(
    ("number", "message", "code"),
    [
        (1021, "Disk full", "disk-full"),
        (1114, "The table 't' is full", "query-failed"),
        (1205, "Lock wait timeout exceeded", "busy"),
        (3572, "Statement aborted because lock(s) could not be acquired", "busy"),
        (1213, "Deadlock found", "concurrent-change"),
        (9007, "Write conflict", "concurrent-change"),
        (1047, "WSREP has not yet prepared node for application use", "node-not-ready"),
        (1020, "Record has changed", "concurrent-change"),
        (1290, "running with the --read-only option", "read-only"),
        (1290, "running with the --secure-file-priv option", "query-failed"),
        (1836, "Running in read-only mode", "read-only"),
        (1036, "Table 't' is read only", "read-only"),
        (1451, "Cannot delete or update a parent row", "constraint"),
        (1317, "Query execution was interrupted", "query-failed"),
        (1969, "max_statement_time exceeded", "query-failed"),
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
def test_server_errors_are_converted_by_number(table, number, message, code):
    text = message.replace("'", "''")
    table.execute(
        f"create trigger g before insert on t for each row signal sqlstate '45000' set mysql_errno = {number}, message_text = '{text}'"
    )
    writer = table.writer()
    with pytest.raises(DbctlError) as caught, writer.transaction():
        writer.insert("t", {"id": 9})
    assert caught.value.code == code
    limit = "for all users until the server restarts, with: SET GLOBAL max_statement_time = 0;"
    assert (limit in str(caught.value.hint)) == (number == 1969)
    assert ("max_statement_time" in str(caught.value.hint)) == (number in (1317, 1969))
    assert ("GRANT X ON *.*" in str(caught.value.hint)) == (number == 1227)
    assert writer.count("t") == 5


def test_lower_case_table_names_are_read_as_stored():
    server = servers.private_mysql("--lower-case-table-names=1")
    with (
        servers.mysql_database(server=server) as url,
        closing(MySQLWriter(url, "app/user", timeout=1)) as writer,
    ):
        with writer.scripts.schema_transaction():
            writer.scripts.run_statement(
                'create table "User" (id integer primary key, boss integer, foreign key (boss) references "User" (id))'
            )
        assert list(writer.tables()) == ["user"]
        assert [key.table for key in writer.references("user")] == ["user"]
        with pytest.raises(SchemaMismatchError, match="table User"):
            writer.count("User")


@pytest.mark.parametrize(
    ("version", "is_refused"),
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
def test_old_servers_are_refused(version, is_refused):
    if is_refused:
        with pytest.raises(NotSupportedError, match=version.partition("-")[0]) as caught:
            parse_server(version, "app/user")
        assert "MySQL 8.0.17 and MariaDB 10.6.0" in caught.value.hint
    else:
        assert parse_server(version, "app/user").product == ("MariaDB" if "Maria" in version else "MySQL")


# Options of a URL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("nosuch=hush-hush", "no option 'nosuch'"),
        ("ssl-mode=hush-hush", "ssl-mode must be one of"),
        ("connect_timeout=hush-hush", "not a number"),
        ("unix_socket=a%00b", "UTF-8"),
    ],
)
def test_unknown_url_options_are_refused_without_their_values(mysql, options, reason):
    with pytest.raises(UrlInvalidError, match=reason) as caught:
        mysql.reader(options=options)
    assert "hush-hush" not in str(caught.value)


def test_url_requires_database_and_ignores_orm_options(mysql):
    with pytest.raises(UrlInvalidError, match="names no database"):
        mysql.reader(path="")
    options = (
        "connection_limit=5&pool_timeout=7&charset=latin1&connect_timeout=7&ssl-mode=PREFERRED&timezone=Z"
    )
    reader = mysql.reader(options=options)
    assert reader.query("select @@character_set_client, @@time_zone") == [("utf8mb4", "+00:00")]


@pytest.mark.parametrize(
    ("options", "is_verified", "checks_name"),
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
def test_tls_options_of_mysql_and_prisma_are_supported(options, is_verified, checks_name):
    bundle = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    context = connection_arguments(parse_url(f"mysql://u@h/d?{options.replace('BUNDLE', bundle)}"))["ssl"]
    assert (context.verify_mode == ssl.CERT_REQUIRED, context.check_hostname) == (is_verified, checks_name)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ("preferred", "", "", "")),
        ("ssl=true", ("required", "", "", "")),
        ("ssl-cert=c&ssl-key=k", ("required", "", "c", "k")),
        ("ssl_ca=a&ssl_cert=c&ssl_key=k", ("verify_ca", "a", "c", "k")),
        ("sslcert=a&sslaccept=strict", ("verify_identity", "a", "", "")),
        ("ssl-mode=disabled", ("disabled", "", "", "")),
    ],
)
def test_encryption_options_are_parsed(options, expected):
    parsed = read_encryption(parse_url(f"mysql://u@h/d?{options}"))
    assert (parsed.mode, parsed.authority, parsed.certificate, parsed.key) == expected


@pytest.mark.parametrize("mode", MODES)
def test_client_programs_get_the_same_tls_options(mode):
    mariadb, mysql = parse_server("10.11.19-MariaDB", "a"), parse_server("8.4.7", "a")
    url = parse_url(f"mysql://u@h/d?ssl-mode={mode}")
    for server, expected in (
        (mysql, f'ssl-mode="{mode.upper()}"'),
        (mariadb, {"disabled": 'ssl="0"', "preferred": ""}.get(mode, 'ssl="1"')),
    ):
        with dump_programs.write_connection_files(url, "larder/pantry", server) as option:
            text = Path(option.partition("=")[2]).read_text()
        assert expected in text
        verifies = f'ssl-verify-server-cert="{int(mode.startswith("verify"))}"\n'
        assert (verifies in text) == (server is mariadb)


def test_tls_is_disabled_only_by_url_or_socket():
    assert connection_arguments(parse_url("mysql://u@h/d?ssl-mode=DISABLED"))["ssl_disabled"]
    assert connection_arguments(parse_url("mysql://u@/d?unix_socket=/s"))["ssl_disabled"]
    arguments = connection_arguments(parse_url("mysql://u@%2Fs/d"))
    assert (arguments["host"], arguments["unix_socket"], arguments["ssl_disabled"]) == (
        "localhost",
        "/s",
        True,
    )
    assert not {"ssl", "ssl_disabled"} & set(connection_arguments(parse_url("mysql://u@h/d")))


@pytest.mark.parametrize("options", ["", "ssl=true"])
def test_unused_authorities_are_not_loaded(options):
    arguments = connection_arguments(parse_url(f"mysql://u@h/d?{options}"))
    with closing(Session(**arguments, defer_connect=True)) as session:
        assert session.ctx.cert_store_stats()["x509"] == 0


def test_unreadable_certificate_is_reported(tmp_path):
    (tmp_path / "no.pem").write_text("nothing")
    for path in (tmp_path / "no.pem", tmp_path / "missing.pem"):
        with pytest.raises(UrlInvalidError, match=path.name):
            connection_arguments(parse_url(f"mysql://u@h/d?ssl-ca={path}"))


def read_cipher(database) -> str:
    return database.rows("show session status like 'Ssl_cipher'")[0][1]


def test_required_tls_is_enforced(mysql):
    if mysql.rows("show variables like 'have_ssl'") == [("have_ssl", "YES")] or read_cipher(mysql):
        pytest.skip("the server has TLS")
    with pytest.raises(UnreachableError, match="SSL"):
        mysql.reader(options="ssl-mode=REQUIRED")


def test_server_certificate_is_verified(tmp_path):
    authority, other_authority = trustme.CA(), trustme.CA()
    for name, ca in (("authority", authority), ("other_authority", other_authority)):
        ca.cert_pem.write_to_path(tmp_path / name)
    authority.issue_cert("db.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "certificate")
    port = servers.free_port()
    network_options = ("--skip-networking=OFF", "--bind-address=127.0.0.1", f"--port={port}")
    server = servers.private_mysql(*network_options, certificate=tmp_path / "certificate")
    socket_option = server.options

    def is_encrypted(options):
        with closing(
            MySQLReader(structs.replace(server, options=f"{socket_option}&{options}"), "app/user", timeout=1)
        ) as reader:
            return reader.query("show session status like 'Ssl_cipher'")[0][1] != ""

    for options in ("ssl-mode=REQUIRED", "ssl=true", f"ssl-ca={tmp_path}/authority"):
        assert is_encrypted(options)
    tcp_url = structs.replace(server, host="127.0.0.1", port=port, options="")
    with closing(MySQLReader(tcp_url, "app/user", timeout=1)) as reader:
        # No TLS option, and the server requires TLS.
        assert reader.query("show session status like 'Ssl_cipher'")[0][1] != ""
    with closing(
        MySQLReader(structs.replace(server, options=f"{socket_option}&ssl=true"), "app/user", timeout=1)
    ) as reader:
        for options, code in (("ssl=true", ["server-not-verified"]), ("ssl-mode=VERIFY_IDENTITY", [])):
            reader.connection.url = structs.replace(server, host="db.example", options=options)
            assert [
                finding.code
                for finding in reader.checks.server_findings(writing=False)
                if finding.code in ("not-encrypted", "server-not-verified")
            ] == code
    for options, reason in (
        (f"ssl-mode=VERIFY_CA&ssl-ca={tmp_path}/other_authority", "certificate verify failed"),
        (
            f"ssl-mode=VERIFY_IDENTITY&ssl-ca={tmp_path}/authority",
            "certificate verify failed",
        ),  # the certificate has another name
    ):
        with pytest.raises(UnreachableError, match=reason):
            is_encrypted(options)


OPTION_FILE = """
# for every client
[mysqldump]
password = wrong
[client]
user = {user}
password = "p#w'\\s\\""   # quoted
"""


def test_user_without_home_directory_has_no_option_file(table, without_home):
    assert table.reader(user="root").count("t") == 5


def test_password_is_read_from_the_option_file(table, tmp_path, monkeypatch):
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
            table.reader(user="other_user")
        file.write_text(OPTION_FILE.format(user=name) + "host = db.example\n")
        with pytest.raises(UnreachableError):
            table.reader(user=name)
        file.chmod(0o666)
        with pytest.raises(FileFailedError, match="others may write"):
            table.reader(user=name)
        assert table.reader(user="root", password=Secret("")).count("t") == 5
    finally:
        table.execute(f"drop user {name}")


def test_missing_driver_has_an_install_hint(tmp_path):
    (tmp_path / "pymysql").mkdir()
    (tmp_path / "pymysql" / "__init__.py").write_text("raise ImportError(\"No module named 'pymysql'\")")
    command = [sys.executable, "-m", "dbctl", "--url", "mysql://u@h/d", "stats", "overview"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "pip install 'dbctl[mysql]'" in process.stderr


def test_driver_errors_become_dbctl_errors(table):
    table.execute(
        "create function f() returns integer deterministic begin signal sqlstate '45000' set message_text = 'a message of the function'; return 1; end"
    )
    with pytest.raises(DbctlError, match="a message of the function"):
        table.reader().query("select f()")


@contextmanager
def open_limited(folder):
    """Yield functions that run a command on a database of a private server, and statements in new sessions of it."""
    with servers.mysql_database(server=servers.private_mysql("--completion-type=CHAIN")) as url:
        database = ["--url", servers.text(url)]

        def run(*words, status=(0,)):
            result = run_command(
                [*database, *words], environment=CLEAN_ENVIRONMENT | {"HOME": str(folder)}, cwd=folder
            )
            assert result.returncode in status, result.stderr.decode()
            return result

        def execute(*statements):
            with servers.mysql_connection(url) as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                connection.commit()
                return cursor.fetchall()

        yield url, run, execute


def test_row_limit_of_a_server_truncates_neither_results_nor_dumps(tmp_path):
    """``SET PERSIST`` or ``init_connect`` may limit every query, also those of the dump program, and SHOW."""
    repository = ["--repository", "backups"]
    with open_limited(tmp_path) as (_, run, execute):
        for name in ("first", "second"):
            execute(
                f"create table {name} (id integer primary key)",
                f"insert into {name} values (1), (2), (3)",
                f"create trigger before_{name} before insert on {name} for each row set new.id = new.id",
            )
        execute("set global sql_select_limit = 1")
        try:
            run("data", "export", "second", "rows.csv")
            assert (tmp_path / "rows.csv").read_text().split() == ["id", "1", "2", "3"]
            run("backup", "create", *repository)
            execute("drop table first", "delete from second")
            run("restore", "apply", "latest", "--yes", *repository)
        finally:
            execute("set global sql_select_limit = default")
        assert execute("select count(*) from first union all select count(*) from second") == ((3,), (3,))
        assert len(execute("show triggers")) == 2


#: What changes the results of queries, which rows the server accepts, and what the dump program can read and writes.
MISLEADING = {
    "system_versioning_asof": "'2020-01-01'",
    "check_constraint_checks": 0,
    "default_regex_flags": "'UNGREEDY'",
    "idle_transaction_timeout": 100,
    "max_join_size": 1,
    "sql_quote_show_create": 0,
}


def test_settings_of_a_server_change_neither_results_nor_dumps(tmp_path):
    repository = ["--repository", "backups"]
    with open_limited(tmp_path) as (url, run, execute):
        with closing(MySQLReader(url, "app/main")) as reader:
            if not reader.connection.server.is_mariadb:
                pytest.skip("settings of MariaDB")
        execute(
            'create sequence "a sequence"',
            'create table t (id integer primary key default nextval("a sequence"), check (id < 1000)) with system versioning',
            "insert into t values (1), (2)",
        )
        try:
            execute(*(f"set global {name} = {value}" for name, value in MISLEADING.items()))
            run("data", "export", "t", "rows.csv")
            assert (tmp_path / "rows.csv").read_text().split() == ["id", "1", "2"]
            run("data", "add", "t", "id=1000", "--yes", status=(6,))
            run("backup", "create", *repository)
            verified = run("backup", "verify", "latest", "--deep", *repository)
            assert b"no problems" in verified.stderr
            run("restore", "apply", "latest", "--yes", *repository)
            with closing(MySQLReader(url, "app/main")) as reader:
                assert reader.query("select @@default_regex_flags, @@idle_transaction_timeout") == [("", 0)]
        finally:
            execute(*(f"set global {name} = default" for name in MISLEADING))
        assert execute("select id from t order by id") == ((1,), (2,))


def test_restore_names_the_setting_that_forbids_a_long_row(tmp_path):
    repository = ["--repository", "backups"]
    with open_limited(tmp_path) as (_, run, execute):
        execute(
            "create table t (id integer primary key, x longtext)",
            "insert into t values (1, repeat('x', 20000))",
        )
        run("backup", "create", *repository)
        try:
            execute("set global max_allowed_packet = 16384")
            for words in (["restore", "apply", "latest", "--yes"], ["backup", "verify", "latest", "--deep"]):
                # With 10, the server closed the connection before the program had read its answer.
                result = run(*words, *repository, status=(2, 10))
                assert b"SET GLOBAL max_allowed_packet = " in result.stderr + result.stdout
        finally:
            execute("set global max_allowed_packet = default")


def test_restore_waits_for_the_locks_of_the_server_itself(tmp_path):
    repository = ["--repository", "backups"]
    with open_limited(tmp_path) as (url, run, execute):
        with closing(servers.mysql_connection(url)) as connection, connection.cursor() as cursor:
            fill_mysql(cursor)
        run("backup", "create", *repository)
        try:
            execute(
                "set global lock_wait_timeout = 0"
                if servers.server_at(url).is_mariadb
                else "set global lock_wait_timeout = 1"
            )
            for _ in range(8):
                run("backup", "verify", "latest", "--deep", *repository)
        finally:
            execute("set global lock_wait_timeout = default")


def test_messages_in_another_language_show_no_values(tmp_path):
    with open_limited(tmp_path) as (_, run, execute):
        execute("create table t (id varchar(20) primary key)", "insert into t values ('a-value')")
        try:
            execute("set global lc_messages = 'de_DE'")
            result = run("data", "add", "t", "id=a-value", "--yes", status=(6,))
            assert b"does not accept the change" in result.stderr
            assert b"a-value" not in result.stderr
        finally:
            execute("set global lc_messages = default")


def test_statements_of_init_connect_prevent_neither_backup_nor_restore(tmp_path):
    """They run in the sessions of every account but administrators, also in those of the dump program."""
    repository = ["--repository", "backups"]
    with open_limited(tmp_path) as (url, _, execute):
        execute(
            "create table t (id integer primary key)",
            'create trigger "vor dem Einfügen 日" before insert on t for each row set new.id = new.id',
            "create user limited@localhost",
            "grant all on *.* to limited@localhost with grant option",
            "revoke super on *.* from limited@localhost",
        )
        for right in ("CONNECTION ADMIN", "CONNECTION_ADMIN"):  # of MariaDB and MySQL
            with suppress(pymysql.Error):
                execute(f"revoke {right} on *.* from limited@localhost")
        database = ["--url", servers.text(structs.replace(url, user="limited"))]
        try:
            execute(
                "set global init_connect = 'set names latin1'",
                "set global log_bin_trust_function_creators = 1",
            )
            for words in (["backup", "create"], ["restore", "apply", "latest", "--yes"]):
                result = run_command(
                    [*database, *words, *repository],
                    environment=CLEAN_ENVIRONMENT | {"HOME": str(tmp_path)},
                    cwd=tmp_path,
                )
                assert result.returncode == 0, result.stderr.decode()
        finally:
            execute(
                "set global init_connect = default",
                "set global log_bin_trust_function_creators = default",
                "drop user limited@localhost",
            )
        assert [row[0] for row in execute("show triggers")] == ["vor dem Einfügen 日"]


def test_restore_names_the_setting_that_forbids_triggers_while_the_server_writes_a_log(tmp_path):
    repository = ["--repository", "backups"]
    with (
        servers.logging_mysql("--log-bin-trust-function-creators=0") as server,
        servers.mysql_database(server=parse_url(server.url)) as url,
        servers.mysql_connection(url) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("create table t (id integer primary key)")
        cursor.execute("create trigger before_t before insert on t for each row set new.id = new.id")
        cursor.execute("create user limited@localhost")
        cursor.execute("grant all on *.* to limited@localhost")
        for right in ("SUPER", "BINLOG ADMIN"):
            with suppress(pymysql.Error):  # MySQL has no right with this name
                cursor.execute(f"revoke {right} on *.* from limited@localhost")
        database = ["--url", servers.text(structs.replace(url, user="limited"))]

        def run(*words):
            return run_command(
                [*database, *words, *repository],
                environment=CLEAN_ENVIRONMENT | {"HOME": str(tmp_path)},
                cwd=tmp_path,
            )

        run("backup", "create")
        refused = run("restore", "apply", "latest", "--yes")
        assert refused.returncode == 6
        assert b"SET GLOBAL log_bin_trust_function_creators = 1;" in refused.stderr
        cursor.execute("set global log_bin_trust_function_creators = 1")
        assert run("restore", "apply", "latest", "--yes").returncode == 0


def test_backup_states_objects_that_the_server_may_hide_from_its_user(tmp_path):
    """It shows a user neither triggers nor routines without a right to them, and reports no error."""
    with open_limited(tmp_path) as (url, _, execute):
        database = servers.text(structs.replace(url, user="limited"))
        execute(
            "create table t (id integer primary key)",
            "create trigger before_t before insert on t for each row set new.id = new.id",
            "create user limited@localhost",
            f'grant select, show view, lock tables, event on "{url.path}".* to limited@localhost',
        )

        def back_up():
            words = ["--url", database, "backup", "create", "--repository", "backups"]
            result = run_command(words, environment=CLEAN_ENVIRONMENT | {"HOME": str(tmp_path)}, cwd=tmp_path)
            assert result.returncode == 0, result.stderr.decode()
            return result.stderr.decode()

        try:
            remarks = back_up()
            assert "the backup lacks triggers that 'limited'@'localhost' may not see, if there" in remarks
            assert "the backup lacks functions and procedures" in remarks
            assert "tables and views" not in remarks
            execute(f'grant trigger, create routine on "{url.path}".* to limited@localhost')
            assert "may not see" not in back_up()
        finally:
            execute("drop user limited@localhost")


@pytest.mark.parametrize("pattern", [True, False])
def test_hidden_tables_are_missing_in_no_export_and_granted_by_the_existing_pattern(tmp_path, pattern):
    profile = """schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["mysql"]
needs = ["people"]
[users]
table = "people"
id = { column = "id" }
login = ["login"]
admin = false
fields = { login = "login" }
cascade = ["notes?.person"]
[[settings]]
table = "options"
key = "name"
scope = "system"
fields = { value = "value" }
"""
    with open_limited(tmp_path) as (url, _, execute):
        name = url.path.replace("_", "\\_") if pattern else url.path
        execute(
            "create table people (id integer primary key, login varchar(20) unique)",
            "create table notes (id integer primary key, person integer, foreign key (person) references people (id))",
            "create table options (name varchar(20) primary key, value varchar(20))",
            "insert into people values (1, 'ann')",
            "insert into notes values (1, 1)",
            "create user limited@localhost",
            f'grant select, delete on "{url.path}".people to limited@localhost',
        )
        address = servers.text(structs.replace(url, user="limited"))
        (tmp_path / "club.toml").write_text(profile)
        (tmp_path / "dbctl.toml").write_text(f'[apps.club]\nprofile = "club.toml"\ndatabases = "{address}"\n')

        def run(*words):
            environment = CLEAN_ENVIRONMENT | {"HOME": str(tmp_path)}
            return run_command(words, environment=environment, cwd=tmp_path)

        try:
            for words in (["users", "export-data", "ann", "-"], ["settings", "list"]):
                result = run(*words)
                assert (result.returncode, b"would leave out the others" in result.stderr) == (6, True)
            # Of several patterns for a database, the server uses the rights by one.
            execute(f'grant delete on "{name}".* to limited@localhost')
            grant = run("settings", "list").stderr.decode().partition("As an administrator: ")[2].strip()
            assert grant == f"GRANT SELECT ON `{name}`.* TO 'limited'@'localhost';"
            execute(grant)
            execute(f'revoke select on "{name}".* from limited@localhost')
            execute(f'revoke select on "{url.path}".people from limited@localhost')
            execute(f'grant select (id) on "{url.path}".people to limited@localhost')
            assert run("users", "list").returncode == 6  # a column that the server hides
            execute(grant)
            assert b'"notes"' in run("users", "export-data", "ann", "-").stdout
            assert run("settings", "list").returncode == 0
        finally:
            execute("drop user limited@localhost")


def test_ledger_that_the_server_hides_is_not_reported_as_missing(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "001_t.sql").write_text("create table t (id integer primary key);")
    with open_limited(tmp_path) as (url, run, execute):
        run("migrate", "up", "--migrations", "m")
        execute("create user limited@localhost", f'grant select on "{url.path}".t to limited@localhost')
        words = ["--url", servers.text(structs.replace(url, user="limited")), "migrate"]
        environment = CLEAN_ENVIRONMENT | {"HOME": str(tmp_path)}
        try:
            for command in ("status", "plan", "baseline", "verify"):
                result = run_command(
                    [*words, command, "--migrations", "m"], environment=environment, cwd=tmp_path
                )
                assert result.returncode == 6, (command, result.stderr.decode())
                assert b"GRANT SELECT ON" in result.stderr + result.stdout
        finally:
            execute("drop user limited@localhost")


@pytest.mark.parametrize("role", [False, True])
def test_plan_of_a_backup_is_refused_without_the_rights_of_the_dump_program(tmp_path, role):
    with open_limited(tmp_path) as (url, _, execute):
        repository = ["backup", "create", "--repository", "backups"]
        words = ["--url", servers.text(structs.replace(url, user="limited")), *repository]
        execute(
            "create table t (id integer primary key)",
            "create view v as select id from t",
            "create procedure r() select 1",
            "create user limited@localhost",
            f'grant select, execute on "{url.path}".* to limited@localhost',
        )

        def back_up(*options):
            environment = CLEAN_ENVIRONMENT | {"HOME": str(tmp_path)}
            return run_command([*words, *options], environment=environment, cwd=tmp_path)

        try:
            is_mariadb = servers.mysql_server().is_mariadb
            routines = "SELECT ON `mysql`." if is_mariadb else "SHOW_ROUTINE ON *.*"
            for right in (f"EVENT ON `{url.path}`.", f"SHOW VIEW ON `{url.path}`.", routines):
                for options in (["--dry-run"], []):
                    result = back_up(*options)
                    assert result.returncode == 6, result.stderr.decode()
                    grant = result.stderr.decode().partition("As an administrator: ")[2].strip()
                    assert grant.startswith(f"GRANT {right}")  # as the first grant
                # with some tables, the program also dumps events and routines, but no other view
                for options in (["--table", "t", "--dry-run"], ["--table", "t"]):
                    result = back_up(*options)
                    assert result.returncode == 6, result.stderr.decode()
                    assert (f"GRANT {right}" in result.stderr.decode()) == (not right.startswith("SHOW VIEW"))
                if role:
                    execute("create role if not exists readers", "grant readers to limited@localhost")
                    execute(f"set default role readers {'for' if is_mariadb else 'to'} limited@localhost")
                    grant = grant.replace("'limited'@'localhost'", "readers")
                execute(grant)
            for options in (["--dry-run"], []):
                result = back_up(*options)
                assert result.returncode == 0, result.stderr.decode()
        finally:
            execute("drop user limited@localhost", "drop role if exists readers")


def test_rows_that_violate_a_check_are_reported_and_restored(tmp_path):
    repository = ["--repository", "backups"]
    with open_limited(tmp_path) as (_, run, execute):
        checks = """check (id < 10), check (v not like 'a\\%' and v <> 'it''s'), check (v <> '\U0001f600')"""
        execute(f"create table t (id integer primary key, v varchar(20), {checks})")
        try:
            execute(
                "set check_constraint_checks = 0", "insert into t values (1, 'b'), (11, null), (12, 'it''s')"
            )
        except pymysql.Error:
            pytest.skip("no setting of MySQL disables a CHECK")
        checked = run("integrity", "check", status=(4,)).stdout.decode()
        assert 'CHECK constraint failed in t: 2 rows without "id" < 10' in checked
        assert "CHECK constraint failed in t: 1 row without" in checked
        assert "a CHECK constraint of t is not checked: it has an unknown character" in checked
        run("integrity", "check", "--quick")
        run("backup", "create", *repository)
        execute("delete from t")
        run("restore", "apply", "latest", "--yes", *repository)
        assert execute("select id from t order by id") == ((1,), (11,), (12,))


@pytest.mark.needs_extension("transfer")
def test_schema_diff_compares_how_rows_are_partitioned(tmp_path):
    sides = ["backup:latest", "main", "--check", "--repository", "backups"]
    with open_limited(tmp_path) as (_, run, execute):
        execute("create table t (id integer primary key) partition by hash (id) partitions 2")
        run("backup", "create", "--repository", "backups")
        execute("alter table t add partition partitions 1")
        run("schema", "diff", *sides)
        execute("alter table t partition by range (id) (partition p values less than (10))")
        different = run("schema", "diff", *sides, status=(4,)).stdout.decode()
        assert re.search("""partition by hash ["`]id["`]""", different)
        assert re.search("""partition by range ["`]id["`]""", different)


def test_schema_of_a_table_of_aria_is_that_of_its_copy(tmp_path):
    with open_limited(tmp_path) as (_, run, execute):
        try:
            execute("create table t (id integer primary key) engine=aria")
        except pymysql.Error:
            pytest.skip("MySQL has no Aria")
        run("backup", "create", "--repository", "backups")
        verified = run("backup", "verify", "latest", "--deep", "--repository", "backups")
        assert b"no problems" in verified.stderr


#: Rows whose load takes longer than a second.
SLOW_ROWS = 1 << 18


@pytest.mark.slow
def test_limits_for_sessions_of_the_app_do_not_end_a_restore(tmp_path):
    """One session of a restore waits, without a command, while the client loads the rows."""
    repository = ["--repository", "backups"]
    limits = {"wait_timeout": 1, "net_write_timeout": 1, "autocommit": 0}
    with open_limited(tmp_path) as (url, run, execute):
        execute(
            "create table t (id integer primary key, a varchar(200), b varchar(200), index (a))",
            "insert into t values (1, '', '')",
            *(
                f"insert into t select id + {1 << n}, repeat(sha2(id, 256), 3), repeat(sha2(-id, 256), 3) from t"
                for n in range(18)
            ),
        )
        run("backup", "create", *repository)
        try:
            execute(*(f"set global {name} = {value}" for name, value in limits.items()))
            run("restore", "apply", "latest", "--yes", *repository)
            with closing(MySQLReader(url, "app/main")) as reader:
                reader.connection.session.remove_time_limit()
                limit = reader.connection.server.time_limit
                assert reader.query(f"select @@{limit} + 0, @@wait_timeout > 86400") == [(0, 1)]
        finally:
            execute(*(f"set global {name} = default" for name in limits))
        assert execute("select count(*) from t") == ((SLOW_ROWS,),)
