"""The journal after kill -9 of processes that write it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from msgspec import structs

from dbctl.config.model import JournalConfig
from dbctl.model import now
from dbctl.services.events import recorder, store
from dbctl.services.events.history import list_runs
from dbctl.services.events.recorder import RunRecorder
from dbctl.services.events.runs import Run, RunFilter
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng

SIGNALS = choose_count(40, 1000)
KILLS, WRITERS = choose_count(24, 1000), 4


def record_until_killed(folder):
    while True:
        run = Run(command="backup create", config="/dbctl.toml", started_at=now())
        run_recorder = RunRecorder(folder, JournalConfig(), run, ["blog"])
        run_recorder.begin()
        run_recorder.finish(structs.replace(run_recorder.run, result="ok", exit_code=0))


def start_writer(folder):
    pid = os.fork()
    if not pid:
        try:
            record_until_killed(folder)
        finally:
            os._exit(1)
    return pid


@pytest.mark.slow
def test_killed_writers_leave_an_intact_journal_with_every_completed_run(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHECKPOINT_BYTES", 100_000)  # a kill also hits checkpoints
    rng = create_rng("journal")
    for _ in range(0, KILLS, WRITERS):
        pids = [start_writer(tmp_path) for _ in range(WRITERS)]
        time.sleep(rng.uniform(0.001, 0.1))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids} == {-9}
        page = list_runs(tmp_path, RunFilter(limit=1_000_000))
        assert {run.result for run in page.items} <= {"ok", "interrupted"}
        assert [run.id for run in page.items] == list(range(page.total, 0, -1))
    last = RunRecorder(tmp_path, JournalConfig(), Run(command="doctor", started_at=now()), [])
    last.begin()
    with closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("select id from runs where result = 'running'").fetchall() == [
            (last.run.id,)
        ]
        assert connection.execute("select count(*) from outcomes").fetchone() == (last.run.id - 1,)
    last.finish(structs.replace(last.run, result="ok", exit_code=0))
    # A process that was killed before it committed leaves an unlocked file.
    assert len(list((tmp_path / recorder.LOCKS).iterdir())) <= KILLS


@pytest.mark.slow
def test_run_that_a_signal_ends_is_recorded_with_its_result(tmp_path):
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        connection.execute("create table posts (id integer primary key)")
    (tmp_path / "dbctl.toml").write_text('[apps.blog]\nprofile = "plain"\ndatabases = "blog.db"\n')
    environment = {"DBCTL_STATE": str(tmp_path / "state")}
    timer = forge.KillTimer(create_rng("signals"), 0.1)
    for _ in range(SIGNALS):
        timer.send_signal(
            job := forge.start(tmp_path, "integrity", "check", environment=environment), signal.SIGTERM
        )
        assert job.wait() in {0, 143, -signal.SIGTERM}  # before dbctl handles signals
    timer.assert_in_time()
    page = list_runs(tmp_path / "state", RunFilter(limit=SIGNALS))
    assert {run.result for run in page.items} <= {"ok", "stopped"}
    assert page.total
