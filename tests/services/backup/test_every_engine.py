"""Backups and restores of the same app on every engine."""

from __future__ import annotations

import os
import random

import pytest

from dbctl.errors.backup import BackupCorruptError, BackupMissingError, NothingToUndoError, UndoMissingError
from dbctl.services.backup.copy import CopyBackups
from dbctl.services.backup.create import create_backup
from dbctl.services.backup.listing import list_backups
from dbctl.services.backup.repository import BackupDetail, Repository
from dbctl.services.backup.retention.delete import DeleteBackups
from dbctl.services.backup.safety import SafetyBackupSource
from dbctl.services.backup.status import read_status
from dbctl.services.restore import preview
from dbctl.services.restore.apply import find_undo_backup
from tests.databases import on_sqlite
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    apply_restore,
    create_app_backup,
    find_backup_folder,
    list_all_backups,
    list_codes,
    open_prune,
    undo_restore,
    verify_backups,
)

pytestmark = pytest.mark.slow


@pytest.fixture(params=larder_app.KINDS)
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


def test_restore_and_undo_replace_all_rows(pantry):
    before = pantry.content()
    backup = create_app_backup(pantry.path)
    pantry.change_data()
    changed_content = pantry.content()
    assert changed_content != before
    result = apply_restore(pantry.path)
    assert (result.backup, result.exit_status) == (backup.id, 0)
    assert pantry.content() == before
    assert undo_restore(pantry.path).backup == result.safety_backup
    assert pantry.content() == changed_content
    undo_restore(pantry.path)
    assert pantry.content() == before


def test_dropped_required_table_is_restored(pantry):
    before = pantry.content()
    create_app_backup(pantry.path)
    if pantry.engine == "postgresql":
        pantry.run("drop table members cascade")
    else:
        statement = "pragma foreign_keys = off" if pantry.engine == "sqlite" else "set foreign_key_checks = 0"
        pantry.run(statement, "drop table members")
    lost = pantry.content()
    assert "members" not in lost
    apply_restore(pantry.path)
    assert pantry.content() == before
    undo_restore(pantry.path)
    assert pantry.content() == lost
    undo_restore(pantry.path)
    assert pantry.content() == before


def test_destroyed_database_is_created_again(pantry):
    before = pantry.content()
    create_app_backup(pantry.path)
    pantry.destroy()
    result = apply_restore(pantry.path)
    assert result.safety_backup is None
    assert pantry.content() == before


def test_manifest_contains_row_counts(pantry):
    backup = create_app_backup(pantry.path)
    (member,) = backup.members
    assert member.rows == {name: len(rows) for name, rows in pantry.content().items()}
    assert (member.engine, member.file) == (pantry.engine, f"pantry_{backup.id}{pantry.ending}")


@on_sqlite("pantry")
def test_valid_backup_verifies_with_and_without_deep(pantry):
    backup = create_app_backup(pantry.path)
    assert list_codes(verify_backups(pantry.path, deep=False)) == []
    assert list_codes(verify_backups(pantry.path, deep=True)) == []
    assert list_all_backups(pantry.path).page.items[0].verified_at > backup.verified_at


