"""Sessions of PostgreSQL: locks, interruptions, refused actions, hidden secrets, and connection options."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager, suppress

import pytest
import trustme
from msgspec import structs

from dbctl import progress
from dbctl.engines import registry
from dbctl.engines.contract.database import Condition
from dbctl.engines.contract.dumps import DumpRequest
from dbctl.engines.contract.streaming import UserQuery
from dbctl.engines.postgresql import errors, settings
from dbctl.engines.postgresql.database import PostgreSQLReader, PostgreSQLWriter
from dbctl.engines.postgresql.engine import ENGINE
from dbctl.engines.sql.catalog import ident
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import (
    BusyError,
    ClientFailedError,
    ConcurrentChangeError,
    ConstraintError,
    LossySettingError,
    PoolerError,
    PrivilegeMissingError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.usage import UrlInvalidError
from dbctl.model import Secret
from dbctl.services.deletion.cascade import find_affected_rows
from dbctl.url import parse_url
from tests import servers
from tests.in_process import CLEAN_ENVIRONMENT, run_command


@pytest.fixture
def table(postgresql):
    postgresql.execute("create table t (id integer primary key, n integer unique)")
    postgresql.execute("insert into t select n, n from generate_series(1, 5) n")
    return postgresql


@contextmanager
def create_role(database, *rights, options=""):
    """Create a role with some rights, and drop it at the end."""
    name = f"{database.schema}_r"
    database.execute(f"create role {name} login {options}")
    try:
        database.execute(f"grant usage on schema {database.schema} to {name}")
        for right in rights:
            database.execute(f"grant {right} to {name}")
        yield name
    finally:
        for session in database.opened:
            session.close()
        database.execute(f"drop owned by {name}")
        database.execute(f"drop role {name}")


def test_missing_connect_privilege_names_the_grant(postgresql):
    name = f"{postgresql.schema}_private"
    with create_role(postgresql) as role, closing(servers.connection(postgresql.url)) as admin:
        admin.autocommit = True
        admin.execute(f"create database {name}")
        try:
            admin.execute(f"revoke connect on database {name} from public")
            url = structs.replace(postgresql.url, path=name, user=role, options="")
            with pytest.raises(UnreachableError) as caught:
                ENGINE.open_for_reading(url, "app/main", timeout=5)
            assert f"GRANT CONNECT ON DATABASE {ident(name)} TO {ident(role)};" in caught.value.hint
        finally:
            admin.execute(f"drop database {name}")


# Read-only queries ------------------------------------------------------------------------------------------------------


def test_queries_cannot_write(table):
    reader = table.reader()
    for sql in (
        "insert into t values (9)",
        "with made as (insert into t values (9) returning id) select * from made",
        "select setval('s', 9)",
        "create table u (a integer)",
        "drop table t",
        "truncate t",
        "copy t to program 'touch /tmp/dbctl-was-here'",
        "set default_transaction_read_only = off",
        "set transaction read write",
        "select 1; commit; drop table t",
        "commit",
        "explain analyze delete from t",
        "call nosuch()",
        "do $$ begin delete from t; end $$",
    ):
        with pytest.raises((ReadOnlyError, QueryFailedError)):
            reader.query(sql)
    assert reader.count("t") == 5


def test_settings_of_a_query_are_reset(table):
    for session in (table.reader(), table.writer()):
        for name, value in (("default_transaction_read_only", "off"), ("search_path", "pg_catalog")):
            session.query(f"select set_config('{name}', '{value}', false)")
        with pytest.raises((ReadOnlyError, QueryFailedError)):
            session.query("with made as (insert into t values (9) returning id) select * from made")
        assert session.count("t") == 5


def test_programs_have_the_settings_of_sessions(postgresql):
    """A query of pg_dump for a catalog that is rarely vacuumed took seconds to compile."""
    options = settings.program_options()
    url, show = postgresql.url, "select current_setting('jit'), current_setting('lc_monetary')"
    command = [
        "psql",
        "-qAtX",
        "-h",
        url.host,
        "-p",
        str(url.port),
        "-U",
        url.user,
        "-d",
        url.path,
        "-c",
        show,
    ]
    environment = {**os.environ, "PGOPTIONS": f"-c jit=on {options}"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "off|C\n"


def test_rejected_change_does_not_end_the_session(table):
    options = f"{table.url.options}&options=-c%20exit_on_error=on"
    writer = table.writer(options=options)
    with pytest.raises(ConstraintError), writer.transaction():
        writer.insert("t", {"id": 1})
    assert writer.count("t") == 5


def test_hint_names_the_role_that_a_setting_selects(table):
    with create_role(table, "select on t") as name:
        writer = table.writer(options=f"{table.url.options}&options=-c%20role={name}")
        with pytest.raises(PrivilegeMissingError) as caught, writer.transaction():
            writer.insert("t", {"id": 9})
        assert str(caught.value.hint).endswith(f" TO {ident(name)};")


def test_query_inside_transaction_sees_its_changes(table):
    writer = table.writer()
    with writer.transaction():
        writer.delete("t", [Condition("id", "=", 1)])
        assert writer.query("select count(*) from t") == [(4,)]
        with pytest.raises(ReadOnlyError):
            writer.query("with gone as (delete from t returning id) select * from gone")
        writer.delete("t", [Condition("id", "=", 2)])
    assert table.rows("select count(*) from t") == [(3,)]


def test_expensive_queries_use_no_jit(table):
    if table.rows("select pg_jit_available()") == [(False,)]:
        servers.skip_or_fail("this PostgreSQL has no JIT compiler")
    options = f"{table.url.options}&options=-c%20jit=on%20-c%20jit_above_cost=0"
    plan = table.reader(options=options).query("explain (analyze) select count(*) from t")
    assert not any("JIT" in line for (line,) in plan)


def test_server_rejects_writes_of_a_reader(table):
    assert table.reader().query("show default_transaction_read_only") == [("on",)]


def test_read_only_setting_prevents_writing(table):
    with create_role(table, "all on t") as name:
        settings = [
            ("options=-c%20default_transaction_read_only%3Don", "select"),
            ("", f"alter role {name} set default_transaction_read_only = on"),
        ]
        for options, statement in settings:
            table.execute(statement)
            url = structs.replace(
                table.url, user=name, options="&".join(filter(None, (table.url.options, options)))
            )
            with closing(PostgreSQLReader(url, "shop/main")) as reader:
                assert reader.count("t") == 5
            with pytest.raises(ReadOnlyError, match="default_transaction_read_only is on"):
                PostgreSQLWriter(url, "shop/main")
        table.execute(f"alter role {name} reset default_transaction_read_only")
        PostgreSQLWriter(structs.replace(table.url, user=name), "shop/main").close()


@pytest.mark.parametrize("setting", ["zero_damaged_pages", "ignore_checksum_failure"])
def test_setting_that_hides_damaged_pages_is_refused(table, setting):
    with create_role(table, "select on t", options="superuser") as name:
        table.execute(f"alter role {name} set {setting} = on")
        url = structs.replace(table.url, user=name)
        with (
            pytest.raises(LossySettingError) as caught,
            closing(PostgreSQLReader(url, "shop/main")) as reader,
        ):
            reader.count("t")
        assert caught.value.context["setting"] == setting
        table.execute(f"alter role {name} reset {setting}")
        with closing(PostgreSQLReader(url, "shop/main")) as reader:
            assert reader.count("t") == 5


@pytest.mark.parametrize("options", ["", "superuser"])
def test_foreign_keys_have_effect_although_a_setting_disables_them(table, options):
    table.execute("create table child (id integer primary key, t integer references t)")
    with create_role(table, "all on t", "all on child", options=options) as name:
        table.execute(f"alter role {name} set session_replication_role = replica")
        url = structs.replace(table.url, user=name)
        with closing(PostgreSQLReader(url, "shop/main")) as reader:
            assert reader.count("t") == 5
        with (
            pytest.raises(ConstraintError if options else LossySettingError),
            closing(PostgreSQLWriter(url, "shop/main")) as writer,
            writer.transaction(),
        ):
            writer.insert("child", {"id": 1, "t": 99})
    with closing(PostgreSQLReader(table.url, "shop/main")) as reader:
        assert reader.count("child") == 0


def test_commits_wait_for_the_disk(table):
    with create_role(table) as name:
        table.execute(f"alter role {name} set synchronous_commit = off")
        with closing(PostgreSQLWriter(structs.replace(table.url, user=name), "shop/main")) as writer:
            assert writer.query("show synchronous_commit") == [("local",)]


def test_search_by_an_index_returns_all_rows(table):
    table.execute("create table doc (id integer primary key, tags integer[])")
    table.execute("insert into doc select n, array[1] from generate_series(1, 2000) n")
    table.execute("create index on doc using gin (tags)")
    with create_role(table, "select on doc") as name:
        table.execute(f"alter role {name} set gin_fuzzy_search_limit = 10")
        table.execute(f"alter role {name} set enable_seqscan = off")
        with closing(PostgreSQLReader(structs.replace(table.url, user=name), "shop/main")) as reader:
            assert reader.query("select count(*) from doc where tags @> '{1}'") == [(2000,)]


# Locks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["lock table t in access exclusive mode", "update t set n = 9 where id = 1"])
def test_busy_error_names_the_lock_holder(table, lock):
    table.execute("set application_name = 'the app'")
    pid = table.connection.info.backend_pid
    with table.connection.transaction():
        table.execute(lock)
        writer = table.writer()
        with (
            pytest.raises(BusyError, match=rf"locked by the app \(pid {pid}, user ") as caught,
            writer.transaction(),
        ):
            writer.update("t", {"n": 8}, [Condition("id", "=", 1)])
        assert "waited 0.3 s" in str(caught.value)
    with writer.transaction():
        assert writer.update("t", {"n": 8}, [Condition("id", "=", 1)]) == 1


def test_time_limit_of_the_role_is_named_with_its_removal(table):
    with create_role(table) as name:
        table.execute(f"alter role {name} set statement_timeout = 500")
        url = structs.replace(table.url, user=name)
        with (
            closing(PostgreSQLReader(url, "app/user", timeout=5)) as reader,
            pytest.raises(QueryFailedError) as caught,
        ):
            reader.query("select pg_sleep(5)")
        (option,) = re.findall(r"\?(options=\S+) to the URL", caught.value.hint)
        url = structs.replace(url, options="&".join(filter(None, (url.options, option))))
        with closing(PostgreSQLReader(url, "app/user", timeout=5)) as reader:
            assert reader.query("show statement_timeout") == [("0",)]


def test_zero_timeout_does_not_wait(table):
    url = structs.replace(table.url)
    with table.connection.transaction():
        table.execute("lock table t in access exclusive mode")
        reader = registry.load_engine(url.engine).open_for_reading(url, "app/user", timeout=0)
        start = time.monotonic()
        with pytest.raises(BusyError):
            reader.query("select * from t")
        reader.close()
        assert time.monotonic() - start < 60  # not without a limit


def test_concurrent_change_is_not_overwritten(table):
    writer = table.writer()
    with pytest.raises(ConcurrentChangeError), writer.transaction():
        assert writer.select("t", ["n"], [Condition("id", "=", 1)]) == [(1,)]
        table.execute("update t set n = 100 where id = 1")
        writer.update("t", {"n": 50}, [Condition("id", "=", 1)])
    assert table.rows("select n from t where id = 1") == [(100,)]


def test_deadlock_ends_both_transactions(table):
    table.execute("set deadlock_timeout = '1min'")  # so that the writer fails, and not this session
    table.execute("begin")
    table.execute("update t set n = 20 where id = 2")

    def update_first_row():
        table.execute("update t set n = 21 where id = 1")

    writer = PostgreSQLWriter(table.url, "app/user", timeout=60)
    with closing(writer), pytest.raises(ConcurrentChangeError), writer.transaction():
        writer.update("t", {"n": 10}, [Condition("id", "=", 1)])
        thread = threading.Thread(target=update_first_row)
        thread.start()
        writer.update("t", {"n": 11}, [Condition("id", "=", 2)])
    thread.join()
    table.execute("commit")
    assert table.rows("select n from t order by id limit 2") == [(21,), (20,)]


def test_holders_are_sessions_of_other_processes(table):
    own_pid = table.writer().connection.session.pgconn.backend_pid
    with closing(servers.connection(table.url)) as other:
        other.execute("begin")
        other.execute("delete from t")
        modes = {
            holder.pid: holder.mode
            for holder in registry.load_engine(table.url.engine).list_lock_holders(table.url, "app/user")
        }
        assert modes[other.info.backend_pid] == "write"
        assert own_pid not in modes


# Interruptions -------------------------------------------------------------------------------------------------


def test_only_readers_reconnect_after_a_killed_session(table):
    reader, writer = table.reader(), table.writer()
    for session in (reader, writer):
        assert session.count("t") == 5
    with pytest.raises(UnreachableError, match="terminat") as caught, writer.transaction():
        writer.delete("t", [])
        table.execute(f"select pg_terminate_backend({writer.connection.session.pgconn.backend_pid}, 5000)")
        writer.update("t", {"n": 0}, [])
    assert (caught.value.code, caught.value.exit_status) == ("connection-lost", 10)
    assert "rolled back" in caught.value.hint
    with pytest.raises((UnreachableError, RuntimeError)):
        writer.count("t")
    table.execute(f"select pg_terminate_backend({reader.connection.session.pgconn.backend_pid}, 5000)")
    assert reader.count("t") == 5


def test_killed_copy_is_reported_once_and_not_logged(table, monkeypatch):
    log, writer = io.StringIO(), table.writer()
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler(log))

    def rows():
        yield (100,)
        table.execute(f"select pg_terminate_backend({writer.connection.session.pgconn.backend_pid}, 5000)")
        yield from ((number,) for number in range(101, 200_000))

    with pytest.raises(UnreachableError), writer.transaction():
        writer.insert_many("t", ["id"], rows())
    assert log.getvalue() == ""


def test_reader_that_lost_its_transaction_does_not_reconnect(table):
    reader = table.reader()
    with pytest.raises(UnreachableError), reader.connection.read_transaction():
        assert reader.query("select count(*) from t") == [(5,)]  # nested
        table.execute(f"select pg_terminate_backend({reader.connection.session.pgconn.backend_pid}, 5000)")
        reader.count("t")


def kill_session(table, reader):
    table.execute(f"select pg_terminate_backend({reader.connection.session.pgconn.backend_pid}, 5000)")


def test_dump_begins_a_new_session_if_the_idle_one_was_killed(table, tmp_path):
    reader = table.reader()
    dumps = reader.dumps
    kill_session(table, reader)
    assert dumps.dump(DumpRequest(tmp_path / "dump")).verification.tables["t"] == 5


def test_streams_begin_a_new_session_if_the_idle_one_was_killed(table):
    reader = table.reader()
    kill_session(table, reader)
    with reader.streams.stream("t", ["id"]) as stream:
        assert sum(map(len, stream.batches)) == 5
    kill_session(table, reader)
    lines = list[bytes]()
    assert reader.streams.write_csv("t", ["id"], lines.append) == 5
    kill_session(table, reader)
    with reader.streams.query_read_only(UserQuery(sql="select id from t")) as stream:
        assert sum(map(len, stream.batches)) == 5


def test_new_session_reads_rows_that_policies_hide_or_refuses(table):
    reader = table.reader()
    with reader.read_all_rows():
        kill_session(table, reader)
        assert reader.query("show row_security") == [("off",)]
    assert reader.query("show row_security") == [("on",)]


def test_interrupted_commit_is_reported_as_in_doubt(table):
    writer = table.writer()
    with pytest.raises(UnreachableError) as caught, writer.transaction():
        writer.delete("t", [])
        table.execute(f"select pg_terminate_backend({writer.connection.session.pgconn.backend_pid}, 5000)")
    assert caught.value.code == "commit-in-doubt"
    assert table.rows("select count(*) from t") == [(5,)]


SLEEPER = """
import sys
from dbctl import signals
from dbctl.engines.postgresql.database import PostgreSQLWriter
from dbctl.url import parse_url
signals.install_handlers()
writer = PostgreSQLWriter(parse_url(sys.argv[1]), "app/user", timeout=1)
try:
    with writer.transaction():
        writer.delete("t", [])
        print("deleted", flush=True)
        writer.query("select pg_sleep(600)")
