"""The file of the event store: kills, concurrent writers, full and read-only disks, files that are no store, upgrades."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, suppress

import pytest
from msgspec import structs
from sqlite_utils import Migrations

from dbctl.config.model import JournalConfig
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.model import now
from dbctl.services.events import recorder, schema, store
from dbctl.services.events.changes import log
from dbctl.services.events.changes.log import append_records
from dbctl.services.events.history import find_problems, list_runs
from dbctl.services.events.notices import SentNotices
from dbctl.services.events.progress import FleetProgress
from dbctl.services.events.recorder import PruneRuns, RunRecorder
from dbctl.services.events.runs import JournalLocation, Run, RunFilter
from dbctl.services.events.samples import Sample, save_samples
from dbctl.services.events.store import FILE_NAME, EventStore
from tests.crash.figures import choose_steps
from tests.services.events.kills import STRIDE, fork, run_killed, wait
from tests.small_disk import fill

TABLES = ("runs", "outcomes", "changes", "samples", "notices", "progress")
CONFIG = "/etc/dbctl/dbctl.toml"


def record_run(state):
    """Record a run that ends."""
    run = Run(command="backup create", app="blog", config=CONFIG, started_at=now())
    run_recorder = RunRecorder(state, JournalConfig(), run, ["blog"])
    run_recorder.begin()
    run_recorder.finish(structs.replace(run_recorder.run, result="ok", exit_code=0))


def record_change(state):
    """Record a change, which waits for the disk."""
    with EventStore(state).writing(sync=True) as connection:
        append_records(connection, state, [{"kind": "intent", "operation": 0, "databases": ["main"]}])


def record_sample(state):
    save_samples(state, CONFIG, [Sample(app="blog", database="main", taken_at=now())])


def record_notice(state):
    sent = SentNotices(state, CONFIG)
    sent.add(f"blog{os.getpid()}", "backup create", "unreachable", "ping")
    sent.store()


def record_progress(state):
    progress = FleetProgress(state, f"shop{os.getpid()}", "backup create", ())
    with progress.open(resume=False, timeout=60):
        progress.add("shop/a")


RECORDS = (record_run, record_change, record_sample, record_notice, record_progress)


def read_tables(state):
    """Return the number of rows of each table, of an intact store."""
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return {table: connection.execute(f"select count(*) from {table}").fetchone()[0] for table in TABLES}


def read_content(state):
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        return list(connection.iterdump())


def test_version_is_the_number_of_migrations():
    assert len(schema.migrations._migrations) == store.VERSION


@pytest.mark.slow
def test_twenty_concurrent_writers_lose_nothing(tmp_path, monkeypatch):
    for module in (store, log):
        monkeypatch.setattr(module, "BUSY_SECONDS", 60)  # the machine may be busy
    state = tmp_path / "state"  # the first of them creates it

    def work():
        for _ in range(5):
            for record in RECORDS:
                record(state)

    assert [wait(pid) for pid in [fork(work) for _ in range(20)]] == [0] * 20
    assert read_tables(state) == {
        "runs": 100,
        "outcomes": 100,
        "changes": 101,  # with the record that begins the log
        "samples": 100,
        "notices": 20,
        "progress": 40,
    }
    assert list((state / recorder.LOCKS).iterdir()) == []


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("is_new", [pytest.param(True, marks=pytest.mark.slow), False])
def test_process_killed_at_any_step_leaves_an_intact_store(tmp_path, record, is_new):
    first = tmp_path / "first"
    if not is_new:
        for earlier in RECORDS:
            earlier(first)
    for step in choose_steps(record.__name__, STRIDE):
        state = tmp_path / str(step)
        if not is_new:
            shutil.copytree(first, state)
        is_killed = run_killed(step, lambda state=state: record(state))
        for later in RECORDS:
            later(state)
        tables = read_tables(state)
        # What the killed process recorded is complete, or not there; a run that it did not end is interrupted.
        assert tables["runs"] == tables["outcomes"]
        results = [run.result for run in list_runs(state, RunFilter(limit=9)).items]
        assert results[0] == "ok"
        assert set(results) <= {"ok", "interrupted"}
        shutil.rmtree(state)
        if not is_killed:
            break
    assert step > 8


def test_prune_killed_at_any_step_leaves_runs_with_their_outcomes(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "BATCH", 2)
    monkeypatch.setattr(recorder, "_BATCH_SECONDS", 0)
    for _ in range(6):
        record_run(tmp_path / "first")
    for step in choose_steps("prune", STRIDE):
        state = tmp_path / str(step)
        shutil.copytree(tmp_path / "first", state)
        prune = PruneRuns(state, keep=1, older_than=None)
        is_killed = run_killed(step, prune.apply)
        tables = read_tables(state)
        assert tables["runs"] == tables["outcomes"] in (6, 4, 2, 1)
        assert prune.apply().retained == 1
        if not is_killed:
            break
    assert step > 20


def use_newer_version(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 99")


def damage(path):
    path.write_bytes(b"no database" * 1000)


def use_other_database(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table runs (id)")


def use_empty_file(path):
    path.write_bytes(b"")


def use_pipe(path):
    path.unlink()
    os.mkfifo(path)


def use_folder(path):
    path.unlink()
    path.mkdir()


def use_link_to_nowhere(path):
    path.unlink()
    path.symlink_to("/nonexistent/events.sqlite")


def plant_link(path):
    if os.geteuid():
        pytest.skip("only root can give a file to another user")
    path.parent.chmod(0o777)
    path.rename(path.with_name("target"))
    path.symlink_to("target")
    os.lchown(path, 12345, 12345)


def plant_file(path):
    if os.geteuid():
        pytest.skip("only root can give a file to another user")
    path.parent.chmod(0o777)
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (use_newer_version, JournalUnavailableError),
        (damage, JournalCorruptError),
        (use_other_database, JournalCorruptError),
        (use_empty_file, JournalCorruptError),
        (use_pipe, JournalUnavailableError),
        (use_folder, JournalUnavailableError),
        (use_link_to_nowhere, JournalUnavailableError),
        (plant_link, JournalUnavailableError),
        (plant_file, JournalUnavailableError),
    ],
)
def test_file_that_is_no_store_is_neither_read_nor_written_nor_replaced(tmp_path, spoil, error):
    record_run(tmp_path)
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    spoil(path)
    before = (path.lstat().st_ino, path.read_bytes() if path.is_file() else None)
    for access in (
        record_run,
        record_change,
        record_sample,
        lambda state: list_runs(state, RunFilter(limit=1)),
    ):
        with pytest.raises(error):
            access(tmp_path)
    record_notice(tmp_path)  # the notice is sent again
    progress = FleetProgress(tmp_path, "shop", "backup create", ())
    with progress.open(resume=False, timeout=0):
        progress.add("shop/a")
    assert progress.failure
    assert (path.lstat().st_ino, path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize("leave", [0, 4096, 8192, 16_384, *range(65_536, 229_376, 16_384)])
def test_full_disk_damages_nothing_and_leaves_no_incomplete_store(disk, leave):
    state = disk / "state"
    fill(disk, leave=leave)
    with pytest.raises(JournalUnavailableError):
        for _ in range(1000):
            record_run(state)
    assert not list(state.glob(f".{FILE_NAME}*"))
    for record in (record_change, record_sample):
        with suppress(JournalUnavailableError):
            record(state)
    (disk / "filler").unlink()
    before = read_tables(state) if (state / FILE_NAME).exists() else dict.fromkeys(TABLES, 0)
    for record in RECORDS:
        record(state)
    assert {name: rows - before[name] for name, rows in read_tables(state).items()} == {
        "runs": 1,
        "outcomes": 1,
        "changes": 2,  # with the record that begins the log
        "samples": 1,
        "notices": 1,
        "progress": 2,
    }


@pytest.mark.parametrize("has_log", [True, False])
def test_store_on_a_read_only_file_system_is_read_and_not_written(disk, has_log):
    state = disk / "state"
    record_run(state)
    if not has_log:
        with closing(sqlite3.connect(state / FILE_NAME)) as connection:
            connection.execute(
                "pragma user_version"
            )  # the last connection moves the write-ahead log to the file
        assert [path.name for path in state.glob(f"{FILE_NAME}*")] == [FILE_NAME]
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert [run.result for run in list_runs(state, RunFilter(limit=9)).items] == ["ok"]
    for record in (record_run, record_change, record_sample):
        with pytest.raises(JournalUnavailableError):
            record(state)
    record_notice(state)
    folder = disk / "missing" / "state"
    assert list_runs(folder, RunFilter(limit=9)).total == 0
    with pytest.raises(JournalUnavailableError):
        record_run(folder)
    for unwritten in (state, folder):
        location = JournalLocation(folder=unwritten, config=CONFIG)
        problems = find_problems(location, "blog", backup_config=None)
        assert "cannot be written" in problems[-1].message


def test_store_that_can_be_created_is_no_problem(tmp_path):
    assert not EventStore(tmp_path / "missing" / "state").is_read_only


def test_change_waits_for_the_disk_and_a_run_does_not(tmp_path):
    record_run(tmp_path)
    trace = tmp_path / "trace"
    for record, expected in ((record_run, False), (record_change, True)):
        assert wait(fork(lambda record=record: _trace_syncs(record, tmp_path, trace))) == 0
        assert ("full" in trace.read_text()) is expected


def _trace_syncs(record, state, trace):
    """Write the values of ``synchronous`` that a record uses."""
    connect, statements = sqlite3.connect, list[str]()

    def connect_traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(statements.append)
        return connection

    sqlite3.connect = connect_traced
    record(state)
    trace.write_text("\n".join(text for text in statements if "synchronous" in text))


@pytest.fixture
def second_version(monkeypatch):
    """A later version of dbctl, whose schema has another table."""
    migrations = Migrations("dbctl.events")
    migrations(name="first")(schema.first)

    @migrations()
    def second(db):
        db["facts"].create({"database": str, "checked_at": str}, pk="database")

    monkeypatch.setattr(schema, "migrations", migrations)
    monkeypatch.setattr(store, "VERSION", 2)


def test_store_of_an_earlier_version_is_read_and_upgraded_by_the_next_writer(tmp_path, request):
    record_run(tmp_path)
    request.getfixturevalue("second_version")
    assert list_runs(tmp_path, RunFilter(limit=9)).total == 1
    record_run(tmp_path)
    assert list_runs(tmp_path, RunFilter(limit=9)).total == 2
    with EventStore(tmp_path).reading() as db:
        assert db["facts"].count == 0
        assert db.conn.execute("pragma user_version").fetchone() == (2,)


def test_upgrade_killed_at_any_step_is_repeated(tmp_path, request):
    record_run(tmp_path / "first")
    request.getfixturevalue("second_version")
    for step in choose_steps("upgrade", STRIDE):
        state = tmp_path / str(step)
        shutil.copytree(tmp_path / "first", state)
        is_killed = run_killed(step, lambda state=state: record_sample(state))
        record_sample(state)
        with EventStore(state).reading() as db:
            assert db["facts"].count == 0
            assert [row["name"] for row in db["_sqlite_migrations"].rows] == ["first", "second"]
        assert read_tables(state)["runs"] == 1
        if not is_killed:
            break
    assert step > 10


def test_new_store_has_another_id(tmp_path):
    ids = set()
    for name in ("a", "b"):
        record_run(tmp_path / name)
        with EventStore(tmp_path / name).reading() as db:
            ids |= {row["value"] for row in db["meta"].rows_where("name = 'store'")}
    assert len(ids) == 2


def test_store_records_text_that_is_not_utf_8(tmp_path):
    config = os.fsdecode(b"/etc/\xff.toml")
    sent = SentNotices(tmp_path, config)
    sent.add(os.fsdecode(b"blog\xff"), "backup create", "x", "ping")
    sent.store()
    assert SentNotices(tmp_path, config).find(os.fsdecode(b"blog\xff"), "backup create") is not None
