"""The journal as a file: concurrent writers, histories, retention, clocks, versions."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from dbctl.config.model import JournalConfig
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.errors.usage import PlanChangedError
from dbctl.model import now
from dbctl.services.events import recorder, store
from dbctl.services.events.history import list_runs, read_history, show_run
from dbctl.services.events.recorder import PruneRuns, RunRecorder, RunsPruned
from dbctl.services.events.runs import Run, RunError, RunFilter, RunOutcome, name_result
from tests.services.events.kills import fork, wait

START = datetime(2026, 11, 19, 3, tzinfo=UTC)
CONFIG = "/etc/dbctl/dbctl.toml"


def record(
    folder,
    command="backup create",
    *,
    app="blog",
    status=0,
    started_at=None,
    settings=None,
    outcomes=(),
    error=None,
):
    """Record a run that has ended; return its id."""
    run = Run(command=command, app=app, config=CONFIG, started_at=started_at or now())
    run_recorder = RunRecorder(folder, settings or JournalConfig(), run, [app])
    run_recorder.begin()
    details = RunError(code=error, message=error, hint="") if error else None
    ended = structs.replace(
        run_recorder.run, result=name_result(status), exit_code=status, ended_at=now(), error=details
    )
    run_recorder.finish(ended, outcomes)
    return run_recorder.run.id


def list_ids(folder, **selected):
    page = list_runs(folder, RunFilter(**{"limit": 100, **selected}))
    return [run.id for run in page.items]


@pytest.mark.slow
def test_eight_concurrent_writers_lose_no_record(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BUSY_SECONDS", 60)  # the machine may be busy
    folder = tmp_path / "state"  # the first of them creates it

    def work():
        for _ in range(25):
            record(folder)

    assert [wait(pid) for pid in [fork(work) for _ in range(8)]] == [0] * 8
    page = list_runs(folder, RunFilter(limit=1000))
    assert (page.total, {run.result for run in page.items}) == (200, {"ok"})
    assert [run.id for run in page.items] == list(range(200, 0, -1))
    assert list((folder / recorder.LOCKS).iterdir()) == []
    assert {path.stat().st_mode & 0o077 for path in [folder, *folder.iterdir()]} == {0}


def test_run_of_killed_process_is_interrupted_until_next_run_closes_it(tmp_path):
    def begin():
        run = Run(command="restore apply", config=CONFIG, started_at=now())
        RunRecorder(tmp_path, JournalConfig(), run, ["blog"]).begin()
        os.kill(os.getpid(), 9)

    assert wait(fork(begin)) == -9
    assert show_run(tmp_path, 1).result == "interrupted"
    assert list_ids(tmp_path, failed=True) == [1]
    record(tmp_path)
    assert show_run(tmp_path, 1).result == "interrupted"
    assert list_ids(tmp_path, failed=True) == [1]
    assert list((tmp_path / recorder.LOCKS).iterdir()) == []


def test_run_of_living_process_is_running_for_other_processes(tmp_path):
    run = Run(command="restore apply", config=CONFIG, started_at=now())
    run_recorder = RunRecorder(tmp_path, JournalConfig(), run, ["blog"])
    run_recorder.begin()

    def examine():
        record(tmp_path)  # it closes interrupted runs
        assert show_run(tmp_path, 1).result == "running"

    assert wait(fork(examine)) == 0
    run_recorder.finish(structs.replace(run_recorder.run, result="ok", exit_code=0))
    assert show_run(tmp_path, 1).result == "ok"


def test_history_counts_failures_since_last_success(tmp_path):
    success = record(tmp_path, started_at=START - timedelta(days=1))
    for day in range(3):
        record(tmp_path, status=10, error="unreachable", started_at=START + timedelta(days=day))
    record(tmp_path, "backup verify", status=4)
    record(tmp_path, app="other")
    backups, verifications = read_history(tmp_path, CONFIG, "blog")
    assert (backups.command, backups.failures, backups.failing_since) == ("backup create", 3, START)
    assert (backups.last_success.id, backups.error_code) == (success, "unreachable")
    assert (verifications.failures, verifications.last_success) == (1, None)
    assert read_history(tmp_path, "/other/dbctl.toml", "blog") == []
    record(tmp_path)
    assert read_history(tmp_path, CONFIG, "blog")[0].failures == 0


@pytest.mark.parametrize(("status", "failures"), [(0, 0), (3, 0), (141, 0), (4, 1), (12, 1), (143, 1)])
def test_exit_codes_that_are_failures(tmp_path, status, failures):
    record(tmp_path, status=status)
    assert read_history(tmp_path, CONFIG, "blog")[0].failures == failures
    assert len(list_ids(tmp_path, failed=True)) == failures


def test_instances_of_fleet_have_their_own_history(tmp_path):
    outcomes = [
        RunOutcome(app="shop/a", exit_code=0),
        RunOutcome(app="shop/b", exit_code=10, error_code="unreachable"),
    ]
    run = record(tmp_path, app="shop", status=12, outcomes=outcomes)
    histories = {app: read_history(tmp_path, CONFIG, app)[0] for app in ("shop", "shop/a", "shop/b")}
    failures = {app: history.failures for app, history in histories.items()}
    assert failures == {"shop": 1, "shop/a": 0, "shop/b": 1}
    results = {app: (history.last.result, history.last.exit_code) for app, history in histories.items()}
    assert results == {"shop": ("partial", 12), "shop/a": ("ok", 0), "shop/b": ("unreachable", 10)}
    assert list_ids(tmp_path, app="shop/b", failed=True) == [run]
    assert list_ids(tmp_path, app="shop/a", failed=True) == []


def test_filters_and_pages(tmp_path):
    for index in range(6):
        command = "backup create" if index % 2 else "users create"
        record(tmp_path, command, status=index % 3, app="a" if index < 3 else "b")
    assert list_ids(tmp_path, command="backup create") == [6, 4, 2]
    assert list_ids(tmp_path, command="backup") == [6, 4, 2]
    assert list_ids(tmp_path, command="back") == []
    assert list_ids(tmp_path, app="a") == [3, 2, 1]
    assert list_ids(tmp_path, app="b", failed=True) == [6, 5]
    page = list_runs(tmp_path, RunFilter(limit=4))
    assert (page.total, page.has_more, page.next_key) == (6, True, ["3"])
    page = list_runs(tmp_path, RunFilter(limit=4, after=3))
    assert ([run.id for run in page.items], page.has_more) == ([2, 1], False)


def test_clock_that_is_set_back_changes_neither_order_nor_results(tmp_path):
    record(tmp_path, started_at=now() + timedelta(days=30), status=1)
    last = record(tmp_path, started_at=now())
    assert list_ids(tmp_path) == [last, 1]
    assert read_history(tmp_path, CONFIG, "blog")[0].failures == 0
    assert list_ids(tmp_path, since=now() + timedelta(days=1)) == [last, 1]
    assert list_ids(tmp_path, since=now() + timedelta(days=31)) == []


def test_old_records_are_deleted_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "INTERVAL", 10)
    for _ in range(9):
        record(tmp_path, started_at=now() - timedelta(days=500))
    for _ in range(11):
        record(tmp_path)
    assert list_ids(tmp_path) == list(range(20, 9, -1))
    for _ in range(10):
        record(tmp_path, settings=structs.replace(JournalConfig(), max_runs=5))
    assert list_ids(tmp_path) == list(range(30, 25, -1))
    with closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        assert connection.execute("select min(run) from outcomes").fetchone() == (26,)


def test_clock_of_the_future_deletes_no_record(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "INTERVAL", 10)
    for index in range(10):
        record(tmp_path, started_at=now() + timedelta(days=10_000 if index == 9 else 0))
    assert len(list_ids(tmp_path)) == 10


def test_prune_applies_the_confirmed_plan(tmp_path):
    for _ in range(5):
        record(tmp_path)
    operation = PruneRuns(tmp_path, keep=2, older_than=None)
    plan = operation.plan()
    assert (plan.rows, plan.destructive) == ({"runs": 3}, True)
    record(tmp_path)
    with pytest.raises(PlanChangedError):
        operation.apply(plan.digest)
    assert operation.apply(operation.plan().digest) == RunsPruned(deleted=4, retained=2)
    assert operation.plan().is_empty
    assert PruneRuns(tmp_path, keep=None, older_than=timedelta(days=1)).plan().is_empty
    assert PruneRuns(tmp_path, keep=None, older_than=timedelta(0)).plan().rows == {"runs": 2}


def test_prune_deletes_more_than_one_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "BATCH", 3)
    for _ in range(8):
        record(tmp_path)
    assert PruneRuns(tmp_path, keep=1, older_than=None).apply().deleted == 7


def insert_runs(folder, count):
    """Record runs of an earlier day directly: each run of a recorder takes milliseconds."""
    record(folder, started_at=datetime(2020, 1, 1, tzinfo=UTC))
    with store.EventStore(folder).writing() as connection:
        (last,) = connection.execute("select max(id) from runs").fetchone()
        connection.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)"
            " insert into runs select i + ?, command, result, failed, '2020-01-01', record from runs, n where id = ?",
            (count, last, last),
        )
        connection.execute(
            "insert into outcomes select ?, 'blog', command, id, 0, '', 0 from runs where id > ?",
            (CONFIG, last),
        )


def count_rows(folder):
    with closing(sqlite3.connect(folder / store.FILE_NAME)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        sql = "select (select count(*) from runs), (select count(*) from outcomes)"
        return connection.execute(sql).fetchone()


def test_prune_retains_runs_that_have_not_ended(tmp_path):
    insert_runs(tmp_path, 20)
    run = Run(command="backup create", app="blog", config=CONFIG, started_at=START)
    active = RunRecorder(tmp_path, JournalConfig(), run, ["blog", "shop"])
    active.begin()
    insert_runs(tmp_path, 20)
    operation = PruneRuns(tmp_path, keep=1, older_than=None)
    assert operation.plan().rows == {"runs": 41}
    assert operation.apply() == RunsPruned(deleted=41, retained=2)
    assert count_rows(tmp_path) == (2, 3)
    active.finish(structs.replace(active.run, result="ok", exit_code=0))


def test_age_is_that_of_the_oldest_records(tmp_path):
    """A record with a wrong time between others does not let younger ones be deleted."""
    for days in (30, 20, 1, 25, 2):
        record(tmp_path, started_at=now() - timedelta(days=days))
    prune_old = PruneRuns(tmp_path, keep=None, older_than=timedelta(days=10))
    assert prune_old.apply() == RunsPruned(deleted=2, retained=3)
    assert PruneRuns(tmp_path, keep=None, older_than=timedelta(seconds=0.001)).apply().retained == 0


def test_prune_returns_the_space_to_the_file_system(tmp_path):
    insert_runs(tmp_path, 20_000)
    path = tmp_path / store.FILE_NAME
    before = path.stat().st_size
    assert PruneRuns(tmp_path, keep=10, older_than=None).apply().retained == 10
    assert path.stat().st_size < before / 10
    assert record(tmp_path) == 20_002


@pytest.mark.slow
def test_prune_is_interrupted_and_continued_while_others_record(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BUSY_SECONDS", 60)  # the machine may be busy
    # Transactions do not grow, and pauses last longer: even on a fast machine, no process deletes all records before it is killed.
    monkeypatch.setattr(recorder, "BATCH", 50)
    monkeypatch.setattr(recorder, "_BATCH_SECONDS", 0)
    monkeypatch.setattr(recorder, "_PAUSE_SECONDS", 0.005)
    insert_runs(tmp_path, 20_000)
    operation = PruneRuns(tmp_path, keep=None, older_than=timedelta(days=1))
    writers = [fork(lambda: [record(tmp_path) for _ in range(40)]) for _ in range(3)]
    remaining = [operation.plan().rows["runs"]]
    while len(remaining) < 8:
        pruner = fork(operation.apply)
        while operation.plan().rows.get("runs", 0) == remaining[-1]:
            time.sleep(0.001)
        os.kill(pruner, signal.SIGKILL)
        wait(pruner)
        remaining.append(operation.plan().rows.get("runs", 0))
    assert [wait(pid) for pid in writers] == [0, 0, 0]
    assert remaining == sorted(remaining, reverse=True)
    assert 0 < remaining[-1] < remaining[0]
    operation.apply()
    assert count_rows(tmp_path) == (120, 120)


def test_journal_of_newer_version_is_neither_read_nor_written(tmp_path):
    record(tmp_path)
    with closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        connection.execute(f"pragma user_version = {store.VERSION + 1}")
    for access in (lambda: record(tmp_path), lambda: show_run(tmp_path, 1)):
        with pytest.raises(JournalUnavailableError):
            access()


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_other_file_is_not_replaced(tmp_path, content):
    path = tmp_path / store.FILE_NAME
    path.write_bytes(content)
    for access in (lambda: record(tmp_path), lambda: show_run(tmp_path, 1)):
        with pytest.raises(JournalCorruptError):
            access()
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"command": "\xff"}', b'{"command": 1}'])
def test_damaged_record_is_a_damaged_journal(tmp_path, content):
    run_id = record(tmp_path)
    with closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        connection.execute("update runs set record = ?", [content])
        connection.commit()
    for access in (
        lambda: show_run(tmp_path, run_id),
        lambda: list_ids(tmp_path),
        lambda: read_history(tmp_path, CONFIG, "blog"),
    ):
        with pytest.raises(JournalCorruptError):
            access()


def test_journal_that_was_deleted_during_a_run_gets_its_result(tmp_path):
    run = Run(command="backup create", config=CONFIG, started_at=now())
    run_recorder = RunRecorder(tmp_path, JournalConfig(), run, ["blog"])
    run_recorder.begin()
    for path in tmp_path.glob(f"{store.FILE_NAME}*"):
        path.unlink()
    run_recorder.finish(structs.replace(run_recorder.run, result="ok", exit_code=0))
    assert [item.result for item in list_runs(tmp_path, RunFilter(limit=9)).items] == ["ok"]


def test_write_ahead_log_does_not_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHECKPOINT_BYTES", 100_000)
    for _ in range(40):
        record(tmp_path)
    assert (tmp_path / f"{store.FILE_NAME}-wal").stat().st_size < 200_000
