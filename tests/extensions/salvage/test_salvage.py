"""``restore recover`` writes a new file next to the damaged one, and prints the commands that install it."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.base import Exit
from dbctl.errors.connection import BusyError, FileMissingError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.extensions.salvage import operation as salvage
from dbctl.extensions.salvage.operation import SalvageDatabase
from tests.extensions.salvage.test_recover import list_incomplete
from tests.services import flashpoint_app, promptvault_app

SERVER_URLS = {
    "postgresql": "postgresql://nobody@127.0.0.1:1/none",
    "mysql": "mysql://nobody@127.0.0.1:1/none",
}


@pytest.fixture
def path(tmp_path):
    return promptvault_app.create_app(tmp_path / "app", "deployed")


def damage_page(path, *, page=20):
    raw = bytearray(path.read_bytes())
    raw[page * 4096 : (page + 1) * 4096] = bytes(4096)
    path.write_bytes(raw)
    return bytes(raw)


def recover(path, **options):
    from dbctl.services.app.session import open_app

    selection = Selection(config=str(path.with_name("dbctl.toml")))
    with open_app(selection, timeout=0.2) as app:
        return SalvageDatabase(app, selection, **options).apply()


@pytest.mark.needs_extension("adopt")
def test_next_commands_install_the_new_file(path, start):
    expected = flashpoint_app.read_all_rows(path)
    root = flashpoint_app.query_rows(path, "select rootpage from sqlite_master where name = 'users'")[0][0]
    flashpoint_app.run_statements(path, "pragma journal_mode = delete")
    damage_page(path, page=root - 1)
    result = recover(path)
    assert set(list_incomplete(result)) <= {"users"}
    for line in result.next_commands:
        arguments = shlex.split(line)
        process = start(
            *arguments[arguments.index("dbctl") + 1 if "dbctl" in arguments else 1 :], "--yes", environment={}
        )
        assert process.returncode in (Exit.OK, Exit.CHECK_FAILED), process.stderr
    actual = flashpoint_app.read_all_rows(path)
    # A restore adds a row to the audit table.
    ignored = {*list_incomplete(result), promptvault_app.AUDIT_TABLE, "sqlite_sequence"}
    assert {name: rows for name, rows in actual.items() if name not in ignored} == {
        name: rows for name, rows in expected.items() if name not in ignored
    }


def test_damaged_file_is_unchanged_and_new_file_is_in_its_folder(path):
    raw = damage_page(path)
    result = recover(path)
    assert path.read_bytes() == raw
    assert result.path.parent == path.parent
    assert result.path.name.startswith("user.recovered-")
    assert result.path.suffix == ".db"


def test_undamaged_database_creates_no_file(path):
    before = set(path.parent.iterdir())
    result = recover(path)
    assert (result.path, result.tables, result.exit_status) == (None, (), Exit.OK)
    assert {path for path in path.parent.iterdir() if "lock" not in path.name} == before
    assert recover(path, force=True).path


def test_plan_creates_nothing(path):
    from dbctl.services.app.session import open_app

    damage_page(path)
    before = set(path.parent.iterdir())
    selection = Selection(config=str(path.with_name("dbctl.toml")))
    with open_app(selection, timeout=0) as app:
        plan = SalvageDatabase(app, selection, to=Path("saved.db")).plan()
    assert (plan.destructive, "saved.db" in plan.steps[-1]) == (False, True)
    assert set(path.parent.iterdir()) == before


def test_plans_of_two_times_are_equal(path, monkeypatch):
    from dbctl.services.app.session import open_app

    selection, digests = Selection(config=str(path.with_name("dbctl.toml"))), set()
    for second in (1, 2):
        monkeypatch.setattr(
            salvage, "now", lambda second=second: datetime(2026, 11, 24, 0, 0, second, tzinfo=UTC)
        )
        with open_app(selection, timeout=0) as app:
            digests.add(SalvageDatabase(app, selection).plan().digest)
        assert recover(path, force=True).path == path.with_name(
            f"{path.stem}.recovered-20261124_00000{second}.db"
        )
    assert len(digests) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the processes that have a file open")
def test_open_database_is_refused_with_the_process(path):
    damage_page(path)
    script = f"import sqlite3, time; c = sqlite3.connect({str(path)!r}); c.execute('pragma schema_version').fetchall(); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        try:
            with pytest.raises(BusyError, match=f"pid {holder.pid}"):
                recover(path)
        finally:
            holder.kill()
    assert recover(path).path


def test_source_option_reads_another_file(path, tmp_path):
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as db:
        db.execute("create table t (a)")
        db.execute("insert into t values (1)")
        db.commit()
    result = recover(path, source=other, force=True)
    assert (result.source, result.path.parent) == (other, tmp_path)
    assert [(table.table, table.saved) for table in result.tables] == [("t", 1)]
    assert result.next_commands == [f"mv {other} {other}.damaged", f"mv {result.path} {other}"]


def test_nothing_is_created_in_a_read_only_folder(path, tmp_path, monkeypatch):
    damage_page(path)
    before = set(path.parent.iterdir())
    monkeypatch.setattr(os, "access", lambda name, _mode: Path(name) != path.parent)
    assert recover(path, to=tmp_path / "saved.db").path.exists()
    assert set(path.parent.iterdir()) == before


@pytest.mark.parametrize("option", ["source", "reference"])
def test_missing_option_file_is_refused(path, tmp_path, option):
    with pytest.raises(FileMissingError):
        recover(path, **{option: tmp_path / "none.db"})


def test_damaged_database_is_refused_as_reference(path):
    with pytest.raises(UsageError):
        recover(path, reference=path)


@pytest.mark.parametrize("engine", sorted(SERVER_URLS))
def test_server_database_is_refused_with_a_hint(engine):
    from dbctl.services.app.session import open_app

    selection = Selection(urls=[f"main={SERVER_URLS[engine]}"])
    with open_app(selection, timeout=0) as app, pytest.raises(NotSupportedError) as failure:
        SalvageDatabase(app, selection)
    assert "restore a backup" in failure.value.hint
