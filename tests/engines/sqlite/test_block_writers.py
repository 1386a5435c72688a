"""Writers of a SQLite file are blocked, and unblocked after any failure."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dbctl.engines.sqlite import dump as block_writers_module
from dbctl.engines.sqlite.dump import block_writers
from dbctl.errors.connection import BusyError, WriteConflictError
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import catch_error, query_rows


@pytest.fixture(params=["wal", "delete"])
def file(request, tmp_path):
    flashpoint_app.run_statements(
        tmp_path / "a.db", f"pragma journal_mode = {request.param}", "create table t (x)"
    )
    return tmp_path / "a.db"


def list_names(file):
    return sorted(path.name for path in file.parent.iterdir())


def write(file, *, wait=0.0):
    with closing(sqlite3.connect(file, timeout=wait, isolation_level=None)) as app:
        app.execute("insert into t values (1)")


def test_commits_are_blocked_and_reads_are_not(file):
    with block_writers(file, "app/a", timeout=5) as release:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write(file)
        assert query_rows(file, "select count(*) from t") == [(0,)]
        release()
        write(file)
        release()  # a second call has no effect
    assert query_rows(file, "select count(*) from t") == [(1,)]


def test_failure_leaves_no_side_files(file):
    initial = list_names(file)
    with pytest.raises(ZeroDivisionError), block_writers(file, "app/a", timeout=5):
        _ = 1 / 0
    write(file)
    assert list_names(file) == initial


def test_permanent_writer_raises_busy_error(file):
    with closing(sqlite3.connect(file, isolation_level=None)) as app:
        app.execute("begin immediate")
        with pytest.raises(BusyError), block_writers(file, "app/a", timeout=0.1):
            pytest.fail("the file was locked")
        app.execute("rollback")


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_missing_or_invalid_file_is_not_locked(tmp_path, content):
    if content is not None:
        (tmp_path / "a.db").write_bytes(content)
    with block_writers(tmp_path / "a.db", "app/a", timeout=5) as release:
        release()
    assert ((tmp_path / "a.db").read_bytes() if content is not None else None) == content


def test_killed_process_releases_the_lock(file):
    code = (
        "import sys, time; from pathlib import Path; from dbctl.engines.sqlite.dump import block_writers\n"
        "with block_writers(Path(sys.argv[1]), 'app/a', timeout=5): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, file], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write(file)
        holder.send_signal(signal.SIGKILL)
    write(file, wait=30)
    assert query_rows(file, "select count(*) from t") == [(1,)]


@pytest.fixture(params=["wal", "delete"])
def deployed(request, tmp_path):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    flashpoint_app.run_statements(path, f"pragma journal_mode = {request.param}", "create table ticks (n)")
    return path


@pytest.mark.parametrize("times", [1, 99])
def test_commit_before_the_exchange_repeats_the_safety_backup(deployed, monkeypatch, times):
    backup, original_release, commits = (
        promptvault_app.create_app_backup(deployed),
        block_writers_module._release,
        [],
    )

    def release(*pipes):
        original_release(*pipes)
        if len(commits) < times:
            commits.append(1)
            flashpoint_app.run_statements(deployed, f"insert into ticks values ({len(commits)})")

    monkeypatch.setattr(block_writers_module, "_release", release)
    if times == 1:
        result = promptvault_app.apply_restore(deployed, backup.id)
        (safety,) = promptvault_app.find_backup_folder(deployed, result.safety_backup).glob("*.db")
        assert query_rows(safety, "select n from ticks") == [(1,)]
        assert query_rows(deployed, "select n from ticks") == []
        assert (
            len(promptvault_app.list_all_backups(deployed).page.items) == 2
        )  # the first safety backup was deleted
    else:
        start = time.monotonic()
        error = catch_error(WriteConflictError, lambda: promptvault_app.apply_restore(deployed, backup.id))
        assert time.monotonic() - start < 60
        assert "Nothing was changed" in error.hint
        assert query_rows(deployed, "select count(*) from ticks") == [(len(commits),)]
        assert len(promptvault_app.list_all_backups(deployed).page.items) == 1
