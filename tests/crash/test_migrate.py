"""``migrate up`` that is killed, or has no free space: a prefix is applied and recorded, and the next run continues."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from contextlib import closing

import pymysql
import pytest

from dbctl.engines.registry import load_engine
from dbctl.errors.migrations import MigrationStatementUnknownError
from dbctl.services.migrations.ledger.journal import read_partial_migrations, resolve_statement
from tests import servers
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng, retry_until
from tests.crash.test_no_room import run_with_file_size_limit
from tests.services.migrations import deployments

KILLS, SERVED_KILLS = choose_count(6, 1000), choose_count(3, 100)
COUNT, ROWS = 20, 4000
FILL = "insert into t{0} with recursive c (n) as (select 1 union all select n + 1 from c limit {1}) select n from c;"


@pytest.fixture
def desk(tmp_path):
    """Twenty migrations of three statements each."""
    with deployments.create_desk("sqlite", tmp_path / "desk") as desk:
        desk.write(
            {
                f"{number:03d}_t": f"create table t{number} (x integer);\n{FILL.format(number, ROWS)}\n"
                f"create index i{number} on t{number} (x);"
                for number in range(1, COUNT + 1)
            }
        )
        yield desk


def start_migration(desk):
    return forge.start(desk.folder, "migrate", "up", "--no-backup")


def wait_until(condition, process):
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if condition():
                return
        except (sqlite3.Error, pymysql.Error):  # the database is being created
            pass
        time.sleep(0.002)


def count_applied(path):
    """Return the number of applied migrations; assert that ledger, schema and rows match."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        tables = {
            name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        }
        if "schema_migrations" not in tables:
            assert not tables
            return 0
        recorded = [
            version
            for (version,) in connection.execute("select version from schema_migrations order by version")
        ]
        assert recorded == [f"{number:03d}" for number in range(1, len(recorded) + 1)]
        assert tables - {"schema_migrations"} == {f"t{number}" for number in range(1, len(recorded) + 1)}
        indexes = {
            name for (name,) in connection.execute("select name from sqlite_master where name glob 'i*'")
        }
        assert indexes == {f"i{number}" for number in range(1, len(recorded) + 1)}
        for number in range(1, len(recorded) + 1):
            assert connection.execute(f"select count(*) from t{number}").fetchone() == (ROWS,)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        return len(recorded)


def test_killed_migration_leaves_prefix_and_is_completed(desk):
    """Killed after a random delay, which excludes the start of Python."""
    rng, path, applied_counts = create_rng("migrate"), desk.folder / "desk.db", set()
    for number in retry_until(KILLS, applied_counts, 2):
        for database_file in desk.folder.glob("desk.db*"):
            database_file.unlink()
        process = start_migration(desk)
        ledger_rows = 1 + (COUNT - 2) * (number % KILLS) // KILLS
        wait_until(
            lambda ledger_rows=ledger_rows: path.exists() and count_ledger_rows(path) >= ledger_rows, process
        )
        time.sleep(rng.random() * 0.02)
        process.kill()
        process.wait()
        applied_counts.add(count_applied(path))
        desk.up()
        assert count_applied(path) == COUNT


def test_unconfirmed_migration_is_reported_as_in_doubt(desk):
    """In WAL mode the commit may reappear when the database is opened again."""
    forge.require_faults()
    path, copy, arguments = (
        desk.folder / "desk.db",
        desk.folder.with_name("aside"),
        ("migrate", "up", "--no-backup"),
    )
    desk.up(steps=1)
    shutil.copytree(desk.folder, copy)
    arguments = ("migrate", "up", "--no-backup", "--steps", "1", "-o", "json")
    job = forge.start(desk.folder, *arguments, fault=("fail once", 1 << 30, errno.EIO))
    assert forge.wait_for_result(job)[0] == 0
    committed_count = 0
    for call in range(job.calls, 0, -1):
        shutil.rmtree(desk.folder)
        shutil.copytree(copy, desk.folder)
        status, result = forge.run(desk.folder, *arguments, fault=("fail on", call, errno.EIO))
        assert status == 0 or result["error"]["code"] == "migration-in-doubt" or count_applied(path) == 1
        committed_count += status != 0 and count_applied(path) == 2
        if committed_count:
            break
    assert committed_count


def count_ledger_rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select count(*) from schema_migrations").fetchone()[0]


def test_full_disk_leaves_migration_prefix(desk):
    path, applied_counts = desk.folder / "desk.db", set()
    for size in (0, 1, 4096, 20_000, 100_000, 300_000, 700_000, 1_500_000, 10_000_000):
        for database_file in desk.folder.glob("desk.db*"):
            database_file.unlink()
        succeeded, error = run_with_file_size_limit(size, desk.up)
        assert succeeded or "|" in error, error
        applied_count = count_applied(path) if path.exists() and path.stat().st_size else 0
        assert succeeded == (applied_count == COUNT)
        applied_counts.add(applied_count)
        desk.up()
        assert count_applied(path) == COUNT
    assert len(applied_counts) > 2


def test_killed_mysql_migration_is_reported_and_continued(tmp_path):
    """If it is unknown whether a statement has run, the admin checks and resolves it, and the run continues."""
    rng, applied_counts = create_rng("migrate on a server"), set()
    script = "\n".join(
        f"create table t{number} (x integer);\ninsert into t{number} values ({number});"
        for number in range(1, 16)
    )
    statements = [sql for _, sql in load_engine("mysql").script_dialect.split(script)]
    for number in retry_until(SERVED_KILLS, applied_counts, 2):
        with deployments.create_desk("mysql", tmp_path / str(number)) as desk:
            desk.write({"001_many": script})
            process = start_migration(desk)
            table_count = 1 + 12 * (number % SERVED_KILLS) // SERVED_KILLS
            with closing(servers.mysql_connection(desk.base.own)) as connection:
                wait_until(
                    lambda table_count=table_count, connection=connection: (
                        count_tables(connection) > table_count + 1
                    ),
                    process,
                )
            time.sleep(rng.random() * 0.02)
            process.kill()
            process.wait()
            applied_counts.add(complete_migration(desk, statements))
            assert set(desk.states()) == {"applied"}
            assert [desk.base.rows(f"select x from t{index}")[0][0] for index in range(1, 16)] == list(
                range(1, 16)
            )
            # a kill between the last commit and the drop leaves an empty journal; the next migration drops it
            assert "dbctl_migration_steps" not in desk.tables() or desk.count("dbctl_migration_steps") == 0


def count_tables(connection):
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from information_schema.tables where table_schema = database()")
        return cursor.fetchone()[0]


def complete_migration(desk, statements):
    """Continue the migration, and resolve an unknown statement as an admin; return how many statements had run."""
    with desk.open_app() as app:
        partial = read_partial_migrations(app.reader("main", allow_empty=True)).get("001_many")
    if partial and (step := partial.unknown_step):
        with pytest.raises(MigrationStatementUnknownError):
            desk.up()
        table = f"t{(step.number + 1) // 2}"
        has_run = table in desk.tables()
        if has_run and statements[step.number - 1].startswith("insert"):
            has_run = desk.count(table) > 0
        with desk.open_app() as app, app.writer("main") as db:
            resolve_statement(db, "001_many", done=has_run)
    desk.up()
    return partial.ended_count if partial else 0