@on_sqlite("pantry")
def test_damaged_file_is_detected_and_not_restored(pantry):
    backup = create_app_backup(pantry.path)
    pantry.change_data()
    before = pantry.content()
    file = promptvault_app.find_backup_file(pantry.path, backup)
    complete = file.read_bytes()
    rng = random.Random(5)  # noqa: S311
    for _ in range(4):
        changed = bytearray(complete)
        position = rng.randrange(len(complete))
        changed[position] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        assert list_codes(verify_backups(pantry.path, deep=False)) == ["file-changed"]
        catch_error(BackupCorruptError, lambda: apply_restore(pantry.path))
    for length in (0, 1, len(complete) // 2, len(complete) - 1):
        file.write_bytes(complete[:length])
        assert list_codes(verify_backups(pantry.path, deep=True)) == ["file-changed"]
        catch_error(BackupCorruptError, lambda: apply_restore(pantry.path))
    assert pantry.content() == before


@on_sqlite("pantry")
def test_safety_backup_is_not_latest_and_is_retained(pantry):
    backup = create_app_backup(pantry.path)
    pantry.change_data()
    result = apply_restore(pantry.path)
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        assert repository.find("latest").id == backup.id
        assert repository.find(result.safety_backup).kind == "safety"
    with open_prune(pantry.path, last=1) as operation:
        assert operation.apply().deleted == []  # each is the newest backup of its kind


@on_sqlite("pantry")
def test_retention_counts_safety_backups_separately(pantry):
    backups = [create_app_backup(pantry.path).id for _ in range(2)]
    safety_backups = [apply_restore(pantry.path).safety_backup for _ in range(2)]
    with open_prune(pantry.path, last=2) as operation:
        assert operation.apply().deleted == []  # two of each kind
    with open_prune(pantry.path, last=1) as operation:
        assert sorted(operation.apply().deleted) == sorted([backups[0], safety_backups[0]])


@on_sqlite("pantry")
def test_undo_without_restore_is_refused(pantry):
    create_app_backup(pantry.path)
    catch_error(UndoMissingError, lambda: undo_restore(pantry.path))
    catch_error(BackupMissingError, lambda: apply_restore(pantry.path, "20200101_000000"))


def test_preview_and_plan_change_nothing(pantry):
    backup = create_app_backup(pantry.path)
    pantry.change_data()
    before = pantry.content()
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        comparison = preview.preview(promptvault_app.open_source(repository, backup.id))
        plan = promptvault_app.create_restore(repository, backup.id).plan()
    (database,) = comparison.databases
    differing = {
        table.table: (table.current_rows, table.backup_rows)
        for table in database.tables
        if table.current_rows != table.backup_rows
    }
    assert (database.state, database.schema) == ("readable", "different")
    assert differing == {
        "recipe_labels": (0, backup.members[0].rows["recipe_labels"]),
        "new_table": (1, None),
    }
    assert plan.destructive
    assert plan.rows == dict(backup.members[0].rows)
    assert pantry.content() == before


@on_sqlite("pantry")
def test_prune_retains_the_newest_backup(pantry):
    for _ in range(3):
        last = create_app_backup(pantry.path)
    with open_prune(pantry.path, last=1) as operation:
        assert len(operation.apply().deleted) == 2
    assert [backup.id for backup in list_all_backups(pantry.path).page.items] == [last.id]


def test_emptied_database_does_not_become_latest_backup(pantry):
    saved = create_app_backup(pantry.path)
    before = pantry.content()
    pantry.destroy()
    with pytest.raises(Exception, match="pantry"):
        create_app_backup(pantry.path)
    assert [backup.id for backup in list_all_backups(pantry.path).page.items] == [saved.id]
    apply_restore(pantry.path)
    assert pantry.content() == before


def test_backup_after_restore_has_same_content(pantry):
    first = create_app_backup(pantry.path)
    pantry.change_data()
    apply_restore(pantry.path, first.id)
    second = create_app_backup(pantry.path)
    assert second.members[0].rows == first.members[0].rows | {
        "history": first.members[0].rows["history"] + 1  # the record of the restore in the app
    }
    assert second.members[0].schema == first.members[0].schema
    assert not list_all_backups(pantry.path).incomplete
    assert find_backup_folder(pantry.path, second).is_dir()


def simulate_killed_restore(path):
    """Create the safety backup of a restore that was killed directly afterwards."""
    with promptvault_app.open_repository(path) as (app, repository):
        (member,) = repository.find("latest").members
        source = SafetyBackupSource(app, member.database, member.dump)
        return create_backup(repository, [source], kind="safety", restored="latest")


def test_undo_skips_restore_killed_before_changes(pantry):
    before = pantry.content()
    create_app_backup(pantry.path)
    pantry.change_data()
    changed_content = pantry.content()
    result = apply_restore(pantry.path)
    simulate_killed_restore(pantry.path)
    pantry.run("update members set mail = handle || '@later.example'")
    later = pantry.content()
    simulate_killed_restore(pantry.path)
    undo_result = undo_restore(pantry.path)
    assert undo_result.backup == result.safety_backup
    assert pantry.content() == changed_content
    assert undo_restore(pantry.path).backup == undo_result.safety_backup
    assert pantry.content() == later
    assert later != before


def test_undo_of_only_killed_restore_changes_nothing(pantry):
    create_app_backup(pantry.path)
    pantry.change_data()
    before, safety = pantry.content(), simulate_killed_restore(pantry.path)
    error = catch_error(NothingToUndoError, lambda: undo_restore(pantry.path))
    assert "Nothing was changed" in error.hint
    assert pantry.content() == before
    if safety.members[0].form == "dump":
        apply_restore(pantry.path, safety.id)
        assert pantry.content() == before


def test_safety_backup_without_its_retained_database_is_reported(pantry):
    create_app_backup(pantry.path)
    first, second = apply_restore(pantry.path).safety_backup, apply_restore(pantry.path).safety_backup
    # A restore into a file or schema saves a copy; other restores retain the replaced database until the next restore.
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        retains = any(member.form == "kept" for member in repository.find(first).members)
        lost = {first} if retains else set()
        page = list_backups(repository, promptvault_app.ALL_ROWS).page
        assert {backup.id for backup in page.items if backup.verified_at is None} == lost
        assert {backup.id for backup in page.items if backup.note} == lost
        assert (repository.describe(repository.find(first), BackupDetail).verified_at is None) == retains
        assert repository.describe(repository.find(second), BackupDetail).verified_at
        status = read_status(app)
        assert status.repository.lost.keys() == lost
        assert any(first in finding.message for finding in status.find_problems()) == retains
    findings = [
        finding
        for finding in verify_backups(pantry.path).findings
        if finding.code == "retained-database-missing"
    ]
    assert [first in finding.message for finding in findings] == [True] * len(lost)


def test_retained_database_is_dropped_with_its_backup_and_not_with_a_copy_of_that(pantry):
    create_app_backup(pantry.path)
    pantry.change_data()
    changed_content, safety = pantry.content(), apply_restore(pantry.path).safety_backup
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        copies = Repository(app, str(pantry.folder / "copies"))
        CopyBackups(repository, copies, []).apply()
        assert DeleteBackups(copies, [safety]).apply().dropped == []
        member = repository.find(safety).members[0]
    undo_restore(pantry.path)
    assert pantry.content() == changed_content
    if member.form != "kept":
        return
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        newest, copies = repository.find("latest", "safety"), Repository(app, str(pantry.folder / "copies"))
        CopyBackups(repository, copies, [newest.id]).apply()
        assert DeleteBackups(repository, [newest.id]).apply().dropped == [newest.members[0].facts["kept"]]
        error = catch_error(NothingToUndoError, lambda: find_undo_backup(copies))
    assert newest.id not in error.hint


#: The number of the current session. The numbers of ended sessions are reused by other processes.
OWN_PID = {"postgresql": "select pg_backend_pid()", "mysql": "select connection_id()"}


def test_preview_excludes_own_session_from_lock_holders(pantry):
    backup = create_app_backup(pantry.path)
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        reader = app.reader("pantry")  # a session that this process has open
        own_pid = os.getpid()
        if pantry.engine in OWN_PID:
            own_pid = int(reader.query(OWN_PID[pantry.engine])[0][0])
        comparison = preview.preview(promptvault_app.open_source(repository, backup.id))
    assert own_pid not in {int(holder.split()[1]) for holder in comparison.databases[0].held_by}
