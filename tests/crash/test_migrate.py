"""``migrate up`` that is killed, or runs out of room: a prefix is applied, the ledger says which, the next run completes."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import time
from contextlib import closing

import pymysql
import pytest

from dbctl.engines.registry import language
from dbctl.errors import MigrationUnknownError
from dbctl.services.migrations.ledger.journal import resolve_statement, unfinished
from tests import servers
from tests.crash import forge
from tests.crash.figures import chance, figure, tries
from tests.crash.test_no_room import limited
from tests.services.migrations import deployments

KILLS, SERVED_KILLS = figure(6, 1000), figure(3, 100)
COUNT, ROWS = 20, 4000
FILL = "insert into t{0} with recursive c (n) as (select 1 union all select n + 1 from c limit {1}) select n from c;"


@pytest.fixture
def desk(tmp_path):
    """Twenty migrations of three statements each."""
    with deployments.settled("sqlite", tmp_path / "desk") as made:
        made.write(
            {
                f"{number:03d}_t": f"create table t{number} (x integer);\n{FILL.format(number, ROWS)}\n"
                f"create index i{number} on t{number} (x);"
                for number in range(1, COUNT + 1)
            }
        )
        yield made


def begin(desk):
    return forge.begin(desk.folder, "migrate", "up", "--no-backup")


def until(true, process):
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if true():
                return
        except (sqlite3.Error, pymysql.Error):  # it is being made
            pass
        time.sleep(0.002)


def prefix(path):
    """Return how many migrations are applied, once it is proved that ledger and schema tell the same, row by row."""
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
            one for (one,) in connection.execute("select version from schema_migrations order by version")
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


def test_a_kill_at_any_moment_leaves_a_prefix_and_the_next_run_completes(desk):
    """Killed at random moments of the run, of which the start of Python is left out."""
    at, path, seen = chance("migrate"), desk.folder / "desk.db", set()
    for number in tries(KILLS, seen, 2):
        for left in desk.folder.glob("desk.db*"):
            left.unlink()
        process = begin(desk)
        reached = 1 + (COUNT - 2) * (number % KILLS) // KILLS
        until(lambda reached=reached: path.exists() and ledger(path) >= reached, process)
        time.sleep(at.random() * 0.02)
        process.kill()
        process.wait()
        seen.add(prefix(path))
        desk.up()
        assert prefix(path) == COUNT


def test_an_end_that_the_disk_did_not_confirm_is_told_as_in_doubt(desk):
    """In WAL mode it may come back out of the -wal, once nobody has the file open."""
    forge.want_faults()
    path, aside, words = (
        desk.folder / "desk.db",
        desk.folder.with_name("aside"),
        ("migrate", "up", "--no-backup"),
    )
    desk.up(steps=1)
    shutil.copytree(desk.folder, aside)
    words = ("migrate", "up", "--no-backup", "--steps", "1", "-o", "json")
    job = forge.begin(desk.folder, *words, fault=("fail once", 1 << 30, errno.EIO))
    assert forge.end(job)[0] == 0
    stood = 0
    for at in range(job.calls, 0, -1):
        shutil.rmtree(desk.folder)
        shutil.copytree(aside, desk.folder)
        status, told = forge.done(desk.folder, *words, fault=("fail on", at, errno.EIO))
        assert status == 0 or told["error"]["code"] == "migration-in-doubt" or prefix(path) == 1
        stood += status != 0 and prefix(path) == 2
        if stood:
            break
    assert stood


def ledger(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select count(*) from schema_migrations").fetchone()[0]


def test_a_disk_that_is_full_leaves_a_prefix_and_the_next_run_completes(desk):
    path, seen = desk.folder / "desk.db", set()
    for size in (0, 1, 4096, 20_000, 100_000, 300_000, 700_000, 1_500_000, 10_000_000):
        for left in desk.folder.glob("desk.db*"):
            left.unlink()
        well, told = limited(size, desk.up)
        assert well or "|" in told, told
        reached = prefix(path) if path.exists() and path.stat().st_size else 0
        assert well == (reached == COUNT)
        seen.add(reached)
        desk.up()
        assert prefix(path) == COUNT
    assert len(seen) > 2


def test_a_kill_on_a_server_that_takes_nothing_back_is_told_and_the_next_run_goes_on(tmp_path):
    """Where it is not known whether a statement has run, somebody looks, and the run goes on as they say."""
    at, seen = chance("migrate on a server"), set()
    text = "\n".join(
        f"create table t{number} (x integer);\ninsert into t{number} values ({number});"
        for number in range(1, 16)
    )
    statements = [sql for _, sql in language("mysql").split(text)]
    for number in tries(SERVED_KILLS, seen, 2):
        with deployments.settled("mysql", tmp_path / str(number)) as desk:
            desk.write({"001_many": text})
            process = begin(desk)
            reached = 1 + 12 * (number % SERVED_KILLS) // SERVED_KILLS
            with closing(servers.mysql_connection(desk.base.own)) as watching:
                until(lambda reached=reached, watching=watching: tables(watching) > reached + 1, process)
            time.sleep(at.random() * 0.02)
            process.kill()
            process.wait()
            seen.add(completed(desk, statements))
            assert set(desk.states()) == {"applied"}
            assert [desk.base.rows(f"select x from t{one}")[0][0] for one in range(1, 16)] == list(
                range(1, 16)
            )
            assert "dbctl_migration_steps" not in desk.tables()


def tables(watching):
    with watching.cursor() as cursor:
        cursor.execute("select count(*) from information_schema.tables where table_schema = database()")
        return cursor.fetchone()[0]


def completed(desk, statements):
    """Run what is left, as an admin would who looks where it is asked for; return how many statements had run."""
    with desk.opened() as app:
        half = unfinished(app.reader("main", may_be_empty=True)).get("001_many")
    if half and (step := half.unknown):
        with pytest.raises(MigrationUnknownError):
            desk.up()
        table = f"t{(step.number + 1) // 2}"
        there = table in desk.tables()
        if there and statements[step.number - 1].startswith("insert"):
            there = desk.count(table) > 0
        with desk.opened() as app, app.writer("main", "migrate up") as db:
            resolve_statement(db, "001_many", done=there)
    desk.up()
    return half.ended if half else 0