except signals.Interrupted as error:
    print(writer.connection.is_open and writer.count("t"), flush=True)
    sys.exit(error.exit_status)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_the_statement_and_rolls_back(table, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, servers.text(table.url)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "deleted\n"
        sleeping = "select count(*) from pg_stat_activity where query like '%%pg_sleep(600)%%' and state = 'active' and pid in (select pid from pg_locks where relation = 't'::regclass)"
        while table.rows(sleeping) == [(0,)]:
            assert process.poll() is None
        time.sleep(0.2)  # before the wait begins, a signal closes the session
        process.send_signal(number)
        assert process.stdout.readline() == "5\n"
        assert process.wait() == 128 + number
    assert table.rows(sleeping) == [(0,)]
    assert table.rows("select count(*) from t") == [(5,)]


ENDLESS_COPY = """
import sys
from dbctl import signals
from dbctl.engines.postgresql.database import PostgreSQLWriter
from dbctl.url import parse_url
signals.install_handlers()
writer = PostgreSQLWriter(parse_url(sys.argv[1]), "app/user", timeout=1)
def rows():
    number = 10
    while True:
        number += 1
        if number == 50_000:
            print("filling", flush=True)
        yield number, number
try:
    with writer.transaction():
        writer.insert_many("t", ["id", "n"], rows())
except signals.Interrupted as error:
    sys.exit(error.exit_status)
"""


def test_signal_ends_a_copy_and_stores_no_rows(table):
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_COPY, servers.text(table.url)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "filling\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
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


def test_rejected_commit_rolls_back(table):
    table.execute("create table k (p integer references t (id) deferrable initially deferred)")
    writer = table.writer()
    with pytest.raises(ConstraintError, match=r"Key \(p\) is not present"), writer.transaction():
        writer.insert("k", {"p": 9})
    assert writer.count("k") == 0


def test_constraint_error_hides_values(table):
    table.execute("create table s (token text unique, other text not null)")
    table.execute("insert into s values ('hush-hush', 'x')")
    writer = table.writer()
    for values in ({"token": "hush-hush", "other": "x"}, {"token": "hush-hush", "other": None}):
        with pytest.raises(ConstraintError) as caught, writer.transaction():
            writer.insert("s", values)
        assert "hush-hush" not in str(caught.value)


def test_messages_in_another_language_hide_values(table):
    detail = "Schlüssel »(token)=(hush-hush)« existiert bereits."
    table.execute(
        f"""create function refuse() returns trigger language plpgsql as $$ begin
          raise unique_violation using detail = '{detail}'; end $$"""
    )
    table.execute("create trigger refuse before insert on t for each row execute function refuse()")
    writer = table.writer()
    with pytest.raises(ConstraintError, match="existiert bereits") as caught, writer.transaction():
        writer.insert("t", {"id": 9})
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("line", ["line 3", "Zeile 3", "ligne 3", "línea 3", "строка 3"])
def test_row_of_a_rejected_copy_is_read_in_other_languages(line):
    assert errors._COPY_LINE.search(f'COPY t, {line}, column n: "5, line 7"')[1] == "3"


# Refused and missing objects -----------------------------------------------------------------------------------


def test_row_that_a_policy_refuses_has_a_hint(table):
    table.execute("alter table t enable row level security")
    with create_role(table, "select, insert on t") as name:
        writer = table.writer(user=name)
        with pytest.raises(PrivilegeMissingError, match="row-level security") as caught, writer.transaction():
            writer.insert("t", {"id": 9, "n": 9})
        assert "as the owner of the table" in caught.value.hint


def test_dump_of_a_table_with_policies_names_them(table, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    table.execute("alter table t enable row level security")
    with create_role(table, "select on t") as name:
        url = servers.text(structs.replace(table.url, user=name))
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.plain]\nprofile = "plain"\ndatabases = "{url}"\nbackup.repository = "backups"\n'
        )
        for words in (["--dry-run"], []):
            error = answer("backup", "create", *words, status=6)["error"]
            assert (error["code"], "rows of t that" in error["message"]) == ("privilege-missing", True)
        table.execute(error["hint"].partition("superuser: ")[2])
        answer("backup", "create")


