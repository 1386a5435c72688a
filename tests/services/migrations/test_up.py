"""``migrate up`` with concurrent runners and readers, and failures among many migrations."""

import json
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from dbctl.engines.postgresql import scripts
from dbctl.errors.connection import BusyError, ConstraintError
from dbctl.errors.migrations import MigrationFailedError, MigrationPartialError
from dbctl.services.backup.repository import Repository
from dbctl.services.migrations.execution import executor
from dbctl.services.migrations.execution.plan import state_done
from dbctl.services.migrations.ledger import journal
from dbctl.services.migrations.ledger.state import NamedMigration
from tests import servers
from tests.services.migrations import deployments

MANY = {
    f"{number:03d}_t": f"create table t{number} (x integer);\ninsert into t{number} values ({number});"
    for number in range(1, 16)
}


@pytest.fixture(params=deployments.ENGINES)
def desk(request, tmp_path):
    with deployments.create_desk(request.param, tmp_path / "desk") as created:
        yield created


@pytest.fixture
def busy(tmp_path):
    """Create an app on PostgreSQL with a reader that locks a table; yield the app and a function that ends the reader."""
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_t": "create table t (x integer);\ninsert into t values (1);"})
        desk.up()
        with closing(servers.connection(desk.base.own)) as reader:
            reader.execute("begin")
            reader.execute("select * from t")
            yield desk, lambda: reader.execute("rollback")


def start_migrate_up(desk, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "dbctl", "migrate", "up", "-o", "json", *arguments],
        cwd=desk.folder,
        env=deployments.ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_second_runner_waits_and_runs_nothing_twice(desk):
    desk.write(MANY)
    runners = [start_migrate_up(desk, "--timeout", "60") for _ in range(2)]
    outputs = [json.loads(process.communicate(timeout=120)[0]) for process in runners]
    assert [process.returncode for process in runners] == [0, 0], outputs
    assert sorted(process["name"] for answer in outputs for process in answer["data"]["items"]) == sorted(
        MANY
    )
    assert set(desk.states()) == {"applied"}
    assert all(desk.count(f"t{number}") == 1 for number in range(1, 16))


def test_timeout_names_the_lock_holder(desk):
    desk.write(MANY)
    desk.up()
    desk.write({"016_more": "create table more (x integer);"})
    with desk.open_app() as app, app.writer("main"), pytest.raises(BusyError, match="dbctl migrate up"):
        desk.up(timeout=0.3)
    desk.up()


def test_failed_statement_keeps_earlier_migrations_only(desk):
    desk.write(MANY)
    desk.write({"008_t": "create table t8 (x integer);\ninsert into t8 values (8);\nupdat t8 set x = 9;"})
    with pytest.raises(MigrationFailedError) as failed:
        desk.up()
    assert "008_t failed in statement 3 (line 3)" in str(failed.value)
    assert "not run: 009_t, 010_t, 011_t, 012_t, 013_t and 2 more" in failed.value.hint
    assert desk.states()[:7] == ["applied"] * 7
    assert desk.states()[8:] == ["pending"] * 7
    assert ("t8" in desk.tables()) == (desk.engine == "mysql")
    desk.write({"008_t": "create table t8 (x integer);\ninsert into t8 values (8);\nupdate t8 set x = 9;"})
    desk.up()
    assert desk.base.rows("select x from t8")[0][0] == 9


@pytest.mark.parametrize(
    ("engine", "script"),
    [
        ("postgresql", "create table t (x text); -- first\rinsert into t values (E'a'\n'\\';b');"),
        (
            "mysql",
            (
                "create table event (begin int, end int);\ncreate table t (x text);\n"
                "create trigger fill before insert on event for each row begin set new.end = 1;\n"
                "insert into t values ('a'';b'); end;\ninsert into event values (1, 2);"
            ),
        ),
    ],
)
def test_statements_end_where_the_server_ends_them(tmp_path, engine, script):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        (desk.folder / "migrations" / "001_t.sql").write_bytes(script.encode())
        desk.up()
        assert [x for (x,) in desk.base.rows("select x from t")] == ["a';b"]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_failed_first_migration_leaves_no_empty_ledger(tmp_path, engine):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        desk.write({"001_t": "create table t (x integer);\nupdat t set x = 9;"})
        with pytest.raises(MigrationFailedError):
            desk.up()
        assert not desk.tables()
        desk.write({"001_t": "create table t (x integer);"})
        desk.up()
        assert desk.states() == ["applied"]


@pytest.mark.parametrize("engine", ["sqlite", "mysql"])
def test_failed_first_statement_outside_a_transaction_leaves_no_empty_ledger(tmp_path, engine):
    with deployments.create_desk(engine, tmp_path / "desk") as desk:
        desk.write({"001_t": "-- dbctl: no-transaction\nupdate nowhere set x = 9;"})
        with pytest.raises(MigrationFailedError):
            desk.up()
        assert not desk.tables()


