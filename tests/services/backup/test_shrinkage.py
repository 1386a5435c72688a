"""Backups with far fewer rows than the backups before them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.backup import BackupShrunkenError
from dbctl.errors.base import Exit
from dbctl.services import status as app_status
from dbctl.services.backup import status
from dbctl.services.checks.run import examine
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import create_app_backup, list_all_backups, open_prune

LARGE, SMALL = 1000, 20


@pytest.fixture
def notes(tmp_path):
    """An app with one table of ``LARGE`` rows, without backups."""
    path = tmp_path / "notes.db"
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.notes]\nprofile = "plain"\n[apps.notes.databases]\nmain = "{path}"\n'
        '[apps.notes.backup]\nrepository = "backups"\n'
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table notes (id integer primary key)")
    write_rows(path, LARGE)
    return path


def write_rows(path, count):
    """Replace the rows of the table by ``count`` rows."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from notes")
        connection.executemany("insert into notes values (?)", [(number,) for number in range(count)])


def limit_shrinkage(path, share):
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f"max_shrink = {share}\n")


def create_backups(path, count):
    return [create_app_backup(path) for _ in range(count)]


def read_report(path):
    return status.collect_status([Selection(config=str(path.with_name("dbctl.toml")))], timeout=5)


def list_shrunken(findings):
    return [finding for finding in findings.findings if finding.code == "backup-shrunken"]


def test_backup_with_far_fewer_rows_is_reported_by_every_check(notes):
    *_, larger = create_backups(notes, 3)
    assert read_report(notes).check_status == Exit.OK
    write_rows(notes, SMALL)
    backup = create_app_backup(notes)
    message = f"backup {backup.id} has 20 rows, 98% fewer than the median of the 3 backups before it (1,000)"
    assert backup.remarks == [f"notes/main: {message}"]
    report = read_report(notes)
    (loss,) = [database.shrunken for database in report.backups.databases]
    assert (loss.database, loss.rows, loss.median, loss.larger) == ("main", SMALL, LARGE, larger.id)
    assert loss.lost == pytest.approx(0.98)
    assert (report.status, report.check_status) == (Exit.OK, Exit.ACTION_NEEDED)
    selection = Selection(config=str(notes.with_name("dbctl.toml")))
    checked = [
        report.findings,
        app_status.collect_status([selection], timeout=5).findings,
        examine([selection], timeout=5).findings,
    ]
    for findings in checked:
        (finding,) = list_shrunken(findings)
        assert finding.severity == "warning"
        assert finding.message.startswith(message)
    assert f" backup verify {larger.id} --against-live " in finding.hint


@pytest.mark.parametrize(("earlier", "rows"), [(2, 0), (3, LARGE // 2)])
def test_few_earlier_backups_and_half_of_the_rows_are_not_reported(notes, earlier, rows):
    create_backups(notes, earlier)
    write_rows(notes, rows)
    assert create_app_backup(notes).remarks == []
    assert list_shrunken(read_report(notes).findings) == []


def test_report_ends_when_half_of_the_compared_backups_are_small(notes):
    create_backups(notes, 3)
    write_rows(notes, SMALL)
    reported = []
    for _ in range(5):
        create_app_backup(notes)
        reported.append(bool(list_shrunken(read_report(notes).findings)))
    assert reported == [True, True, True, False, False]


def test_backup_beyond_the_configured_limit_fails_but_is_stored(notes):
    *_, larger = create_backups(notes, 3)
    limit_shrinkage(notes, 0.2)
    write_rows(notes, LARGE * 8 // 10)
    create_app_backup(notes)
    write_rows(notes, LARGE * 7 // 10)
    for _ in range(2):
        error = catch_error(BackupShrunkenError, lambda: create_app_backup(notes))
        newest = list_all_backups(notes).page.items[0]
        assert error.exit_status == Exit.CHECK_FAILED
        assert f"backup {newest.id} has 700 rows, 30% fewer" in str(error)
        assert f"{larger.id} is pinned" in error.hint
    with open_prune(notes, last=1) as prune:
        prune.apply()
    assert {backup.id for backup in list_all_backups(notes).page.items} == {newest.id, larger.id}


def test_limit_of_one_never_fails(notes):
    create_backups(notes, 3)
    limit_shrinkage(notes, 1)
    write_rows(notes, 0)
    assert create_app_backup(notes).remarks == []
