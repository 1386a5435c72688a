"""Pins of backups, and limits of the space that backups use."""

from __future__ import annotations

import resource
import threading
from datetime import timedelta

import pytest
from msgspec import structs

from dbctl.errors.backup import BackupPinnedError, RepositoryFailedError
from dbctl.errors.connection import DiskFullError, InsufficientSpaceError
from dbctl.errors.usage import PlanChangedError, UsageError
from dbctl.files import mounts
from dbctl.model import now
from dbctl.services.backup import verification_record
from dbctl.services.backup.copy import CopyBackups
from dbctl.services.backup.repository import Repository
from dbctl.services.backup.retention.delete import DeleteBackups
from dbctl.services.backup.retention.rules import PinBackups
from dbctl.stores.base import INCOMPLETE_MARK
from tests.services.promptvault_app import (
    create_app,
    create_app_backup,
    find_backup_folder,
    open_prune,
    open_repository,
    verify_backups,
)
from tests.small_disk import mount_disk


@pytest.fixture
def deployed(tmp_path):
    return create_app(tmp_path / "app", "deployed")


def pin(path, *names, reason="audit"):
    with open_repository(path) as (_app, repository):
        return PinBackups(repository, names, reason).apply().backups


def prune(path, **rules):
    """Prune, and assert that the plan announces the same deletions."""
    with open_prune(path, **rules) as operation:
        planned = [step.split()[1] for step in operation.plan().steps if step.startswith("delete ")]
        result = operation.apply()
    assert planned == list(result.deleted)
    return result


def test_pin_on_a_full_disk_is_refused_as_such(deployed):
    backup = create_app_backup(deployed).id
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(DiskFullError):
            pin(deployed, backup)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert pin(deployed, backup) == [backup]


def test_pinned_backup_is_neither_pruned_nor_deleted_until_unpinned(deployed):
    first, second, third = (create_app_backup(deployed).id for _ in range(3))
    assert pin(deployed, first) == [first]
    assert pin(deployed, first) == []  # nothing changes
    assert prune(deployed, last=1).deleted == [second]
    with open_repository(deployed) as (_app, repository):
        delete = DeleteBackups(repository, [first])
        for run in (delete.plan, delete.apply):
            with pytest.raises(BackupPinnedError):
                run()
    assert pin(deployed, first, reason=None) == [first]
    assert prune(deployed, last=1).deleted == [first]
    assert prune(deployed, last=1).deleted == []
    assert find_backup_folder(deployed, third).is_dir()


def test_verification_and_copy_retain_the_pin(deployed, tmp_path):
    backup = create_app_backup(deployed)
    pin(deployed, "latest")
    verify_backups(deployed)
    with open_repository(deployed) as (app, repository):
        record = repository.read_verification(backup)
        assert (record.pin.reason, record.verified_at is None) == ("audit", False)
        copies = Repository(app, str(tmp_path / "copies"))
        CopyBackups(repository, copies, []).apply()
        assert copies.read_verification(backup).pin == record.pin


def test_pin_while_a_verification_is_recorded_remains(deployed):
    backup = create_app_backup(deployed)
    other = threading.Thread(target=pin, args=(deployed, backup.id))

    def record_late(record):
        other.start()
        other.join(0.5)  # it waits until the record is written
        return structs.replace(record, verified_at=now())

    with open_repository(deployed) as (_app, repository):
        verification_record.update(repository.store, backup.id, record_late)
        other.join()
        record = repository.read_verification(backup)
    assert (record.pin.reason, record.verified_at is None) == ("audit", False)


def test_backup_with_unreadable_record_is_not_pruned(deployed):
    first, _ = create_app_backup(deployed).id, create_app_backup(deployed).id
    pin(deployed, first)
    with open_repository(deployed) as (_app, repository):
        text = repository.store.read_verification(first)
        repository.store.write_verification(first, "{")
        assert repository.read_verification(repository.find(first)) is verification_record.UNREADABLE
    assert prune(deployed, last=1).deleted == []
    with open_repository(deployed) as (_app, repository):
        repository.store.write_verification(first, text.decode())
    assert prune(deployed, last=1).deleted == []