READERS = """schema = "dbctl.profile/1"
name = "club"
title = "Club"
[databases.main]
engines = ["postgresql"]
needs = ["people"]
[users]
table = "people"
id = { column = "id" }
login = ["login"]
admin = "admin"
role = { column = "role", values = ["admin", "user"] }
fields = { login = "login" }
[[report]]
name = "roles"
title = "People by role"
database = "main"
columns = ["role", "people"]
[[report.variant]]
needs = ["people"]
sql = "select role, count(*) from people group by role limit :limit offset :offset"
"""


@pytest.mark.parametrize("forced", [False, True])
def test_rows_that_policies_hide_are_noted_and_missing_in_no_export_or_finding(postgresql, tmp_path, forced):
    def answer(*words, status=0):
        progress._earlier_notes.clear()  # a process writes each note once
        result = run_command([*words, "-o", "json"], environment=CLEAN_ENVIRONMENT, cwd=tmp_path)
        assert status in (None, result.returncode), result.stdout.decode()
        return json.loads(result.stdout)

    postgresql.execute("create table people (id integer primary key, login text, role text)")
    postgresql.execute("insert into people values (1, 'ann', 'admin'), (2, 'bo', 'user')")
    postgresql.execute("alter table people enable row level security")
    postgresql.execute("create policy p on people using (role <> 'admin')")
    with create_role(postgresql, "all on people") as name:
        if forced:
            postgresql.execute(
                f"alter table people force row level security; alter table people owner to {name}"
            )
        url = servers.text(structs.replace(postgresql.url, user=name))
        (tmp_path / "club.toml").write_text(READERS)
        (tmp_path / "dbctl.toml").write_text(f'[apps.club]\nprofile = "club.toml"\ndatabases = "{url}"\n')
        hidden = [f"club/main: policies may hide rows of people from role {name}"]
        lists = (["users", "list"], ["data", "rows", "people"], ["stats", "tables"], ["roles", "list"])
        for words in (*lists, ["stats", "run", "roles"]):
            assert answer(*words)["warnings"] == hidden
        for sql in ("select count(*) from people", "select 1"):
            assert answer("data", "query", sql)["warnings"] == (hidden if "people" in sql else [])
        assert answer("users", "show", "ann", status=5)["warnings"] == hidden
        for words in (["users", "export"], ["users", "export-data", "bo", "bo.json"]):
            error = answer(*words, status=6)["error"]
            assert error["code"] == "privilege-missing"
        findings = answer("doctor", status=None)["data"]["findings"]
        codes = {finding["code"] for finding in findings if finding["severity"] == "error"}
        assert ("privilege-missing" in codes, "no-admin" in codes) == (True, False)
        postgresql.execute(error["hint"].partition("superuser: ")[2])
        assert answer("users", "list")["warnings"] == []
        assert answer("users", "export")["data"]["total"] == 2


