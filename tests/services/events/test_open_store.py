"""The file of the event store is open during a run, but in no process that forks, and never after it was replaced."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dbctl.config.model import JournalConfig
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.model import now
from dbctl.services.events.history import list_runs
from dbctl.services.events.recorder import RunRecorder
from dbctl.services.events.runs import Run, RunFilter
from dbctl.services.events.store import FILE_NAME, VERSION, EventStore
from tests.services.events.kills import fork, list_open_files, wait


def begin(state):
    recorder = RunRecorder(state, JournalConfig(), Run(command="doctor", started_at=now()), ["blog"])
    recorder.begin()
    return recorder


def finish(recorder):
    recorder.finish(structs.replace(recorder.run, result="ok", exit_code=0))


def list_results(state):
    return [run.result for run in list_runs(state, RunFilter(limit=9)).items]


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="requires Linux")


def test_store_is_open_from_the_beginning_of_a_run_to_its_end(tmp_path):
    recorder = begin(tmp_path)
    assert FILE_NAME in list_open_files()
    with recorder.store.writing() as first:
        pass
    with recorder.store.writing() as second:
        pass
    assert first is second
    finish(recorder)
    assert list_open_files() == set()


def test_store_is_closed_before_a_fork_and_opened_again(tmp_path):
    recorder = begin(tmp_path)

    def work():
        assert list_open_files() == set()
        finish(begin(tmp_path))
        assert list_open_files() == set()

    assert wait(fork(work)) == 0
    assert list_open_files() == set()
    finish(recorder)
    assert list_results(tmp_path) == ["ok", "ok"]


def test_store_that_is_replaced_during_a_run_gets_its_end(tmp_path):
    recorder = begin(tmp_path)
    other = tmp_path / "other"
    finish(begin(other))
    with EventStore(other).writing() as connection:
        connection.execute("delete from runs")
    for suffix in ("", "-wal", "-shm"):
        (other / f"{FILE_NAME}{suffix}").replace(tmp_path / f"{FILE_NAME}{suffix}")
    finish(recorder)
    assert list_results(tmp_path) == ["ok"]


def test_store_that_a_newer_version_upgrades_during_a_run_is_not_written(tmp_path):
    recorder = begin(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute(f"pragma user_version = {VERSION + 1}")
    with pytest.raises(JournalUnavailableError, match="a newer version"):
        finish(recorder)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("select result from runs").fetchall() == [("running",)]


def test_program_of_a_run_inherits_no_file_of_the_store(tmp_path):
    recorder = begin(tmp_path)
    words = ["ls", "-l", "/proc/self/fd"]
    listing = subprocess.run(words, close_fds=False, check=True, capture_output=True, text=True).stdout
    assert FILE_NAME not in listing
    finish(recorder)


def test_store_is_closed_after_an_error(tmp_path):
    recorder = begin(tmp_path)
    with pytest.raises(JournalCorruptError), recorder.store.writing():
        raise ValueError
    assert list_open_files() == set()
    finish(recorder)
    assert list_results(tmp_path) == ["ok"]


def test_run_that_could_not_begin_leaves_no_file_open(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"damaged" * 1000)
    with pytest.raises(JournalCorruptError):
        begin(tmp_path)
    assert list_open_files() == set()
