"""The import of what earlier versions recorded: files that such a version wrote, kills, damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.config.model import AuditConfig, JournalConfig
from dbctl.errors.operations import JournalCorruptError, JournalUnavailableError
from dbctl.model import now
from dbctl.services.events.changes.log import list_run_anchors, publish_anchor
from dbctl.services.events.history import list_runs, read_history
from dbctl.services.events.legacy import list_unimported, lock_files
from dbctl.services.events.notices import SentNotices
from dbctl.services.events.progress import FleetProgress
from dbctl.services.events.recorder import LOCKS, RunRecorder, lock_path
from dbctl.services.events.runs import Run, RunFilter
from dbctl.services.events.samples import read_samples
from dbctl.services.events.store import FILE_NAME, LEGACY_NAME, EventStore
from tests.crash.figures import choose_steps
from tests.services.events.kills import STRIDE, fork, run_killed, wait

STORED = Path(__file__).with_name("recorded")
CONFIG = "/tmp/shop/dbctl.toml"  # noqa: S108 - of the recorded runs
TABLES = ("runs", "outcomes", "samples")


@pytest.fixture
def old(tmp_path):
    """The directory for state of the earlier version."""
    state = tmp_path / "old"
    shutil.copytree(STORED / "runs", state / "runs")
    shutil.copy(STORED / "notify.json", state)
    with closing(sqlite3.connect(state / LEGACY_NAME)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.executescript((STORED / "journal.sql").read_text())
    return state


def write(state):
    with EventStore(state).writing():
        pass


def read_tables(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return {table: connection.execute(f"select * from {table}").fetchall() for table in TABLES}


def count_rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return [
            connection.execute(f"select count(*) from {table}").fetchone()[0]
            for table in (*TABLES, "notices", "progress")
        ]


@pytest.mark.parametrize("access", [write, lambda state: list_runs(state, RunFilter(limit=1))])
def test_records_of_an_earlier_version_are_imported_by_the_first_access(old, access):
    before = read_tables(old / LEGACY_NAME)
    assert [len(rows) for rows in before.values()] == [7, 13, 4]
    access(old)
    assert read_tables(old / FILE_NAME) == before
    page = list_runs(old, RunFilter(limit=100))
    assert [(run.id, run.result) for run in page.items][:3] == [(7, "ok"), (6, "partial"), (5, "ok")]
    assert [history.failures for history in read_history(old, CONFIG, "shop/bea")] == [1, 0]
    with EventStore(old).reading() as db:
        assert len(list(list_run_anchors(db))) == 2
    assert {key: len(series) for key, series in read_samples(old, CONFIG).items()} == {
        ("blog", "main"): 1,
        ("shop/ann", "main"): 2,
        ("shop/bea", "main"): 1,
    }
    notice = SentNotices(old, CONFIG).find("shop", "backup create")
    assert (notice.code, list(notice.times)) == ("partial", ["webhook"])


def test_run_on_a_fleet_is_continued(old):
    write(old)
    with EventStore(old).reading() as db:
        (key,) = db.query(
            "select distinct fleet, command, arguments from progress where command = 'backup verify'"
        )
    progress = FleetProgress(old, key["fleet"], key["command"], ())
    progress._key = tuple(key.values())  # the arguments are known as a hash only
    with progress.open(resume=True, timeout=0) as completed:
        assert completed == {"shop/ann", "shop/bea"}


def test_files_are_renamed_and_remain_readable(old):
    before = read_tables(old / LEGACY_NAME)
    write(old)
    names = {path.name for path in old.iterdir() if not path.name.startswith(FILE_NAME)}
    assert names - {f"{LEGACY_NAME}.imported-wal", f"{LEGACY_NAME}.imported-shm"} == {
        f"{LEGACY_NAME}.imported",
        "notify.json.imported",
        "runs.imported",
    }
    assert read_tables(old / f"{LEGACY_NAME}.imported") == before


def test_rows_in_the_write_ahead_log_are_imported(old):
    with closing(sqlite3.connect(old / LEGACY_NAME, isolation_level=None)) as writer:
        writer.execute("pragma wal_autocheckpoint = 0")
        writer.execute(
            "insert into runs select 8, command, result, failed, started_at, record from runs where id = 7"
        )
        write(old)
    assert len(read_tables(old / FILE_NAME)["runs"]) == 8
    assert len(read_tables(old / f"{LEGACY_NAME}.imported")["runs"]) == 8


def test_ids_of_deleted_runs_are_not_used_again(old):
    with closing(sqlite3.connect(old / LEGACY_NAME)) as connection:
        connection.execute("delete from runs")
        connection.commit()
    recorder = RunRecorder(old, JournalConfig(), Run(command="doctor", started_at=now()), [])
    recorder.begin()
    assert recorder.run.id == 8
    recorder.finish(recorder.run)


@pytest.mark.slow
def test_import_that_is_killed_at_any_step_is_repeated_without_loss_or_duplicates(old, tmp_path):
    before = read_tables(old / LEGACY_NAME)
    for step in choose_steps("import of the journal", STRIDE):
        state = tmp_path / str(step)
        shutil.copytree(old, state)
        is_killed = run_killed(step, lambda state=state: write(state))
        write(state)
        assert read_tables(state / FILE_NAME) == before
        assert count_rows(state / FILE_NAME)[3:] == [2, 5]
        assert not any((state / name).exists() for name in (LEGACY_NAME, "notify.json", "runs"))
        assert not list(state.glob(f".{FILE_NAME}.*"))
        shutil.rmtree(state)
        if not is_killed:
            break
    assert step > 50


def test_several_processes_import_once(old, tmp_path):
    before = read_tables(old / LEGACY_NAME)
    assert [wait(pid) for pid in [fork(lambda: write(old)) for _ in range(8)]] == [0] * 8
    assert read_tables(old / FILE_NAME) == before


def test_file_system_without_hard_links_imports_once(old, monkeypatch):
    before = read_tables(old / LEGACY_NAME)

    def refuse(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert [wait(pid) for pid in [fork(lambda: write(old)) for _ in range(8)]] == [0] * 8
    assert read_tables(old / FILE_NAME) == before


@pytest.mark.parametrize("name", [LEGACY_NAME, "audit.jsonl"])
def test_file_that_an_earlier_version_wrote_after_the_import_is_not_touched(old, name):
    write(old)
    assert list_unimported(old) == []
    for path in old.glob("*.imported*"):
        path.rename(old.parent / path.name)
    for later in (name, "notify.json"):
        (old / later).write_bytes(b"new")
    write(old)
    assert [path.read_bytes() for path in (old / name, old / "notify.json")] == [b"new"] * 2
    assert len(read_tables(old / FILE_NAME)["runs"]) == 7
    assert list_unimported(old) == [old / name]


def test_leftover_file_and_a_lock_of_another_process_delay_nothing(old):
    write(old)
    (old / f"{LEGACY_NAME}.imported").rename(old / LEGACY_NAME)
    with lock_files(old):
        start = time.monotonic()
        write(old)
        assert time.monotonic() - start < 1
    assert (old / LEGACY_NAME).exists()
    write(old)
    assert not (old / LEGACY_NAME).exists()


def test_store_that_root_creates_belongs_to_the_owner_of_the_folder(old):
    if os.geteuid():
        pytest.skip("only root can give a file to another user")
    os.chown(old, 12345, 12346)
    with EventStore(old).writing():
        owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in old.glob(f"{FILE_NAME}*")}
    assert owners == dict.fromkeys([FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"], (12345, 12346))
    recorder = RunRecorder(old, JournalConfig(), Run(command="doctor", started_at=now()), [])
    recorder.begin()
    (old / "audit.anchor").unlink(missing_ok=True)
    anchor = f"1:{'0' * 64}:{'0' * 16}"
    assert list(publish_anchor(old, AuditConfig(), anchor, anchor)) == []
    for path in (old / LOCKS, lock_path(old, recorder.run.id), old / "audit.anchor"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346), path
    recorder.finish(recorder.run)


def test_incomplete_store_of_a_process_that_exists_is_not_deleted(old):
    parent, ended = old / f".{FILE_NAME}.{os.getppid()}", old / f".{FILE_NAME}.{fork_ended()}-wal"
    for path in (parent, ended, old / f".{FILE_NAME}.{os.getpid()}", old / f".{FILE_NAME}.x"):
        path.touch()
    write(old)
    assert set(old.glob(f".{FILE_NAME}.*")) == {parent, old / f".{FILE_NAME}.x"}


def fork_ended():
    """Return the id of a process that ended."""
    pid = fork(lambda: None)
    wait(pid)
    return pid


def test_journal_that_could_not_be_renamed_is_imported_until_it_has_a_further_run(old):
    (old / f"{LEGACY_NAME}.imported").touch()
    write(old)
    assert list_unimported(old) == []
    with closing(sqlite3.connect(old / LEGACY_NAME, isolation_level=None)) as writer:
        writer.execute("pragma wal_autocheckpoint = 0")
        writer.execute("delete from runs where id = 7")
        assert list_unimported(old) == [old / LEGACY_NAME]


@pytest.mark.parametrize("content", [b"", b"damaged" * 1000])
def test_damaged_journal_prevents_a_store_without_its_history(old, content):
    (old / LEGACY_NAME).write_bytes(content)
    for _ in range(2):
        with pytest.raises(JournalCorruptError, match=LEGACY_NAME):
            write(old)
    assert (old / LEGACY_NAME).read_bytes() == content
    assert not (old / FILE_NAME).exists()
    (old / LEGACY_NAME).rename(old / "aside")
    write(old)
    assert count_rows(old / FILE_NAME) == [0, 0, 0, 2, 5]


def test_journal_of_a_newer_version_is_not_imported(old):
    with closing(sqlite3.connect(old / LEGACY_NAME)) as connection:
        connection.execute("pragma user_version = 2")
    with pytest.raises(JournalUnavailableError, match="newer"):
        write(old)


def use_pipe(path):
    os.mkfifo(path)


def use_link_to_nowhere(path):
    path.symlink_to("/nonexistent/journal.sqlite")


@pytest.mark.parametrize("spoil", [use_pipe, use_link_to_nowhere, Path.mkdir])
def test_journal_that_is_no_file_is_refused(old, spoil):
    (old / LEGACY_NAME).unlink()
    spoil(old / LEGACY_NAME)
    with pytest.raises(JournalUnavailableError):
        write(old)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"a\\nb\\nc": {"code": "x", "times": {"y": 7}}}', '{"a": {"code": "x", "times": {}}}'],
)
def test_damaged_notices_and_progress_prevent_nothing(old, content):
    (old / "notify.json").write_text(content)
    for path in (old / "runs").iterdir():
        path.write_bytes(path.read_bytes() + b'{"app": "sh')
    write(old)
    assert count_rows(old / FILE_NAME) == [7, 13, 4, 0, 5]