def test_plan_of_a_backup_grants_all_that_the_role_lacks_and_runs_as_planned(
    table, tmp_path, monkeypatch, answer
):
    monkeypatch.chdir(tmp_path)
    table.execute('create table "a""b" (id serial primary key, o int generated always as identity)')
    table.execute("alter table t enable row level security, force row level security")
    with create_role(table, f"select on all tables in schema {table.schema}") as name:
        url = servers.text(structs.replace(table.url, user=name))
        config = f'[apps.plain]\nprofile = "plain"\ndatabases = "{url}"\n[apps.plain.backup]\nrepository = "backups"\n'
        (tmp_path / "dbctl.toml").write_text(f"{config}schema_only = ['t']\n")
        error = answer("backup", "create", "--dry-run", status=6)["error"]
        assert f"role {name} may not read 2 sequences" in error["message"]
        assert "BYPASSRLS" not in error["hint"]  # the backup has no rows of the table
        doctor = answer("doctor", status=None)["data"]["findings"]
        assert error["hint"] in [finding["hint"] for finding in doctor]
        table.execute(f'revoke all on "a""b" from {name}')
        error = answer("backup", "create", "--dry-run", status=6)["error"]
        assert "may not read 1 table and 2 sequences" in error["message"]
        table.execute(error["hint"].partition("superuser: ")[2])
        answer("backup", "create", "--dry-run")
        answer("backup", "create")