def test_ledger_is_that_of_the_app_after_a_migration_that_selects_another_schema(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_t": "create table t (x integer);"})
        desk.up()
        desk.base.run(
            "create schema beside_it",
            "create table beside_it.schema_migrations (like schema_migrations)",
            "create table beside_it.counter as select 0 as x",
        )
        try:
            desk.write({"002_t": "set search_path = beside_it;\nupdate counter set x = x + 1;"})
            desk.up()
            assert desk.states() == ["applied", "applied"]
            assert desk.up() == []
            assert desk.base.rows("select x from beside_it.counter") == [(1,)]
            assert not desk.count("beside_it.schema_migrations")
        finally:
            desk.base.run("drop schema beside_it cascade")


@pytest.mark.parametrize("start", ["set role", "-- dbctl: no-transaction\nset session authorization"])
def test_role_of_a_migration_ends_with_it(tmp_path, start):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        role = f"{desk.base.rows('select current_database()')[0][0]}_owner"
        desk.base.run(f"create role {role}", f"grant all on schema public to {role}")
        try:
            desk.write(
                {"001_t": "create table t (x integer);", "002_u": f"{start} {role};\ncreate table u ();"}
            )
            desk.write({"003_v": "create table v ();"})
            desk.up()
            owners = "select tablename, tableowner from pg_tables where tablename in ('u', 'v') order by 1"
            assert desk.base.rows(owners) == [("u", role), ("v", "postgres")]
        finally:
            desk.base.run(f"drop owned by {role}", f"drop role {role}")


@pytest.mark.parametrize(
    "setting", ["set search_path = beside_it;", "select set_config('search_path', 'beside_it', false);"]
)
def test_journal_is_found_while_a_migration_without_transaction_uses_another_schema(tmp_path, setting):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_t": "create table counter (x integer);\ninsert into counter values (1);"})
        desk.up()
        desk.base.run("create schema beside_it", "create table beside_it.counter as select 0 as x")
        try:
            step, start = "update counter set x = x + 1;\n", f"-- dbctl: no-transaction\n{setting}\n"
            desk.write({"002_t": f"{start}{step}update nosuch set x = 1;"})
            with pytest.raises(MigrationPartialError):
                desk.up()
            assert desk.describe_states()["002_t"] == ("failed", "statements 1–2 of 3 are applied")
            desk.write({"002_t": f"{start}{step}{step}"})
            desk.up()
            assert desk.states() == ["applied", "applied"]
            assert desk.base.rows("select x from beside_it.counter") == [(2,)]
            assert desk.base.rows("select x from counter") == [(1,)]
            assert not desk.base.rows(f"select 1 from pg_tables where tablename = '{journal.TABLE}'")
        finally:
            desk.base.run("drop schema beside_it cascade")


def test_reset_of_a_role_is_repeated_when_a_migration_continues(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_t": "create table t (x integer);"})
        desk.up()
        start = "-- dbctl: no-transaction\nset role pg_monitor;\nselect 1;\nreset role;\n"
        desk.write({"002_u": f"{start}update nosuch set x = 1;"})
        with pytest.raises(MigrationPartialError):
            desk.up()
        desk.write({"002_u": f"{start}create table u ();"})
        desk.up()
        assert desk.base.rows("select tableowner from pg_tables where tablename = 'u'") == [("postgres",)]


def test_tables_of_the_app_are_no_loss_after_a_migration_that_selects_no_schema(tmp_path):
    with deployments.create_desk("postgresql", tmp_path / "desk") as desk:
        desk.write({"001_t": "create table t (x integer);\ninsert into t values (1);"})
        desk.up()
        statements = "select set_config('search_path', '', false);\ndelete from public.t where x = 2;"
        desk.write({"002_t": statements})  # a deletion, so that rows are counted
        desk.up()
        assert desk.states() == ["applied", "applied"]
        assert desk.count("t") == 1


def test_applied_migration_is_reported_while_another_session_reads_the_journal(tmp_path):
    with deployments.create_desk("mysql", tmp_path / "desk") as desk:
        desk.write({"001_t": "create table t (x integer);\ninsert into t values (1);"})
        desk.up()
        desk.write({"002_t": "-- dbctl: allow-data-loss\ndelete from t;\nselect sleep(2);"})
        finished = threading.Event()

        def read():
            with desk.base.connect() as fetch:
                while not finished.wait(0.05):
                    if fetch(f"show tables like '{journal.TABLE}'"):
                        fetch("start transaction")
                        fetch(f"select * from {journal.TABLE}")
                        finished.wait()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            (migration,) = desk.up(timeout=1)
        finally:
            finished.set()
            reader.join()
        assert migration.rows_lost == {"t": 1}
        with desk.open_app() as app:
            assert Repository(app).find(migration.safety_backup).kind == "migration"


def create_three_databases(folder, *, has_tables=False):
    """Write an app with three databases and a migration of each; return the options that select it."""
    tables = {
        "chat": ("chats", "messages"),
        "code": ("sessions", "transcript_entries"),
        "app": ("settings", "credentials"),
    }
    names = list(tables)
    sections = {
        "databases": {name: f"{name}.db" for name in names},
        "migrations": {name: name for name in names},
    }
    config = '[apps.desk]\nprofile = "yaai"\n'
    for section, values in sections.items():
        config += f"[apps.desk.{section}]\n" + "".join(f'{key} = "{text}"\n' for key, text in values.items())
    (folder / "dbctl.toml").write_text(config)
    for name in names:
        script = "".join(f"create table {table} (x integer);\n" for table in tables[name])
        deployments.write_files(folder / name, {"001_t": script})
        with closing(sqlite3.connect(folder / f"{name}.db")) as database:
            database.executescript(script if has_tables else "")
    return ("--config", str(folder / "dbctl.toml"))


def test_hint_to_repair_selects_one_of_several_databases(tmp_path, answer):
    words = create_three_databases(tmp_path)
    answer(*words, "migrate", "up")
    (tmp_path / "code" / "001_t.sql").unlink()
    hint = answer(*words, "migrate", "up", status=6)["error"]["hint"]
    (command,) = re.findall(r"dbctl (migrate repair .*)", hint)
    answer(*shlex.split(command), "--dry-run")


@pytest.mark.parametrize("command", ["up", "baseline"])
def test_locked_database_names_the_migrations_of_others(tmp_path, answer, command):
    words = (*create_three_databases(tmp_path, has_tables=command == "baseline"), "--timeout", "0.2")
    with closing(sqlite3.connect(tmp_path / "code.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        error = answer(*words, "migrate", command, status=11)["error"]
    assert "desk/code was not changed. Done by this run: chat/001_t." in error["hint"]
    assert "Nothing was changed" not in error["hint"]


def test_error_without_another_hint_states_what_the_run_has_done():
    error = ConstraintError(target="desk/code", reason="denied")
    done = NamedMigration(app="desk", database="chat", version="001", name="001_t")
    state_done(error, SimpleNamespace(name="desk/code"), [done])
    assert error.hint == "desk/code was not changed. Done by this run: chat/001_t."


def test_steps_limits_the_number_of_migrations(tmp_path):
    with deployments.create_desk("sqlite", tmp_path / "desk") as desk:
        desk.write(MANY)
        assert [migration.name for migration in desk.up(steps=2)] == ["001_t", "002_t"]
        assert [migration.name for migration in desk.up(steps=1)] == ["003_t"]
        assert [migration.name for migration in desk.up(to="5")] == ["004_t", "005_t"]
        assert len(desk.up(steps=100)) == 10


def test_waiting_migration_does_not_block_readers(busy):
    desk, release = busy
    desk.write({"002_t": "create table before_it (x integer);\nalter table t add column y integer;"})
    finished, counts = threading.Event(), []

    def read():
        waiting_locks = "select from pg_locks where relation = 't'::regclass and not granted"
        with closing(servers.connection(desk.base.own)) as app:
            while not (app.execute(waiting_locks).fetchall() or finished.is_set()):
                time.sleep(0.01)
            counts.extend(
                app.execute("select count(x) from t")
            )  # waits until the migration releases its lock
        release()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert [migration.name for migration in desk.up(timeout=60)] == ["002_t"]
    finally:
        finished.set()
        reader.join()
    assert counts


def test_lock_timeout_names_the_session_and_changes_nothing(busy):
    desk, _ = busy
    desk.write({"002_t": "create table before_it (x integer);\nalter table t add column y integer;"})
    with pytest.raises(BusyError) as caught:
        desk.up(timeout=0.2)
    assert "pid" in str(caught.value)
    assert "before_it" not in desk.tables()
    assert desk.states() == ["applied", "pending"]


def test_longer_timeout_waits_longer_for_a_lock(busy, monkeypatch):
    desk, release = busy
    desk.write({"002_t": "alter table t add column y integer;"})
    pauses = list[float]()

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) > scripts.SHORT_LOCK_TRIES:
            release()

    monkeypatch.setattr(scripts, "SHORT_LOCK_SECONDS", 0.05)
    monkeypatch.setattr(executor, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    assert [migration.name for migration in desk.up(timeout=60)] == ["002_t"]
    assert len(pauses) > scripts.SHORT_LOCK_TRIES
