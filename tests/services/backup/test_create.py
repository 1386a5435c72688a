"""Creation, verification and pruning of backups of SQLite databases."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl import model
from dbctl.config.model import Retention
from dbctl.errors.backup import (
    BackupCorruptError,
    BackupEmptyError,
    BackupFailedError,
    BackupMissingError,
    RepositoryFailedError,
    RepositoryMissingError,
    RepositoryNotConfiguredError,
    RepositoryUnreadableError,
    RepositoryUnsafeError,
    RetentionNotConfiguredError,
)
from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import BusyError, CorruptError, DatabaseMissingError, ReadOnlyError
from dbctl.errors.usage import NotSupportedError, PlanChangedError, ProfileInvalidError
from dbctl.profiles import loader
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup.retention import rules
from dbctl.services.backup.retention.rules import Candidate
from dbctl.services.backup.verify import VerifyBackups
from tests.observed_progress import observe_progress
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    create_app,
    create_app_backup,
    find_backup_file,
    find_backup_folder,
    list_all_backups,
    list_codes,
    open_prune,
    verify_backups,
)
from tests.shapes import flashpoint_web

VARIANTS = ("document", "deployed", "larder")


@pytest.fixture(params=VARIANTS)
def path(request, tmp_path):
    return create_app(tmp_path / "app", request.param)


@pytest.fixture
def deployed(tmp_path):
    return create_app(tmp_path / "app", "deployed")


def set_clock(monkeypatch, timestamp):
    """Set the clock of new backups."""
    monkeypatch.setattr(backup_create, "now", lambda: timestamp)


# Creation --------------------------------------------------------------------------------------------------------


def test_backup_contains_all_rows_and_opens_without_dbctl(path):
    backup = create_app_backup(path)
    assert flashpoint_app.read_all_rows(
        promptvault_app.decompress_backup(path, backup)
    ) == flashpoint_app.read_all_rows(path)
    (member,) = backup.members
    content = flashpoint_app.read_all_rows(path)
    content.pop("sqlite_sequence", None)
    assert member.rows == {name: len(rows) for name, rows in content.items()}


def test_rows_only_in_wal_are_backed_up(deployed):
    with closing(sqlite3.connect(deployed, isolation_level=None)) as app:
        app.execute("pragma wal_autocheckpoint = 0")
        app.execute("update users set email = 'wal@example.org' where username = 'ann'")
        assert deployed.with_name("user.db-wal").stat().st_size
        backup = create_app_backup(deployed)
    rows = flashpoint_app.query_rows(
        promptvault_app.decompress_backup(deployed, backup), "select email from users where username = 'ann'"
    )
    assert rows == [("wal@example.org",)]


def test_trap_copy_is_not_in_wal_mode(deployed):
    backup = create_app_backup(deployed)
    plain = promptvault_app.decompress_backup(deployed, backup)
    flashpoint_app.query_rows(plain, "select count(*) from users")
    assert list(plain.parent.glob(f"{plain.name}*")) == [plain]
    assert {entry.name for entry in find_backup_folder(deployed, backup).iterdir()} == {
        backup.members[0].file,
        "manifest.json",
    }
    assert backup.members[0].facts["journal_mode"] == "wal"


def test_trap_no_journal_remains_next_to_synced_copy(deployed, monkeypatch):
    """A journal that reappears after a power failure would roll back the copy, so the folder is synced before the manifest."""
    events, real = [], os.fsync

    def fsync(descriptor):
        synced = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        events.append(synced)
        if synced.suffix == ".gz":
            assert [entry.name for entry in synced.parent.glob(f"{synced.name}*")] == [synced.name]
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    backup = create_app_backup(deployed)
    copy, folder = find_backup_file(deployed, backup), find_backup_folder(deployed, backup)
    manifest = next(event for event in events if ".manifest.json." in event.name)
    assert events.index(copy) < events.index(manifest)
    assert folder in events[events.index(copy) : events.index(manifest)]
    assert folder in events[events.index(manifest) :]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_trap_backup_is_private_under_any_umask(deployed, mask):
    before = os.umask(mask)
    try:
        backup = create_app_backup(deployed)
    finally:
        os.umask(before)
    root = deployed.with_name("backups")
    for entry in [root, *root.rglob("*")]:
        assert stat.S_IMODE(entry.lstat().st_mode) == (0o700 if entry.is_dir() else 0o600), entry
    assert backup.complete


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change file owners")
def test_repository_created_by_root_belongs_to_folder_owner(deployed):
    os.chown(deployed.parent, 65534, 65533)
    create_app_backup(deployed)
    create_app_backup(deployed)
    verify_backups(deployed)
    repository = deployed.with_name("backups")
    entries = [repository, *repository.rglob("*")]
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in entries} == {(65534, 65533)}
    assert {path.name for path in entries} >= {"manifest.json", "verified.json", ".dbctl-lock"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change file owners")
def test_files_created_by_root_belong_to_repository_owner(deployed):
    repository = deployed.with_name("backups")
    repository.mkdir(mode=0o700)
    os.chown(repository, 65534, 65534)
    create_app_backup(deployed)
    promptvault_app.apply_restore(deployed)
    entries = list(repository.rglob("*"))
    assert (
        len(entries) == 8
    )  # the folder of the app, its lock, and two backups with a manifest and a member each
    assert {(entry.stat().st_uid, entry.stat().st_gid) for entry in entries} == {(65534, 65534)}


def test_file_name_follows_profile(deployed):
    backup = create_app_backup(deployed)
    assert backup.members[0].file == f"user_{backup.id}.db.gz"


def test_two_backups_in_one_second_have_different_ids(deployed, monkeypatch):
    set_clock(monkeypatch, datetime(2026, 5, 1, 12, tzinfo=UTC))
    first, second = create_app_backup(deployed), create_app_backup(deployed)
    assert (first.id, second.id) == ("20260501_120000", "20260501_120001")
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [second.id, first.id]


def test_clock_set_back_is_reported_and_latest_stays_newest(deployed, monkeypatch):
    set_clock(monkeypatch, datetime(2026, 5, 2, tzinfo=UTC))
    create_app_backup(deployed)
    set_clock(monkeypatch, datetime(2020, 1, 1, tzinfo=UTC))
    backup = create_app_backup(deployed)
    assert "the clock (2020-01-01 00:00) is behind" in backup.remarks[0]
    with promptvault_app.open_repository(deployed) as (_app, repository):
        assert repository.find("latest").id == backup.id == "20200101_000000"


def create_app_with_launcher(folder):
    """Create an app with a database of another program; return the path of its own database."""
    path = create_app(folder, "deployed")
    flashpoint_web.launcher_flashpoint_db(path.with_name("flashpoint.sqlite"))
    text = path.with_name("dbctl.toml").read_text()
    path.with_name("dbctl.toml").write_text(
        text.replace('user = "user.db"', 'user = "user.db"\nflashpoint = "flashpoint.sqlite"')
    )
    return path


def test_database_of_another_program_is_omitted_with_reason(tmp_path):
    path = create_app_with_launcher(tmp_path / "app")
    backup = create_app_backup(path)
    assert [member.database for member in backup.members] == ["user"]
    assert "the Flashpoint Launcher" in backup.left_out[0].reason
    requested = create_app_backup(path, only="flashpoint")
    assert [member.database for member in requested.members] == ["flashpoint"]
    before = path.with_name("flashpoint.sqlite").read_bytes()
    error = catch_error(ReadOnlyError, lambda: promptvault_app.apply_restore(path, requested.id))
    assert "belongs to the Flashpoint Launcher" in str(error)
    assert path.with_name("flashpoint.sqlite").read_bytes() == before


def create_single_table_app(folder, settings=""):
    """Create an app with one database and a minimal profile; return the path of the database."""
    flashpoint_app.run_statements(folder / "one.db", "create table t (x)")
    (folder / "p.toml").write_text(
        f'schema = "dbctl.profile/1"\nname = "p"\ntitle = "P"\n[databases.one]\nengines = ["sqlite"]\n{settings}'
    )
    (folder / "dbctl.toml").write_text(
        '[apps.p]\nprofile = "p.toml"\n[apps.p.databases]\none = "one.db"\n[apps.p.backup]\nrepository = "backups"\n'
    )
    return folder / "one.db"


def test_emptied_database_does_not_become_latest_backup(tmp_path):
    path = create_single_table_app(tmp_path)
    backup = create_app_backup(path)
    path.write_bytes(b"")
    error = catch_error(BackupEmptyError, lambda: create_app_backup(path))
    assert "the database has no table" in str(error)
    assert [backup.id for backup in list_all_backups(path).page.items] == [backup.id]
    promptvault_app.apply_restore(path)
    assert "t" in flashpoint_app.read_all_rows(path)


def test_app_with_only_excluded_databases_is_refused(tmp_path):
    path = create_single_table_app(tmp_path, 'backup = false\nowner = "another"\n')
    error = catch_error(NotSupportedError, lambda: create_app_backup(path))
    assert "include it with --db one" in error.hint
    assert not (tmp_path / "backups").exists()


def test_damaged_database_leaves_no_backup(deployed):
    complete = create_app_backup(deployed)
    raw = bytearray(deployed.read_bytes())
    for page in range(3, len(raw) // 4096):  # all b-tree pages after the schema
        raw[page * 4096 + 1 : page * 4096 + 8] = b"\xff" * 7
    deployed.write_bytes(raw)
    with pytest.raises((BackupFailedError, CorruptError)):
        create_app_backup(deployed)
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [complete.id]
    assert not list_all_backups(deployed).incomplete


def test_rows_violating_constraints_are_backed_up(deployed):
    with closing(sqlite3.connect(deployed)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute("update system_settings set data_type = 'nonsense' where id = 1")
    backup = create_app_backup(deployed)
    assert list_codes(verify_backups(deployed, backup.id)) == []


def test_missing_database_leaves_no_backup(deployed):
    deployed.unlink()
    catch_error(DatabaseMissingError, lambda: create_app_backup(deployed))
    assert not any(deployed.with_name("backups").rglob("manifest.json"))


# Repository ------------------------------------------------------------------------------------------------------


def test_missing_repository_configuration_has_a_hint(tmp_path):
    path = flashpoint_app.create_app(tmp_path / "app", "document")
    error = catch_error(RepositoryNotConfiguredError, lambda: create_app_backup(path))
    assert "[apps.fp.backup]" in error.hint


def test_repository_with_missing_parent_is_not_created(deployed):
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('"backups"', '"mnt/disk/backups"'))
    catch_error(RepositoryFailedError, lambda: create_app_backup(deployed))
    assert not deployed.with_name("mnt").exists()


@pytest.mark.parametrize("address", ["~missing-user/backups", "back\\u0000ups", "ftp://host/backups"])
def test_invalid_repository_address_is_a_configuration_error(deployed, address):
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('"backups"', f'"{address}"'))
    assert catch_error(DbctlError, lambda: create_app_backup(deployed)).exit_status == Exit.USAGE


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722])
@pytest.mark.parametrize("name", ["backups", "backups/fp"])
def test_repository_writable_by_others_is_rejected(deployed, mode, name):
    folder = deployed.parent / name
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o700)
    folder.chmod(mode)
    catch_error(RepositoryUnsafeError, lambda: create_app_backup(deployed))
    assert list(folder.iterdir()) == []


def test_command_of_the_hint_quotes_the_folder(deployed):
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('"backups"', '"it\'s; backups"'))
    folder = deployed.parent / "it's; backups"
    folder.mkdir()
    folder.chmod(0o777)
    hint = catch_error(RepositoryUnsafeError, lambda: create_app_backup(deployed)).hint
    subprocess.run(["sh", "-c", hint.partition("Run on this machine: ")[2].partition("; for")[0]], check=True)
    create_app_backup(deployed)


def test_repository_may_be_symlink_but_app_folder_may_not(deployed):
    target = deployed.with_name("disk")
    target.mkdir(mode=0o700)
    deployed.with_name("backups").symlink_to(target)
    create_app_backup(deployed)
    (target / "fp").rename(target / "renamed")
    (target / "fp").symlink_to(target / "renamed")
    catch_error(RepositoryFailedError, lambda: create_app_backup(deployed))


def test_file_instead_of_repository_is_an_error(deployed):
    deployed.with_name("backups").write_text("")
    assert "not a directory" in str(catch_error(RepositoryFailedError, lambda: create_app_backup(deployed)))


def test_second_process_waits_and_reports_lock_holder(deployed):
    create_app_backup(deployed)
    with (
        promptvault_app.open_repository(deployed) as (_app, repository),
        repository.store.lock("backup create", timeout=0),
    ):
        error = catch_error(BusyError, lambda: create_app_backup(deployed, timeout=0))
    assert f"pid {os.getpid()}" in str(error)


def test_app_name_with_slashes_is_escaped(deployed):
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace("apps.fp", 'apps."../../x"'))
    create_app_backup(deployed)
    assert [entry.name for entry in deployed.with_name("backups").iterdir()] == ["%2E%2E%2F%2E%2E%2Fx"]


def test_missing_or_empty_repository_fails_verification(deployed):
    catch_error(RepositoryMissingError, lambda: verify_backups(deployed))
    catch_error(RepositoryMissingError, lambda: list_all_backups(deployed))
    deployed.with_name("backups").mkdir(mode=0o700)
    assert list_all_backups(deployed).page.items == []
    assert list_codes(verify_backups(deployed)) == ["no-backup"]


# Listing ---------------------------------------------------------------------------------------------------------


def test_folder_without_manifest_is_incomplete(deployed):
    backup = create_app_backup(deployed)
    (find_backup_folder(deployed, backup) / "manifest.json").unlink()
    (find_backup_folder(deployed, backup) / ".dbctl-incomplete").touch()
    assert list_all_backups(deployed).page.items == []
    assert list_all_backups(deployed).incomplete == [backup.id]
    catch_error(BackupMissingError, lambda: promptvault_app.apply_restore(deployed))


def test_stale_mark_in_complete_backup_is_removed(deployed):
    backup = create_app_backup(deployed)
    mark = find_backup_folder(deployed, backup) / ".dbctl-incomplete"
    mark.touch()
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [backup.id]
    create_app_backup(deployed)
    assert not mark.exists()
    assert list_codes(verify_backups(deployed)) == []


def test_folders_of_other_programs_are_not_pruned(deployed):
    create_app_backup(deployed)
    other = find_backup_folder(deployed, "20200101_000000")
    other.mkdir()
    (other / "other.db").write_text("x")
    with open_prune(deployed, last=1) as operation:
        operation.apply()
    assert (other / "other.db").exists()


def test_listing_during_prune_includes_remaining_backups(deployed):
    backup = create_app_backup(deployed)
    root, stop_event = find_backup_folder(deployed, backup).parent, threading.Event()

    def create_and_delete():
        while not stop_event.is_set():
            for second in range(20):
                shutil.copytree(root / backup.id, root / f"20010101_0000{second:02}")
            for second in range(20):
                shutil.rmtree(root / f"20010101_0000{second:02}")

    other = threading.Thread(target=create_and_delete)
    other.start()
    try:
        for _ in range(200):
            assert backup.id in [backup.id for backup in list_all_backups(deployed).page.items]
    finally:
        stop_event.set()
        other.join()


def test_backup_deleted_during_verification_is_not_reported_as_damage(deployed):
    deleted, remaining = create_app_backup(deployed), create_app_backup(deployed)
    folder = find_backup_folder(deployed, deleted)
    with (
        promptvault_app.open_repository(deployed) as (app, repository),
        observe_progress(lambda _bytes: shutil.rmtree(folder, ignore_errors=True)),
    ):
        verification = VerifyBackups(repository, deep=False, keys=promptvault_app.create_keys(app)).run()
    assert (list_codes(verification.findings), verification.remarks) == (
        [],
        [f"{deleted.id} was deleted during the verification"],
    )
    assert verification.findings.checked == 1
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [remaining.id]


def test_verification_of_a_repository_that_disappears_is_no_success(deployed):
    """The directory in which a disk was mounted remains."""
    backups = [create_app_backup(deployed).id for _ in range(2)]
    folder = find_backup_folder(deployed, backups[0]).parent
    with promptvault_app.open_repository(deployed) as (app, repository):
        operation = VerifyBackups(repository, deep=False, keys=promptvault_app.create_keys(app))
        folder.rename(deployed.parent / "unmounted")
        verification = operation.run()
    assert (list_codes(verification.findings), verification.status) == (["no-backup"], Exit.CHECK_FAILED)
    assert verification.findings.checked == 0


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "huge", *(["closed"] if os.geteuid() else [])])
def test_unreadable_manifest_hides_no_other_backup(deployed, kind):
    bad, good = create_app_backup(deployed), create_app_backup(deployed)
    manifest = find_backup_folder(deployed, bad) / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    if kind == "fifo":  # reading it would block
        os.mkfifo(manifest)
    elif kind == "link":
        (deployed.parent / "other.json").write_text(text)
        manifest.symlink_to(deployed.parent / "other.json")
    elif kind == "folder":
        manifest.mkdir()
    elif kind == "huge":
        with manifest.open("wb") as file:
            file.truncate(1 << 30)
    else:
        find_backup_folder(deployed, bad).chmod(0)
    backups = list_all_backups(deployed)
    assert ([backup.id for backup in backups.page.items], backups.unreadable) == ([good.id], [bad.id])
    assert list_codes(verify_backups(deployed)) == ["manifest-unreadable"]
    assert create_app_backup(deployed).complete


def test_list_states_the_damage_that_a_verification_found(deployed):
    backup = create_app_backup(deployed)
    path = find_backup_folder(deployed, backup) / backup.members[0].file
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    assert list_codes(verify_backups(deployed, deep=False)) == ["file-changed"]
    (item,) = list_all_backups(deployed).page.items
    assert item.note.startswith(f"damaged: {path.name}: ")
    path.write_bytes(content)
    assert list_codes(verify_backups(deployed, deep=False)) == []
    (item,) = list_all_backups(deployed).page.items
    assert item.note == ""


@pytest.mark.parametrize("kind", ["link", "fifo", "naive", "early"])
def test_planted_verification_record_is_ignored(deployed, kind):
    backup = create_app_backup(deployed)
    record, victim = find_backup_folder(deployed, backup) / "verified.json", deployed.parent / "victim"
    victim.write_text("unchanged")
    if kind == "link":
        record.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(record)
    else:
        timestamp = "2999-01-01T00:00:00" if kind == "naive" else "0001-01-01T00:00:00+14:00"
        record.write_text(json.dumps({"at": timestamp}))
    assert list_all_backups(deployed).page.items[0].verified_at == backup.verified_at
    assert list_codes(verify_backups(deployed)) == []
    assert list_all_backups(deployed).page.items[0].verified_at > backup.verified_at
    assert victim.read_text() == "unchanged"
    assert stat.S_IMODE(record.lstat().st_mode) == 0o600


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": "2025-01-01T00:00:00"},
        {"created_at": "0001-01-01T00:00:00+14:00"},
        {"verified_at": "9999-12-31T23:59:59-14:00"},
        {"number": (1 << 64) - 1},
        {"number": -1},
    ],
)
def test_manifest_with_invalid_values_is_rejected(deployed, changes):
    backup = create_app_backup(deployed)
    manifest = find_backup_folder(deployed, backup) / "manifest.json"
    content = json.dumps(json.loads(manifest.read_text())["backup"] | changes)
    checksum = hashlib.sha256(content.encode()).hexdigest()
    manifest.write_text(f'{{"schema":"dbctl.backup/1","sha256":"{checksum}","backup":{content}}}\n')
    assert list_all_backups(deployed).unreadable == [backup.id]
    assert create_app_backup(deployed).complete


@pytest.mark.parametrize("kind", ["hard link", "fifo"])
def test_planted_lock_file_is_not_overwritten(deployed, kind):
    backup = create_app_backup(deployed)
    lock, victim = find_backup_folder(deployed, backup).parent / ".dbctl-lock", deployed.parent / "victim"
    victim.write_text("unchanged " * 99)
    lock.unlink()
    if kind == "fifo":
        os.mkfifo(lock)
    else:
        os.link(victim, lock)
    error = catch_error(RepositoryFailedError, lambda: create_app_backup(deployed))
    assert "another hard link" in str(error)
    assert victim.read_text() == "unchanged " * 99


def test_latest_of_one_database_is_newest_with_it(tmp_path):
    path = create_app_with_launcher(tmp_path / "app")
    backup = create_app_backup(path)
    create_app_backup(path, only="flashpoint")
    with promptvault_app.open_repository(path, only="user") as (_app, repository):
        assert repository.find("latest").id == backup.id


def test_mistyped_id_has_a_suggestion(deployed):
    backup = create_app_backup(deployed)
    error = catch_error(
        BackupMissingError, lambda: promptvault_app.apply_restore(deployed, f"3{backup.id[1:]}")
    )
    assert backup.id in error.hint


@pytest.mark.parametrize("name", ["latest", "lates"])
def test_missing_latest_backup_is_not_suggested(deployed, name):
    (deployed.parent / "backups" / "fp").mkdir(parents=True)
    error = catch_error(BackupMissingError, lambda: promptvault_app.apply_restore(deployed, name))
    assert "'latest'" not in error.hint


# Verification ----------------------------------------------------------------------------------------------------


def test_valid_backup_verifies_and_records_time(path):
    backup = create_app_backup(path)
    assert list_codes(verify_backups(path)) == []
    assert list_all_backups(path).page.items[0].verified_at >= backup.verified_at


@pytest.mark.parametrize("deep", [False, True])
def test_every_flipped_bit_of_file_is_detected(deployed, deep):
    backup = create_app_backup(deployed)
    file = find_backup_file(deployed, backup)
    complete = file.read_bytes()
    for position in range(0, len(complete), len(complete) // 40):
        changed = bytearray(complete)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        assert list_codes(verify_backups(deployed, backup.id, deep=deep)) == ["file-changed"]


def test_unreadable_manifest_makes_latest_unknown(deployed):
    bad = create_app_backup(deployed)
    (find_backup_folder(deployed, bad) / "manifest.json").write_text("none")
    with promptvault_app.open_repository(deployed) as (_app, repository):
        error = catch_error(BackupCorruptError, lambda: repository.find("latest"))
    assert error.context["id"] == bad.id


def test_every_flipped_bit_of_manifest_is_detected(deployed):
    backup = create_app_backup(deployed)
    manifest = find_backup_folder(deployed, backup) / "manifest.json"
    complete = manifest.read_bytes()
    for position in range(len(complete)):
        changed = bytearray(complete)
        changed[position] ^= 1 << position % 8
        with pytest.raises(backup_manifest.ManifestInvalidError):
            backup_manifest.parse(bytes(changed))
    manifest.write_bytes(complete[:-40])
    assert list_codes(verify_backups(deployed)) == ["manifest-unreadable"]
    catch_error(BackupCorruptError, lambda: promptvault_app.apply_restore(deployed, backup.id))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b"null", b'{"schema": "dbctl.backup/1"}']
)
def test_invalid_manifest_is_rejected(text):
    with pytest.raises(backup_manifest.ManifestInvalidError):
        backup_manifest.parse(text)


@pytest.mark.parametrize("name", ["../user.db", "/etc/passwd", "..", "a/b", ""])
def test_manifest_with_path_outside_its_folder_is_rejected(deployed, name):
    with promptvault_app.open_repository(deployed) as (_app, repository):
        create_app_backup(deployed)
        manifest = repository.find("latest")
        member = msgspec.structs.replace(manifest.members[0], file=name)
        text = backup_manifest.serialize(msgspec.structs.replace(manifest, members=[member]))
    with pytest.raises(backup_manifest.ManifestInvalidError):
        backup_manifest.parse(text.encode())


def test_truncated_missing_and_replaced_files_are_detected(deployed):
    first, second = create_app_backup(deployed), create_app_backup(deployed)
    flashpoint_app.run_statements(deployed, "delete from user_settings")
    third = create_app_backup(deployed)
    find_backup_file(deployed, first).write_bytes(find_backup_file(deployed, first).read_bytes()[:-1])
    find_backup_file(deployed, second).unlink()
    find_backup_file(deployed, third).write_bytes(deployed.read_bytes()[:-4096] + b"\0" * 4096)
    findings = verify_backups(deployed)
    assert sorted(list_codes(findings)) == ["file-changed", "file-changed", "file-missing"]
    assert findings.has_errors


def test_manifest_in_wrong_folder_is_unreadable(deployed):
    first = create_app_backup(deployed)
    find_backup_folder(deployed, first).rename(find_backup_folder(deployed, "20300101_000000"))
    assert list_codes(verify_backups(deployed)) == ["manifest-unreadable"]


def test_backup_of_another_app_is_not_restored(tmp_path):
    other = create_app(tmp_path / "larder", "larder")
    path = create_app(tmp_path / "app", "deployed")
    shutil.rmtree(find_backup_folder(path, create_app_backup(path)))
    backup = create_app_backup(other)
    find_backup_folder(other, backup).rename(find_backup_folder(path, backup))
    assert "backup-foreign" in list_codes(verify_backups(path))
    catch_error(BackupMissingError, lambda: promptvault_app.apply_restore(path, backup.id, only="user"))


def test_unknown_file_in_backup_is_reported(deployed):
    backup = create_app_backup(deployed)
    (find_backup_folder(deployed, backup) / "notes.txt").write_text("notes")
    findings = verify_backups(deployed)
    assert [(finding.severity, finding.code) for finding in findings.findings] == [
        ("warning", "file-unknown")
    ]


def test_deep_verification_detects_wrong_row_counts(deployed):
    backup = create_app_backup(deployed)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        manifest = repository.find(backup.id)
        member = msgspec.structs.replace(manifest.members[0], rows={**manifest.members[0].rows, "users": 99})
        changed = msgspec.structs.replace(manifest, members=[member])
    (find_backup_folder(deployed, backup) / "manifest.json").write_text(backup_manifest.serialize(changed))
    assert list_codes(verify_backups(deployed, deep=False)) == []
    assert list_codes(verify_backups(deployed, deep=True)) == ["rows-differ"]


def test_different_schema_fingerprint_is_a_warning(deployed):
    backup = create_app_backup(deployed)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        manifest = repository.find(backup.id)
        member = msgspec.structs.replace(manifest.members[0], schema="0" * 64)
        changed = msgspec.structs.replace(manifest, members=[member])
    (find_backup_folder(deployed, backup) / "manifest.json").write_text(backup_manifest.serialize(changed))
    assert [(finding.severity, finding.code) for finding in verify_backups(deployed).findings] == [
        ("warning", "schema-differs")
    ]
    assert promptvault_app.apply_restore(deployed, backup.id).backup == backup.id


def test_verification_adds_only_its_record(deployed):
    backup = create_app_backup(deployed)
    before = {entry.name: entry.read_bytes() for entry in find_backup_folder(deployed, backup).iterdir()}
    verify_backups(deployed)
    after = {entry.name: entry.read_bytes() for entry in find_backup_folder(deployed, backup).iterdir()}
    assert json.loads(after.pop("verified.json"))["verified_at"]
    assert after == before


# Pruning ---------------------------------------------------------------------------------------------------------


def test_prune_without_rules_is_refused(deployed):
    create_app_backup(deployed)
    with pytest.raises(RetentionNotConfiguredError), open_prune(deployed):
        pass


def test_prune_does_not_create_missing_repository(deployed):
    with open_prune(deployed, last=1) as operation:
        catch_error(RepositoryMissingError, operation.apply)
    assert not deployed.with_name("backups").exists()


def test_prune_retains_by_rules_with_reasons(deployed, monkeypatch):
    for day in range(1, 6):
        for hour in (1, 2):
            set_clock(monkeypatch, datetime(2026, 5, day, hour, tzinfo=UTC))
            create_app_backup(deployed)
    with open_prune(deployed, daily=3, last=2) as operation:
        plan = operation.plan()
        assert plan.destructive
        result = operation.apply(plan.digest)
    assert [backup.id for backup in result.retained] == [
        "20260505_020000",
        "20260505_010000",
        "20260504_020000",
        "20260503_020000",
    ]
    assert result.retained[0].reasons == ["the newest", "one of the last 2", "daily"]
    assert len(result.deleted) == 6
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [
        backup.id for backup in result.retained
    ]
    assert list_codes(verify_backups(deployed)) == []


def test_newest_of_each_database_is_always_retained(deployed):
    backup = create_app_backup(deployed)
    with open_prune(deployed, within="1s") as operation:
        assert operation.apply().deleted == []
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [backup.id]


def test_damaged_backup_does_not_replace_valid_one(deployed):
    valid, damaged = create_app_backup(deployed), create_app_backup(deployed)
    find_backup_file(deployed, damaged).write_bytes(b"truncated")
    with open_prune(deployed, last=1) as operation:
        result = operation.apply()
    assert result.deleted == []
    assert {backup.id: backup.reasons for backup in result.retained}[damaged.id] == [
        "damaged: see backup verify"
    ]
    assert find_backup_file(deployed, valid).exists()


def test_newest_valid_backup_is_retained_before_truncated_one(deployed):
    old, complete, truncated = (
        create_app_backup(deployed),
        create_app_backup(deployed),
        create_app_backup(deployed),
    )
    raw = find_backup_file(deployed, truncated).read_bytes()
    find_backup_file(deployed, truncated).write_bytes(raw[:-1])
    with open_prune(deployed, last=1) as operation:
        result = operation.apply()
    assert result.deleted == [old.id]
    assert {backup.id: backup.reasons[0] for backup in result.retained}[complete.id] == "the newest"


def test_backup_failing_verification_is_not_counted(deployed):
    valid, damaged = create_app_backup(deployed), create_app_backup(deployed)
    raw = find_backup_file(deployed, damaged).read_bytes()
    find_backup_file(deployed, damaged).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert list_codes(verify_backups(deployed)) == ["file-changed"]
    with open_prune(deployed, last=1) as operation:
        assert operation.apply().deleted == []
    find_backup_file(deployed, damaged).write_bytes(raw)
    assert list_codes(verify_backups(deployed)) == []
    with open_prune(deployed, last=1) as operation:
        assert operation.apply().deleted == [valid.id]


def test_plan_counts_newer_backups_per_database(tmp_path):
    path = create_app_with_launcher(tmp_path / "app")
    first = create_app_backup(path, only="flashpoint")
    create_app_backup(path, only="flashpoint")
    create_app_backup(path, only="user")
    with open_prune(path, last=1) as operation:
        (step, *_) = operation.plan().steps
    assert step.startswith(f"delete {first.id} (")
    assert step.endswith("no rule retains it; newer ones retained: 1 of flashpoint")


def test_backup_from_before_clock_change_is_older(deployed, monkeypatch):
    set_clock(monkeypatch, datetime(2026, 5, 2, tzinfo=UTC))
    ahead = create_app_backup(deployed)
    set_clock(monkeypatch, datetime(2020, 1, 1, tzinfo=UTC))
    backup = create_app_backup(deployed)
    with open_prune(deployed, last=1) as operation:
        assert operation.apply().deleted == [ahead.id]
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [backup.id]


@pytest.mark.slow
def test_backup_being_created_is_not_removed(deployed):
    backup = create_app_backup(deployed)
    with (
        promptvault_app.open_repository(deployed) as (_app, repository),
        repository.store.lock("backup create", timeout=1),
    ):
        folder = find_backup_folder(deployed, backup).with_name("20991231_235959")
        folder.mkdir()
        (folder / ".dbctl-incomplete").touch()
        with open_prune(deployed, last=1) as operation:
            catch_error(BusyError, operation.apply)
        assert folder.exists()


def test_profile_rules_apply_without_configured_rules(tmp_path, monkeypatch):
    (tmp_path / "app").mkdir()
    with closing(sqlite3.connect(tmp_path / "app/vault.db")) as app, app:
        app.execute("create table t (x)")
    config = tmp_path / "app/dbctl.toml"
    profile = 'schema = "dbctl.profile/1"\nname = "v"\ntitle = "V"\n[databases.main]\nengines = ["sqlite"]\n'
    (tmp_path / "app/v.toml").write_text(profile + '[backup]\nkeep = { within = "30d" }\n')
    text = '[apps.v]\nprofile = "v.toml"\n[apps.v.databases]\nmain = "vault.db"\n[apps.v.backup]\nrepository = "backups"\n'
    config.write_text(text)
    set_clock(monkeypatch, datetime(2026, 5, 1, tzinfo=UTC))
    old = create_app_backup(config)
    set_clock(monkeypatch, datetime(2026, 5, 2, tzinfo=UTC))
    create_app_backup(config)
    set_clock(monkeypatch, datetime(2026, 5, 31, 12, tzinfo=UTC))
    create_app_backup(config)
    monkeypatch.setattr(model, "now", lambda: datetime(2026, 5, 31, 13, tzinfo=UTC))
    with open_prune(config) as operation:
        assert operation.apply().deleted == [old.id]
    config.write_text(text + "keep = { last = 1 }\n")
    with open_prune(config) as operation:
        assert len(operation.apply().deleted) == 1


def test_invalid_time_span_in_profile_is_rejected(tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text(
        'schema = "dbctl.profile/1"\nname = "v"\ntitle = "V"\n[databases.main]\nengines = ["sqlite"]\n'
        '[backup]\nkeep = { within = "a month" }\n'
    )
    assert "not a duration" in str(catch_error(ProfileInvalidError, lambda: loader.load(str(file))))


def test_unreadable_manifest_prevents_prune(deployed):
    first, *_ = create_app_backup(deployed), create_app_backup(deployed), create_app_backup(deployed)
    (find_backup_folder(deployed, first) / "manifest.json").write_text("{")
    with open_prune(deployed, last=1) as operation:
        catch_error(RepositoryUnreadableError, operation.apply)
    assert len(list_all_backups(deployed).page.items) == 2


def test_interrupted_backup_is_removed(deployed):
    backup, interrupted = create_app_backup(deployed), create_app_backup(deployed)
    (find_backup_folder(deployed, interrupted) / "manifest.json").unlink()
    (find_backup_folder(deployed, interrupted) / ".dbctl-incomplete").touch()
    with open_prune(deployed, last=5) as operation:
        assert operation.apply().leftovers == [interrupted.id]
    assert not find_backup_folder(deployed, interrupted).exists()
    assert find_backup_file(deployed, backup).exists()


def test_prune_works_on_full_disk(deployed, monkeypatch):
    old, new = create_app_backup(deployed), create_app_backup(deployed)
    real_open = os.open

    def raise_no_space(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and not Path(path).exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", raise_no_space)
    with open_prune(deployed, last=1) as operation:
        assert operation.apply().deleted == [old.id]
    monkeypatch.undo()
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [new.id]
    assert not find_backup_folder(deployed, old).exists()


def test_changed_plan_is_not_applied(deployed):
    create_app_backup(deployed)
    create_app_backup(deployed)
    with open_prune(deployed, last=1) as operation:
        digest = operation.plan().digest
        create_app_backup(deployed)
        catch_error(PlanChangedError, lambda: operation.apply(digest))
    assert len(list_all_backups(deployed).page.items) == 3


TIMESTAMPS = st.datetimes(
    datetime(2019, 1, 1),  # noqa: DTZ001
    datetime(2027, 1, 1),  # noqa: DTZ001
).map(lambda time: time.replace(tzinfo=UTC))


@given(
    st.lists(st.tuples(TIMESTAMPS, st.sets(st.sampled_from("abc"), min_size=1)), min_size=1, max_size=40),
    st.builds(
        Retention,
        last=st.integers(0, 3),
        hourly=st.integers(0, 3),
        daily=st.integers(0, 3),
        weekly=st.integers(0, 3),
        monthly=st.integers(0, 3),
        yearly=st.integers(0, 3),
        within=st.sampled_from(["", "1s", "40d"]),
    ),
)
def test_every_series_retains_newest_and_required_count(specs, retention):
    specs.sort(key=lambda spec: spec[0], reverse=True)
    candidates = [
        Candidate(id=str(index), created_at=timestamp, series=sorted(names))
        for index, (timestamp, names) in enumerate(specs)
    ]
    retained = rules.retention_reasons(candidates, retention)
    for name in {name for candidate in candidates for name in candidate.series}:
        members = [candidate for candidate in candidates if name in candidate.series]
        assert members[0].id in retained
        assert sum(member.id in retained for member in members) >= min(retention.last, len(members))
        days = list(dict.fromkeys(member.created_at.date() for member in members))
        assert {member.created_at.date() for member in members if member.id in retained} >= set(
            days[: retention.daily]
        )
        if retention.within:
            span = timedelta(seconds=1) if retention.within == "1s" else timedelta(days=40)
            assert all(member.id in retained for member in members if member.created_at >= model.now() - span)
