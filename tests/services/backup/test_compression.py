"""Compressed backups: file names, standard programs, damaged files and temporary files."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from dbctl.errors.backup import BackupCorruptError
from dbctl.errors.connection import DiskFullError, InsufficientSpaceError
from dbctl.errors.usage import ConfigInvalidError
from dbctl.files import codecs, compression
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import member_files
from dbctl.stores.directory import TEMP_PREFIX
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import (
    apply_restore,
    create_app,
    create_app_backup,
    find_backup_file,
    find_backup_folder,
    list_all_backups,
    list_codes,
    open_prune,
    undo_restore,
    verify_backups,
)

DECOMPRESS_COMMANDS = {"gzip": ["gunzip"], "zstd": ["zstd", "-q", "-d", "--rm"]}
SUFFIXES = {"none": ".db", "gzip": ".db.gz", "zstd": ".db.zst"}
PROFILE = """
schema = "dbctl.profile/1"
name = "named"
title = "Named"
[databases.chat]
engines = ["sqlite"]
[backup]
names = {{ chat = "{name}" }}
{settings}
"""


@pytest.fixture
def deployed(tmp_path, monkeypatch):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))  # used only by this test
    return create_app(tmp_path / "app", "deployed")


def append_config(path, line):
    file = path.with_name("dbctl.toml")
    file.write_text(f"{file.read_text()}{line}\n")


def change_manifest(path, backup, **changes):
    """Write a valid manifest with changed properties of the only member."""
    with promptvault_app.open_repository(path) as (_app, repository):
        manifest = repository.find(backup.id)
    member = msgspec.structs.replace(manifest.members[0], **changes)
    text = backup_manifest.serialize(msgspec.structs.replace(manifest, members=[member]))
    (find_backup_folder(path, backup) / "manifest.json").write_text(text)


def has_no_temp_files(path):
    entries = [
        *path.with_name("backups").rglob(f"{TEMP_PREFIX}*"),
        *Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*"),
    ]
    return entries == []


# Creation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(SUFFIXES))
def test_backup_with_any_compression_is_restored_and_undone(deployed, form):
    before = promptvault_app.read_content(deployed)
    backup = create_app_backup(deployed, compress=form)
    assert backup.members[0].file == f"user_{backup.id}{SUFFIXES[form]}"
    assert {entry.name for entry in find_backup_folder(deployed, backup).iterdir()} == {
        backup.members[0].file,
        "manifest.json",
    }
    assert list_codes(verify_backups(deployed, deep=True)) == []
    promptvault_app.change_data(deployed)
    changed_content = promptvault_app.read_content(deployed)
    apply_restore(deployed)
    assert promptvault_app.read_content(deployed) == before
    undo_restore(deployed)
    assert promptvault_app.read_content(deployed) == changed_content
    deployed.unlink()
    apply_restore(deployed, backup.id)
    assert promptvault_app.read_content(deployed) == before
    assert has_no_temp_files(deployed)


@pytest.mark.parametrize("form", list(DECOMPRESS_COMMANDS))
def test_standard_program_decompresses_backup(deployed, form):
    if shutil.which(DECOMPRESS_COMMANDS[form][0]) is None:
        pytest.skip(f"{DECOMPRESS_COMMANDS[form][0]} is not installed")
    backup = create_app_backup(deployed, compress=form)
    file, (member,) = find_backup_file(deployed, backup), backup.members
    subprocess.run([*DECOMPRESS_COMMANDS[form], file], check=True)
    plain = file.with_suffix("")
    assert flashpoint_app.read_all_rows(plain) == flashpoint_app.read_all_rows(deployed)
    assert flashpoint_app.query_rows(plain, "pragma integrity_check") == [("ok",)]
    assert (plain.stat().st_size, member.compress) == (member.plain_bytes, form)


def test_compress_option_overrides_configuration(deployed):
    append_config(deployed, 'compress = "zstd"')
    assert create_app_backup(deployed).members[0].compress == "zstd"
    assert create_app_backup(deployed, compress="gzip").members[0].compress == "gzip"


def test_unknown_compression_is_a_configuration_error(deployed):
    append_config(deployed, 'compress = "rar"')
    assert "compress" in str(catch_error(ConfigInvalidError, lambda: create_app_backup(deployed)))


def test_safety_backup_is_not_compressed(deployed):
    create_app_backup(deployed)
    result = apply_restore(deployed)
    with promptvault_app.open_repository(deployed) as (_app, repository):
        (member,) = repository.find(result.safety_backup).members
    assert (member.compress, member.file) == ("none", f"user_{result.safety_backup}.db")


@pytest.mark.parametrize(
    ("name", "settings", "form", "expected"),
    [
        ("chat_{time}.sqlite", 'time = "iso"', "gzip", "chat_2026-01-02T15-04-05-000Z.sqlite.gz"),
        ("chat_{time}.sqlite", 'time = "iso"', "none", "chat_2026-01-02T15-04-05-000Z.sqlite"),
        ("chat_{time}.db.gz", "", "gzip", "chat_20260102_150405.db.gz"),
        ("chat_{time}.db.gz", "", "none", "chat_20260102_150405.db"),
        ("chat_{time}.db.gz", "", "zstd", "chat_20260102_150405.db.zst"),
        ("my chat {time}", "", "gzip", "my chat 20260102_150405.gz"),
    ],
)
def test_file_name_follows_profile_and_compression(tmp_path, monkeypatch, name, settings, form, expected):
    monkeypatch.setattr(
        "dbctl.services.backup.create.now", lambda: datetime(2026, 1, 2, 15, 4, 5, tzinfo=UTC)
    )
    flashpoint_app.run_statements(tmp_path / "chat.db", "create table t (x)")
    (tmp_path / "named.toml").write_text(PROFILE.format(name=name, settings=settings))
    (tmp_path / "dbctl.toml").write_text(
        '[apps.named]\nprofile = "named.toml"\n[apps.named.databases]\nchat = "chat.db"\n'
        '[apps.named.backup]\nrepository = "backups"\n'
    )
    path = tmp_path / "chat.db"
    backup = create_app_backup(path, compress=form)
    assert [member.file for member in backup.members] == [expected]
    apply_restore(path)
    assert flashpoint_app.read_all_rows(path) == {"t": []}


def test_compressed_backups_are_listed_with_stored_size(deployed):
    create_app_backup(deployed)
    last = create_app_backup(deployed)
    newest = list_all_backups(deployed).page.items[0]
    assert newest.bytes == find_backup_file(deployed, last).stat().st_size < deployed.stat().st_size / 2
    with open_prune(deployed, last=1) as operation:
        assert operation.apply().freed_bytes > 0
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [last.id]


# Damaged and invalid files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(DECOMPRESS_COMMANDS))
@pytest.mark.parametrize("deep", [False, True])
def test_damaged_file_is_reported_and_not_restored(deployed, form, deep):
    backup = create_app_backup(deployed, compress=form)
    promptvault_app.change_data(deployed)
    before = promptvault_app.read_content(deployed)
    file = find_backup_file(deployed, backup)
    complete = file.read_bytes()
    half = len(complete) // 2
    flipped = complete[:half] + bytes([complete[half] ^ 4]) + complete[half + 1 :]
    for damaged in (flipped, complete[:-1], complete[:half], b"", complete + b"\0"):
        file.write_bytes(damaged)
        findings = verify_backups(deployed, deep=deep)
        assert list_codes(findings) == ["file-changed"]
        assert file.name in findings.findings[0].message
        assert file.name in str(catch_error(BackupCorruptError, lambda: apply_restore(deployed)))
    assert promptvault_app.read_content(deployed) == before
    assert has_no_temp_files(deployed)


def replace_member(path, backup, data, **changes):
    """Replace the content of the only member, with a matching manifest."""
    file = find_backup_file(path, backup)
    file.write_bytes(data)
    size, sha256 = len(data), hashlib.sha256(data).hexdigest()
    change_manifest(path, backup, bytes=size, sha256=sha256, **changes)


def test_decompression_beyond_manifest_size_is_rejected(deployed):
    backup = create_app_backup(deployed)
    replace_member(deployed, backup, gzip.compress(bytes(32 << 20), 1))
    before = promptvault_app.read_content(deployed)
    assert list_codes(verify_backups(deployed, deep=True)) == ["corrupt"]
    assert "more than the" in str(catch_error(BackupCorruptError, lambda: apply_restore(deployed)))
    assert promptvault_app.read_content(deployed) == before
    assert has_no_temp_files(deployed)


def test_oversized_manifest_is_rejected_before_decompression(deployed):
    backup = create_app_backup(deployed)
    replace_member(deployed, backup, find_backup_file(deployed, backup).read_bytes(), plain_bytes=1 << 52)
    catch_error(InsufficientSpaceError, lambda: verify_backups(deployed, deep=True))
    catch_error(InsufficientSpaceError, lambda: apply_restore(deployed))
    assert list_codes(verify_backups(deployed, deep=False)) == []


def test_compressed_file_without_database_is_invalid(deployed):
    backup = create_app_backup(deployed)
    text = gzip.compress(b"no database" * 1000)
    replace_member(deployed, backup, text, plain_bytes=11_000)
    assert list_codes(verify_backups(deployed, deep=True)) == ["not-a-database"]
    catch_error(BackupCorruptError, lambda: apply_restore(deployed))


# Temporary files -------------------------------------------------------------------------------------------------


def test_temporary_files_are_private_and_removed(deployed):
    backup = create_app_backup(deployed)
    leftover = find_backup_folder(deployed, backup).parent / f"{TEMP_PREFIX}leftover"
    leftover.mkdir(mode=0o700)
    (leftover / "user.db").write_text("x")
    with promptvault_app.open_repository(deployed) as (app, repository):
        manifest = repository.find(backup.id)
        with member_files.open_reader(repository.store, promptvault_app.create_keys(app)) as member_reader:
            plain = member_reader.decode(manifest, manifest.members[0], "fp/user")
            assert not leftover.exists()
            assert oct(plain.parent.stat().st_mode)[-3:] + oct(plain.stat().st_mode)[-3:] == "700600"
            assert [item.id for item in list_all_backups(deployed).page.items] == [backup.id]
            assert not list_all_backups(deployed).incomplete
            same = member_reader.decode(manifest, manifest.members[0], "fp/user")
            assert same == plain  # the verified file is the loaded file
            create_app_backup(deployed)
            assert plain.exists()  # files in use are not removed
    assert has_no_temp_files(deployed)
    leftover.mkdir(mode=0o700)
    create_app_backup(deployed)
    assert has_no_temp_files(deployed)


def test_unwritable_repository_uses_temporary_folder(deployed, monkeypatch, tmp_path):
    create_app_backup(deployed)
    paths = []
    real = compression.decompress_file
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(
        compression,
        "decompress_file",
        lambda source, path, *args, **kwargs: (paths.append(path), real(source, path, *args, **kwargs))[1],
    )
    assert list_codes(verify_backups(deployed)) == []
    assert [path.parent.parent for path in paths] == [tmp_path]
    assert has_no_temp_files(deployed)


@pytest.mark.parametrize("operation", [verify_backups, apply_restore])
def test_full_temporary_disk_is_not_reported_as_damage(deployed, monkeypatch, operation):
    create_app_backup(deployed)
    before = promptvault_app.read_content(deployed)

    def raise_no_space(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full_disk:  # undo() would restore the temporary folder of all tests
        full_disk.setattr("dbctl.files.atomic.NewFile.write", raise_no_space)
        catch_error(DiskFullError, lambda: operation(deployed))
    assert promptvault_app.read_content(deployed) == before
    assert list_codes(verify_backups(deployed)) == []
    assert has_no_temp_files(deployed)


def test_compression_requires_space_for_both_copies(deployed, monkeypatch):
    size = deployed.stat().st_size
    monkeypatch.setattr("dbctl.files.mounts.free_space", lambda _path: size + size // 5)
    assert create_app_backup(deployed, compress="none").complete
    catch_error(InsufficientSpaceError, lambda: create_app_backup(deployed))
    assert len(list_all_backups(deployed).page.items) == 1


def test_failed_compression_leaves_no_backup(deployed, monkeypatch):
    complete = create_app_backup(deployed)

    def fail(*_args, **_options):
        raise DiskFullError(target="tests")

    monkeypatch.setattr("dbctl.files.compression.compress_file", fail)
    catch_error(DiskFullError, lambda: create_app_backup(deployed))
    monkeypatch.undo()
    assert [backup.id for backup in list_all_backups(deployed).page.items] == [complete.id]
    assert not list_all_backups(deployed).incomplete


def test_every_configurable_compression_is_tested():
    assert set(codecs.SUFFIXES) == set(SUFFIXES)