def test_invalid_record_stays_a_pin_until_it_is_unpinned(deployed, tmp_path):
    first, _ = create_app_backup(deployed).id, create_app_backup(deployed).id
    pin(deployed, first)
    with open_repository(deployed) as (app, repository):
        repository.store.write_verification(first, "{")
        with pytest.raises(BackupPinnedError):
            DeleteBackups(repository, [first]).plan()
        copies = Repository(app, str(tmp_path / "copies"))
        CopyBackups(repository, copies, [first]).apply()
        assert copies.read_verification(copies.find(first)).pin
    verify_backups(deployed)
    with open_repository(deployed) as (_app, repository):
        record = repository.read_verification(repository.find(first))
        assert (record.pin.by, record.verified_at is None) == ("dbctl", False)
        with pytest.raises(BackupPinnedError):
            DeleteBackups(repository, [first]).plan()
    assert prune(deployed, last=1).deleted == []
    with open_repository(deployed) as (_app, repository):
        repository.store.write_verification(first, "{")
    assert pin(deployed, first, reason=None) == [first]
    assert prune(deployed, last=1).deleted == [first]


@pytest.mark.parametrize("reason", ["", " ", "x" * 501])
def test_invalid_reason_is_refused(deployed, reason):
    create_app_backup(deployed)
    with pytest.raises(UsageError):
        pin(deployed, "latest", reason=reason)


def test_pin_between_plan_and_deletion_is_respected(deployed):
    first, _ = create_app_backup(deployed).id, create_app_backup(deployed).id
    with open_prune(deployed, last=1) as operation:
        digest = operation.plan().digest
        pin(deployed, first)
        with pytest.raises(PlanChangedError):
            operation.apply(digest)
    assert find_backup_folder(deployed, first).is_dir()


@pytest.mark.parametrize("command", ["prune", "delete"])
def test_error_after_a_deletion_names_what_is_deleted(deployed, command):
    first, second, last = (create_app_backup(deployed).id for _ in range(3))
    (find_backup_folder(deployed, second) / INCOMPLETE_MARK).mkdir()  # no manifest can replace a folder
    with open_prune(deployed, last=1) as prunes, open_repository(deployed) as (_app, repository):
        operation = prunes if command == "prune" else DeleteBackups(repository, [second, first])
        with pytest.raises(RepositoryFailedError) as failed:
            operation.apply()
    assert [find_backup_folder(deployed, name).is_dir() for name in (first, second, last)] == [
        False,
        True,
        True,
    ]
    assert [name in failed.value.hint for name in (first, second, last)] == [True, False, False]
    assert "No backup was changed" not in failed.value.hint
    # the same `backup delete` would refuse the id that is deleted
    assert "List the others with: " in failed.value.hint


def test_error_in_the_middle_of_a_deletion_states_that_the_backup_is_incomplete(deployed):
    first, _ = (create_app_backup(deployed).id for _ in range(2))
    folder = find_backup_folder(deployed, first)
    with mount_disk(folder / "mounted", "64k"), open_prune(deployed, last=1) as operation:
        with pytest.raises(RepositoryFailedError) as failed:
            operation.apply()
        assert (folder / INCOMPLETE_MARK).exists()
        assert "No backup was changed" not in failed.value.hint
        assert first in failed.value.hint
    assert prune(deployed, last=1).leftovers == [first]  # as the hint states
    assert not folder.exists()


def test_limit_deletes_the_oldest_backups_that_are_not_protected(deployed):
    backups = [create_app_backup(deployed) for _ in range(5)]
    pin(deployed, backups[0].id)
    size = max(backup.bytes for backup in backups)
    assert prune(deployed, max_bytes=str(5 * size)).deleted == []
    result = prune(deployed, last=5, max_bytes=str(3 * size))
    assert (result.deleted, result.exceeded) == ([backups[2].id, backups[1].id], [])
    result = prune(deployed, max_bytes="1")
    assert (result.deleted, len(result.exceeded)) == ([backups[3].id], 1)
    assert [backup.id for backup in result.retained] == [backups[4].id, backups[0].id]