def test_plan_of_a_restore_in_place_is_refused_to_a_role_that_owns_no_tables(
    table, tmp_path, monkeypatch, answer
):
    monkeypatch.chdir(tmp_path)

    def configure(url):
        (tmp_path / "dbctl.toml").write_text(
            f'[apps.plain]\nprofile = "plain"\ndatabases = "{servers.text(url)}"\nbackup.repository = "backups"\n'
        )

    configure(table.url)
    answer("backup", "create")
    with create_role(table, f"all on all tables in schema {table.schema}") as name:
        configure(structs.replace(table.url, user=name))
        for option in ("--dry-run", "--yes"):
            error = answer("restore", "apply", "latest", option, status=6)["error"]
            assert (error["code"], "only the owner of t may" in error["message"]) == (
                "privilege-missing",
                True,
            )
        (compared,) = answer("restore", "preview")["data"]["databases"]
        assert (compared["strategy"], "only the owner of t" in compared["steps"][0]) == ("", True)
        table.execute(f"alter table t owner to {name}")
        assert answer("restore", "apply", "latest", "--dry-run")


def test_role_that_is_missing_in_a_statement_is_granted():
    for reason in ('must be member of role "a""b"', 'must be able to SET ROLE "a""b"'):
        assert errors.grant_hint(reason, '"me"', "").endswith('GRANT "a""""b" TO "me";')
    assert "its owner" in errors.grant_hint("must be owner of table t", '"me"', "")


