"""``restore recover``: a new file beside the damaged one, and how it takes its place."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.config import Selection
from dbctl.errors import BusyError, Exit, FileMissingError, NotSupportedError, UsageError
from dbctl.services.app import app as apps
from dbctl.services.restore.salvage import Recovering
from tests.services import flashpoint_app, promptvault_app

FAR = {
    "postgresql": "postgresql://nobody@127.0.0.1:1/none",
    "mysql": "mysql://nobody@127.0.0.1:1/none",
}


@pytest.fixture
def path(tmp_path):
    return promptvault_app.settle(tmp_path / "app", "deployed")


def spoil(path, *, page=20):
    held = bytearray(path.read_bytes())
    held[page * 4096 : (page + 1) * 4096] = bytes(4096)
    path.write_bytes(held)
    return bytes(held)


def recover(path, **more):
    said = Selection(config=str(path.with_name("dbctl.toml")))
    with apps.opened(said, timeout=0.2) as app:
        return Recovering(app, said, **more).apply()


def test_the_commands_of_the_answer_bring_the_new_file_into_the_live_database(path, start):
    want = flashpoint_app.content(path)
    root = flashpoint_app.rows(path, "select rootpage from sqlite_master where name = 'users'")[0][0]
    flashpoint_app.run(path, "pragma journal_mode = delete")
    spoil(path, page=root - 1)
    found = recover(path)
    lost = {one.table for one in found.tables if not one.whole}
    assert lost <= {"users"}
    for line in found.next:
        words = shlex.split(line)
        ended = start(*words[words.index("dbctl") + 1 if "dbctl" in words else 1 :], "--yes", environment={})
        assert ended.returncode in (Exit.OK, Exit.UNSOUND), ended.stderr
    got, other = (
        flashpoint_app.content(path),
        {*lost, promptvault_app.RECORD, "sqlite_sequence"},
    )  # where a restore is recorded
    assert {one: rows for one, rows in got.items() if one not in other} == {
        one: rows for one, rows in want.items() if one not in other
    }


def test_the_damaged_file_stays_as_it_is_and_the_new_one_stands_beside_it(path):
    held = spoil(path)
    found = recover(path)
    assert path.read_bytes() == held
    assert found.path.parent == path.parent
    assert found.path.name.startswith("user.recovered-")
    assert found.path.suffix == ".db"


def test_a_sound_database_ends_well_and_makes_nothing(path):
    before = set(path.parent.iterdir())
    found = recover(path)
    assert (found.path, found.tables, found.exit_status) == (None, (), Exit.OK)
    assert {one for one in path.parent.iterdir() if "lock" not in one.name} == before
    assert recover(path, force=True).path


def test_a_plan_makes_nothing(path):
    spoil(path)
    before = set(path.parent.iterdir())
    said = Selection(config=str(path.with_name("dbctl.toml")))
    with apps.opened(said, timeout=0) as app:
        plan = Recovering(app, said, to=Path("elsewhere.db")).plan()
    assert (plan.destructive, "elsewhere.db" in plan.steps[-1]) == (False, True)
    assert set(path.parent.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
def test_while_a_program_has_it_open_nothing_is_done_and_the_program_is_named(path):
    spoil(path)
    held = f"import sqlite3, time; c = sqlite3.connect({str(path)!r}); c.execute('pragma schema_version').fetchall(); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        try:
            with pytest.raises(BusyError, match=f"pid {holder.pid}"):
                recover(path)
        finally:
            holder.kill()
    assert recover(path).path


def test_another_file_is_read_in_place_of_the_own_one_and_its_name_counts(path, tmp_path):
    other = tmp_path / "kept.sqlite"
    with closing(sqlite3.connect(other)) as db:
        db.execute("create table t (a)")
        db.execute("insert into t values (1)")
        db.commit()
    found = recover(path, source=other, force=True)
    assert (found.source, found.path.parent) == (other, tmp_path)
    assert [(one.table, one.saved) for one in found.tables] == [("t", 1)]
    assert found.next == [f"mv {other} {other}.damaged", f"mv {found.path} {other}"]


def test_beside_a_file_in_a_read_only_place_nothing_is_made(path, tmp_path, monkeypatch):
    spoil(path)
    before = set(path.parent.iterdir())
    monkeypatch.setattr(os, "access", lambda where, _mode: Path(where) != path.parent)
    assert recover(path, to=tmp_path / "saved.db").path.exists()
    assert set(path.parent.iterdir()) == before


@pytest.mark.parametrize("option", ["source", "like"])
def test_a_file_that_is_named_and_missing_is_told(path, tmp_path, option):
    with pytest.raises(FileMissingError):
        recover(path, **{option: tmp_path / "none.db"})


def test_the_damaged_database_is_no_sample_of_itself(path):
    with pytest.raises(UsageError):
        recover(path, like=path)


@pytest.mark.parametrize("engine", sorted(FAR))
def test_a_database_on_a_server_is_refused_with_what_helps_there(engine):
    said = Selection(urls=[f"main={FAR[engine]}"])
    with apps.opened(said, timeout=0) as app, pytest.raises(NotSupportedError) as failure:
        Recovering(app, said)
    assert "restore a backup" in failure.value.hint