def test_plan_states_which_deletions_a_limit_requires(deployed):
    backups = [create_app_backup(deployed) for _ in range(4)]
    limit = str(2 * max(backup.bytes for backup in backups))
    with open_prune(deployed, last=3, max_bytes=limit) as operation:
        limited, surplus = operation.plan().steps[:2]
    assert (backups[1].id in limited, f"max_bytes = {limit}" in limited) == (True, True)
    assert (backups[0].id in surplus, "no rule retains it" in surplus) == (True, True)


def test_free_space_is_restored_as_far_as_possible(deployed):
    backups = [create_app_backup(deployed).id for _ in range(3)]
    assert prune(deployed, min_free="1").deleted == []
    result = prune(deployed, min_free="99999T")
    assert (result.deleted, len(result.exceeded)) == ([backups[1], backups[0]], 1)


def test_pin_is_planned_and_reported(deployed):
    backup = create_app_backup(deployed).id
    for reason, step, closing in (
        ("audit", f"pin {backup}: audit", f"Pinned backup {backup}"),
        (None, f"unpin {backup}: audit", f"Unpinned backup {backup}"),
    ):
        with open_repository(deployed) as (_app, repository):
            operation = PinBackups(repository, [backup], reason)
            assert operation.plan().steps == [step]
            assert operation.apply().closing.text == closing
            assert operation.apply().closing.text == "Nothing to do"


def test_reason_of_a_pin_that_is_no_text_is_refused(deployed):
    backup = create_app_backup(deployed).id
    with open_repository(deployed) as (_app, repository), pytest.raises(UsageError, match="UTF-8"):
        PinBackups(repository, [backup], "a\udcff").apply()


def test_deletion_removes_the_files_of_a_backup(deployed):
    first, second = create_app_backup(deployed).id, create_app_backup(deployed).id
    with open_repository(deployed) as (_app, repository):
        delete = DeleteBackups(repository, [first])
        assert delete.plan().destructive
        assert delete.apply().deleted == [first]
        assert [manifest.id for manifest in repository.manifests()[0]] == [second]
    assert not find_backup_folder(deployed, first).exists()


def test_repository_without_space_gets_no_copy(deployed, tmp_path, monkeypatch):
    create_app_backup(deployed)
    real, folder = mounts.free_space, tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(
        mounts, "free_space", lambda path: 1 if folder in (path, *path.parents) else real(path)
    )
    with open_repository(deployed) as (app, repository):
        copies = Repository(app, str(folder))
        result = CopyBackups(repository, copies, []).apply()
        assert [failure.code for failure in result.failed] == [InsufficientSpaceError.code]
        assert result.exit_status == InsufficientSpaceError.exit_status
        assert copies.manifests()[0] == []


def test_full_copy_is_deleted_although_another_manifest_is_unreadable(deployed):
    """No difference can require it as a base."""
    first, second, third = (create_app_backup(deployed).id for _ in range(3))
    (find_backup_folder(deployed, third) / "manifest.json").write_text("{")
    with open_repository(deployed) as (_app, repository):
        assert DeleteBackups(repository, [first]).apply().deleted == [first]
        assert [manifest.id for manifest in repository.manifests()[0]] == [second]


def test_drill_in_the_future_protects_no_backup(deployed):
    first, second, _ = (create_app_backup(deployed).id for _ in range(3))
    with open_repository(deployed) as (_app, repository):
        for backup, at in ((first, now()), (second, now() + timedelta(days=9))):
            drill = verification_record.Drill(
                at=at,
                duration=timedelta(seconds=1),
                bytes=1,
                tables=1,
                rows=1,
                digests=0,
                checks=0,
                host="host",
                dbctl="1",
            )
            verification_record.record(
                repository.store, backup, [], all_files=False, deep=True, drills={"main": drill}
            )
    assert prune(deployed, last=1).deleted == [second]