def test_deletion_is_refused_if_a_policy_hides_rows_that_it_would_delete(table):
    table.execute("create table child (id integer primary key, t integer references t on delete cascade)")
    table.execute("insert into child values (1, 1)")
    table.execute("alter table child enable row level security")
    starts = {"t": [Condition("id", "=", 1)]}
    with create_role(table, "all on t", "all on child") as name:
        reader = table.reader(user=name)
        with pytest.raises(PrivilegeMissingError, match="row-level security"):
            find_affected_rows(reader, starts)
        assert reader.count("child") == 0  # the next query reads what the role may see
    assert [rows.rows for rows in find_affected_rows(table.reader(), starts)] == [1]


def test_missing_right_has_a_grant_hint(table):
    with create_role(table, "select on t") as name:
        table.execute('create table "a""b" (id serial primary key)')
        writer = table.writer(user=name)
        assert writer.count("t") == 5
        for write, grant in (
            (lambda: writer.delete("t", []), f'GRANT SELECT, DELETE ON "{table.schema}"."t" TO "{name}";'),
            (lambda: writer.update("t", {"n": 1}, []), "GRANT SELECT, UPDATE ON"),
            (lambda: writer.select("t", ["n"], for_update=True), "GRANT SELECT, UPDATE ON"),
            (lambda: writer.insert("t", {"id": 9}), "GRANT SELECT, INSERT ON"),
            (lambda: writer.insert_many("t", ["id"], [(9,)]), "GRANT INSERT ON"),
            (lambda: writer.streams.stream('a"b', ["id"]).__enter__(), "GRANT SELECT ON"),
        ):
            with pytest.raises(PrivilegeMissingError) as caught, writer.transaction():
                write()
            assert grant in caught.value.hint
        with pytest.raises(PrivilegeMissingError, match="permission denied") as caught:
            writer.count('a"b')
        hint = caught.value.hint
        table.execute(hint[hint.index("GRANT") :])
        assert writer.count('a"b') == 0


def test_grant_hint_names_the_schema_of_the_refused_statement():
    output = 'pg_dump: error: permission denied\\nQuery was: LOCK TABLE other.t, "an other"."a""b" IN ACCESS SHARE MODE'
    hint = errors.grant_hint('permission denied for table a"b', '"me"', "public", f"select {output}")
    assert hint.endswith('GRANT SELECT ON "an other"."a""b" TO "me";')
    hint = errors.grant_hint("permission denied for table t", '"me"', "public", f"select {output}")
    assert hint.endswith('GRANT SELECT ON other.t TO "me";')
    hint = errors.grant_hint(
        "permission denied for sequence s",
        '"me"',
        "public",
        "select SELECT last_value, is_called FROM other.s",
    )
    assert hint.endswith('GRANT USAGE, SELECT ON SEQUENCE other.s TO "me";')
    hint = errors.grant_hint("permission denied for table t", '"me"', "public", 'select t0."t" from "t" t0')
    assert hint.endswith('GRANT SELECT ON "public"."t" TO "me";')


def test_missing_right_to_create_schemas_has_a_grant_hint(table):
    with create_role(table) as name:
        writer = table.writer(user=name)
        with pytest.raises(PrivilegeMissingError) as caught, writer.transaction():
            writer.connection.run(f"create schema {name}")
    assert re.search(rf'GRANT CREATE ON DATABASE ".+" TO "{name}";', caught.value.hint)


def test_missing_server_and_missing_database_are_unreachable(table):
    refused_url = parse_url("postgresql://user:hush-hush@127.0.0.1:1/app")
    missing_database = structs.replace(table.url, path="no such database", password=Secret("hush-hush"))
    for url, reason in ((refused_url, "refused"), (missing_database, "no such database")):
        for open_database in (ENGINE.open_for_reading, ENGINE.open_for_writing):
            with pytest.raises(UnreachableError, match=reason) as caught:
                open_database(url, "app/user", timeout=0.1)
            assert "hush-hush" not in "".join(
                [str(caught.value), caught.value.hint, repr(caught.value.__context__)]
            )


def test_full_server_is_reported(table):
    with create_role(table, options="connection limit 1") as name:
        table.reader(user=name)
        with pytest.raises(UnreachableError, match="too many connections") as caught:
            table.reader(user=name)
        table.execute(caught.value.hint.partition("with: ")[2])
        table.reader(user=name)


