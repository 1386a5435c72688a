"""A SQLite file that nobody else may write for a while, and that is let go whatever becomes of who asked for it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from dbctl.engines.sqlite.backup import block_writers
from dbctl.engines.sqlite.backup.block_writers import still
from dbctl.errors import BusyError, StirredError
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import caught, rows


@pytest.fixture(params=["wal", "delete"])
def file(request, tmp_path):
    flashpoint_app.run(tmp_path / "a.db", f"pragma journal_mode = {request.param}", "create table t (x)")
    return tmp_path / "a.db"


def others(file):
    return sorted(one.name for one in file.parent.iterdir())


def write(file, *, wait=0.0):
    with closing(sqlite3.connect(file, timeout=wait, isolation_level=None)) as app:
        app.execute("insert into t values (1)")


def test_nobody_commits_meanwhile_and_everybody_reads(file):
    with still(file, "app/a", timeout=5) as let_go:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write(file)
        assert rows(file, "select count(*) from t") == [(0,)]
        let_go()
        write(file)
        let_go()  # twice is once
    assert rows(file, "select count(*) from t") == [(1,)]


def test_whatever_fails_meanwhile_nothing_stays_beside_the_file(file):
    before = others(file)
    with pytest.raises(ZeroDivisionError), still(file, "app/a", timeout=5):
        _ = 1 / 0
    write(file)
    assert others(file) == before


def test_somebody_who_writes_all_the_time_ends_the_wait(file):
    with closing(sqlite3.connect(file, isolation_level=None)) as app:
        app.execute("begin immediate")
        with pytest.raises(BusyError), still(file, "app/a", timeout=0.1):
            pytest.fail("it was not still")
        app.execute("rollback")


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_what_is_no_database_is_still_by_itself(tmp_path, content):
    if content is not None:
        (tmp_path / "a.db").write_bytes(content)
    with still(tmp_path / "a.db", "app/a", timeout=5) as let_go:
        let_go()
    assert ((tmp_path / "a.db").read_bytes() if content is not None else None) == content


def test_a_killed_dbctl_lets_it_go(file):
    code = (
        "import sys, time; from pathlib import Path; from dbctl.engines.sqlite.backup.block_writers import still\n"
        "with still(Path(sys.argv[1]), 'app/a', timeout=5): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, file], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write(file)
        holder.send_signal(signal.SIGKILL)
    write(file, wait=30)
    assert rows(file, "select count(*) from t") == [(1,)]


@pytest.fixture(params=["wal", "delete"])
def deployed(request, tmp_path):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    flashpoint_app.run(path, f"pragma journal_mode = {request.param}", "create table ticks (n)")
    return path


@pytest.mark.parametrize("times", [1, 99])
def test_a_commit_between_the_copy_and_the_exchange_has_it_copied_anew(deployed, monkeypatch, times):
    kept, real, commits = promptvault_app.create(deployed), block_writers._let_go, []

    def let_go(holder):
        real(holder)
        if len(commits) < times:
            commits.append(1)
            flashpoint_app.run(deployed, f"insert into ticks values ({len(commits)})")

    monkeypatch.setattr(block_writers, "_let_go", let_go)
    if times == 1:
        done = promptvault_app.apply(deployed, kept.id)
        (safety,) = promptvault_app.folder_of(deployed, done.safety_backup).glob("*.db")
        assert rows(safety, "select n from ticks") == [(1,)]
        assert rows(deployed, "select n from ticks") == []
        assert len(promptvault_app.listed(deployed).page.items) == 2  # the copy that was stirred is gone
    else:
        begun = time.monotonic()
        error = caught(StirredError, lambda: promptvault_app.apply(deployed, kept.id))
        assert time.monotonic() - begun < 60
        assert "Nothing was changed" in error.hint
        assert rows(deployed, "select count(*) from ticks") == [(len(commits),)]
        assert len(promptvault_app.listed(deployed).page.items) == 1