def test_limit_that_lets_only_the_reader_connect_is_explained(table, tmp_path):
    with create_role(table, "select on t", options="connection limit 1") as name:
        reader = table.reader(user=name)
        with pytest.raises(ClientFailedError, match="too many connections") as caught:
            reader.dumps.dump(DumpRequest(tmp_path / "dump"))
        assert f'ALTER ROLE "{name}" CONNECTION LIMIT -1;' in caught.value.hint


def test_wrong_password_is_reported_but_not_shown():
    url = servers.private_postgresql(password="correct password")
    valid_url = structs.replace(parse_url(url), password=Secret("correct password"))
    reader = PostgreSQLReader(valid_url, "app/user", timeout=1)
    assert reader.query("select 1") == [(1,)]
    reader.close()
    for password in (Secret("hush-hush"), None):
        with pytest.raises(UnreachableError, match="password") as caught:
            PostgreSQLReader(structs.replace(valid_url, password=password), "app/user", timeout=1)
        assert "hush-hush" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("options", "reason"), [("nosuch=hush-hush", "no option 'nosuch'"), ("schema=a%00b", "UTF-8")]
)
def test_unknown_url_options_are_refused_without_their_values(postgresql, options, reason):
    with pytest.raises(UrlInvalidError, match=reason) as caught:
        postgresql.reader(options=options)
    assert "hush-hush" not in str(caught.value)


def test_url_requires_database_and_ignores_orm_options(postgresql):
    with pytest.raises(UrlInvalidError, match="names no database"):
        postgresql.reader(path="")
    options = f"{postgresql.url.options}&connection_limit=5&pgbouncer=true&connect_timeout=7&sslmode=prefer"
    options += "&client_encoding=LATIN1&application_name=x&options=-c%20timezone=Asia/Tokyo"
    assert postgresql.reader(options=options).tables() == {}


def test_server_certificate_is_verified(tmp_path):
    authority, other_authority = trustme.CA(), trustme.CA()
    for name, ca in (("authority", authority), ("other_authority", other_authority)):
        ca.cert_pem.write_to_path(tmp_path / name)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "certificate")
    url = parse_url(servers.private_postgresql(certificate=tmp_path / "certificate"))

    def query_encryption(options):
        with closing(
            PostgreSQLReader(structs.replace(url, options=options), "app/user", timeout=1)
        ) as reader:
            return reader.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")

    verified_options = f"sslmode=verify-full&sslrootcert={tmp_path}/authority"
    for options in ("", "sslmode=require", "ssl=true", verified_options):
        assert query_encryption(options) == [(True,)]
    for options, reason in (
        ("sslmode=disable", "no encryption"),
        ("sslmode=verify-full", "root certificate"),
        (f"sslmode=verify-full&sslrootcert={tmp_path}/other_authority", "certificate verify failed"),
    ):
        with pytest.raises(UnreachableError, match=reason):
            query_encryption(options)


@contextmanager
def run_pooler(server_socket):
    """Run a proxy that replaces the keys of sessions; yield the folder of its socket.

    A pooler does the same, because a session of the server does not belong to one of its clients.
    """
    with tempfile.TemporaryDirectory(prefix="dbctl-pool-", dir="/tmp") as folder:
        listener = socket.create_server(f"{folder}/.s.PGSQL.5432", family=socket.AF_UNIX)
        threading.Thread(target=_accept_clients, args=(listener, server_socket), daemon=True).start()
        try:
            yield folder
        finally:
            listener.close()


def _accept_clients(listener, server_socket):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # the socket was closed
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(server_socket)
        threading.Thread(target=_forward, args=(client, server, False), daemon=True).start()
        threading.Thread(target=_forward, args=(server, client, True), daemon=True).start()


def _forward(source, target, replaces_key):
    with suppress(OSError), target:  # either side may disconnect at any time
        while data := source.recv(1 << 16):
            key = data.find(b"K\0\0\0\x0c") if replaces_key else -1
            if key >= 0:  # the message with the process id and the secret of the session
                data = data[: key + 5] + b"\x7f\xff\xff\xff" + data[key + 9 :]
            target.sendall(data)


def test_pooler_is_refused_without_session_pooling():
    server_url = servers.private_postgresql()
    server_folder = parse_url(server_url).options.partition("host=")[2]
    with run_pooler(f"{server_folder}/.s.PGSQL.5432") as folder:
        pooled = parse_url(server_url.replace(server_folder, folder))
        with pytest.raises(PoolerError, match="pooler") as caught:
            PostgreSQLWriter(pooled, "app/user", timeout=1)
        assert "pool_mode=session" in caught.value.hint
        session_pooled = structs.replace(pooled, options=f"{pooled.options}&pool_mode=session")
        with closing(PostgreSQLReader(session_pooled, "app/user", timeout=1)) as reader:
            assert reader.query("select 1") == [(1,)]


@contextmanager
def run_transaction_pooler(server_socket):
    """Run a pooler with one session of the server, which a client has until its transaction ends; yield the folder of its socket."""
    server, lock = socket.socket(socket.AF_UNIX), threading.Lock()
    with tempfile.TemporaryDirectory(prefix="dbctl-pool-", dir="/tmp") as folder, server:
        server.connect(server_socket)
        listener = socket.create_server(f"{folder}/.s.PGSQL.5432", family=socket.AF_UNIX)
        greeting = bytearray()

        def read_answer():
            """Return the messages of the server until it is ready, outside a transaction."""
            answer, start = bytearray(), 0
            while True:
                while (
                    len(answer) >= start + 5
                    and len(answer) > (size := int.from_bytes(answer[start + 1 : start + 5])) + start
                ):
                    if answer[start : start + 1] == b"Z":
                        return bytes(answer)
                    start += size + 1
                answer += server.recv(1 << 16)

        def serve(client):
            with suppress(OSError), client:
                startup = client.recv(1 << 16)
                with lock:
                    if not greeting:
                        server.sendall(startup)
                        greeting.extend(read_answer())
                key = greeting.find(b"K\0\0\0\x0c")
                client.sendall(greeting[: key + 5] + b"\x7f\xff\xff\xff" + greeting[key + 9 :])
                while (data := client.recv(1 << 16)) and data[:1] != b"X":
                    with lock:
                        server.sendall(data)
                        answer = read_answer()
                        client.sendall(answer)

        def accept():
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield folder
        finally:
            listener.close()


def test_pooler_of_transactions_is_refused_although_the_url_states_sessions():
    server_url = servers.private_postgresql()
    server_folder = parse_url(server_url).options.partition("host=")[2]
    with run_transaction_pooler(f"{server_folder}/.s.PGSQL.5432") as folder:
        pooled = parse_url(server_url.replace(server_folder, folder))
        pooled = structs.replace(pooled, options=f"{pooled.options}&gssencmode=disable")
        claimed = structs.replace(pooled, options=f"{pooled.options}&pool_mode=session")
        with pytest.raises(PoolerError):
            PostgreSQLReader(claimed, "app/user", timeout=1)
        with closing(servers.connection(pooled)) as app:
            row = app.execute("select current_setting('default_transaction_read_only')").fetchone()
            assert row == ("off",)


def test_missing_driver_has_an_install_hint(tmp_path):
    (tmp_path / "psycopg").mkdir()
    (tmp_path / "psycopg" / "__init__.py").write_text("raise ImportError(\"No module named 'psycopg'\")")
    command = [
        sys.executable,
        "-m",
        "dbctl",
        "--profile",
        "flashpoint-web",
        "--url",
        "user=postgresql://u@h/d",
        "users",
        "list",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert "pip install 'dbctl[postgresql]'" in process.stderr


def test_limit_of_the_server_rejects_the_statement(table):
    with create_role(table) as name:
        table.execute(f"alter role {name} set temp_file_limit = '64kB'")
        table.execute(f"alter role {name} set work_mem = '64kB'")
        url = structs.replace(table.url, user=name)
        with closing(PostgreSQLReader(url, "app/user")) as reader:
            with pytest.raises(QueryFailedError, match="temp_file_limit"):
                reader.query("select count(*) from (select n from generate_series(1, 200000) n order by 1) s")
            assert reader.query("select 1") == [(1,)]


def test_driver_errors_become_dbctl_errors(table):
    reader = table.reader()
    table.execute(
        "create function f() returns integer language plpgsql as $$ begin raise 'message of %', 'f'; end $$"
    )
    with pytest.raises(DbctlError, match="message of f"):
        reader.query("select f()")


@pytest.mark.parametrize(
    "sql",
    [
        "select pg_terminate_backend(1)",
        'select "pg_cancel_backend" (1)',
        "select pg_read_file('PG_VERSION')",
        "select * from pg_ls_dir('.') d",
        "select query_to_xml('select 1', true, true, '')",
        "select lo_import('/etc/passwd')",
        "select pg_advisory_lock(1)",
        "select nextval('x')",
        "select /* */ pg_reload_conf -- x\n ()",
        "select 1 -- x\r, lo_create(0)",
        "select E'a'\n'\\'', lo_create(0) --'",
        "select $\u20ac$ ' $\u20ac$, lo_create(0), $\u20ac$ ' $\u20ac$",
        "select 1 as \u20ac$$, lo_create(0) as x, 1 as \u20ac$$",
        "select 1 as \xa0$$, lo_create(0) as x, 1 as \xa0$$",
    ],
)
def test_query_with_external_effects_is_refused(postgresql, sql):
    with (
        pytest.raises(QueryFailedError, match="does more than read"),
        postgresql.reader().streams.query_read_only(UserQuery(sql)),
    ):
        pass


def test_harmless_volatile_functions_are_allowed(postgresql):
    sql = "select random() < 2, pg_database_size(current_database()) > 0, clock_timestamp() is not null"
    with postgresql.reader().streams.query_read_only(UserQuery(sql)) as result:
        assert [row for batch in result.batches for row in batch] == [(True, True, True)]


@pytest.mark.parametrize("sql", ["copy t to program 'x'", "do $$ begin end $$", 'select u&"a" (1)'])
def test_statements_that_are_not_queries_are_refused(postgresql, sql):
    with pytest.raises(DbctlError), postgresql.reader().streams.query_read_only(UserQuery(sql)):
        pass
