"""Backups that are packed: named as the documents name them, unpacked by anybody, and never trusted before they are proven."""

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

from dbctl.errors import (
    BackupUnsoundError,
    ConfigInvalidError,
    DiskFullError,
    NotSupportedError,
    RoomMissingError,
)
from dbctl.files import compression
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import reader
from dbctl.stores.directory import SCRATCH
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import (
    apply,
    codes,
    create,
    file_of,
    folder_of,
    listed,
    pruning,
    settle,
    undo,
    verified,
)

UNPACK = {"gzip": ["gunzip"], "zstd": ["zstd", "-q", "-d", "--rm"]}
ENDINGS = {"none": ".db", "gzip": ".db.gz", "zstd": ".db.zst"}
NAMES = """
schema = "dbctl.profile/1"
name = "named"
title = "Named"
[databases.chat]
engines = ["sqlite"]
[backup]
names = {{ chat = "{name}" }}
{more}
"""


@pytest.fixture
def deployed(tmp_path, monkeypatch):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))  # of this test alone
    return settle(tmp_path / "app", "deployed")


def configured(path, line):
    file = path.with_name("dbctl.toml")
    file.write_text(f"{file.read_text()}{line}\n")


def changed(path, made, **changes):
    """Let the manifest of a backup say something else of its file, and be sealed all the same."""
    with promptvault_app.opened(path) as (_app, repository):
        manifest = repository.find(made.id)
    member = msgspec.structs.replace(manifest.members[0], **changes)
    text = backup_manifest.written(msgspec.structs.replace(manifest, members=[member]))
    (folder_of(path, made) / "manifest.json").write_text(text)


def nothing_is_unpacked(path):
    places = [
        *path.with_name("backups").rglob(f"{SCRATCH}*"),
        *Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"),
    ]
    return places == []


# Named and made --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(ENDINGS))
def test_whatever_packs_it_a_backup_verifies_comes_back_and_is_undone(deployed, form):
    before = promptvault_app.content(deployed)
    made = create(deployed, compress=form)
    assert made.members[0].file == f"user_{made.id}{ENDINGS[form]}"
    assert {one.name for one in folder_of(deployed, made).iterdir()} == {
        made.members[0].file,
        "manifest.json",
    }
    assert codes(verified(deployed, deep=True)) == []
    promptvault_app.spoil(deployed)
    spoiled = promptvault_app.content(deployed)
    apply(deployed)
    assert promptvault_app.content(deployed) == before
    undo(deployed)
    assert promptvault_app.content(deployed) == spoiled
    deployed.unlink()
    apply(deployed, made.id)
    assert promptvault_app.content(deployed) == before
    assert nothing_is_unpacked(deployed)


@pytest.mark.parametrize("form", list(UNPACK))
def test_the_usual_program_alone_brings_the_database_back(deployed, form):
    if shutil.which(UNPACK[form][0]) is None:
        pytest.skip(f"{UNPACK[form][0]} is not installed")
    made = create(deployed, compress=form)
    file, (member,) = file_of(deployed, made), made.members
    subprocess.run([*UNPACK[form], file], check=True)
    plain = file.with_suffix("")
    assert flashpoint_app.content(plain) == flashpoint_app.content(deployed)
    assert flashpoint_app.rows(plain, "pragma integrity_check") == [("ok",)]
    assert (plain.stat().st_size, member.compress) == (member.plain_bytes, form)


def test_the_configuration_says_how_and_the_option_wins(deployed):
    configured(deployed, 'compress = "zstd"')
    assert create(deployed).members[0].compress == "zstd"
    assert create(deployed, compress="gzip").members[0].compress == "gzip"


def test_an_unknown_way_to_pack_is_a_mistake_of_the_configuration(deployed):
    configured(deployed, 'compress = "rar"')
    assert "compress" in str(caught(ConfigInvalidError, lambda: create(deployed)))


def test_a_safety_backup_is_not_packed_so_that_no_restore_waits_for_that(deployed):
    create(deployed)
    done = apply(deployed)
    with promptvault_app.opened(deployed) as (_app, repository):
        (member,) = repository.find(done.safety_backup).members
    assert (member.compress, member.file) == ("none", f"user_{done.safety_backup}.db")


@pytest.mark.parametrize(
    ("name", "more", "form", "expected"),
    [
        ("chat_{time}.sqlite", 'time = "iso"', "gzip", "chat_2026-01-02T15-04-05-000Z.sqlite.gz"),
        ("chat_{time}.sqlite", 'time = "iso"', "none", "chat_2026-01-02T15-04-05-000Z.sqlite"),
        ("chat_{time}.db.gz", "", "gzip", "chat_20260102_150405.db.gz"),
        ("chat_{time}.db.gz", "", "none", "chat_20260102_150405.db"),
        ("chat_{time}.db.gz", "", "zstd", "chat_20260102_150405.db.zst"),
        ("my chat {time}", "", "gzip", "my chat 20260102_150405.gz"),
    ],
)
def test_the_file_is_called_as_the_apps_document_calls_it_and_after_what_packs_it(
    tmp_path, monkeypatch, name, more, form, expected
):
    monkeypatch.setattr(
        "dbctl.services.backup.create.now", lambda: datetime(2026, 1, 2, 15, 4, 5, tzinfo=UTC)
    )
    flashpoint_app.run(tmp_path / "chat.db", "create table t (x)")
    (tmp_path / "named.toml").write_text(NAMES.format(name=name, more=more))
    (tmp_path / "dbctl.toml").write_text(
        '[apps.named]\nprofile = "named.toml"\n[apps.named.databases]\nchat = "chat.db"\n'
        '[apps.named.backup]\nrepository = "backups"\n'
    )
    path = tmp_path / "chat.db"
    made = create(path, compress=form)
    assert [one.file for one in made.members] == [expected]
    apply(path)
    assert flashpoint_app.content(path) == {"t": []}


def test_packed_backups_are_pruned_and_listed_with_the_room_that_they_take(deployed):
    create(deployed)
    last = create(deployed)
    told = listed(deployed).page.items[0]
    assert told.bytes == file_of(deployed, last).stat().st_size < deployed.stat().st_size / 2
    with pruning(deployed, last=1) as work:
        assert work.apply().freed_bytes > 0
    assert [one.id for one in listed(deployed).page.items] == [last.id]


# Never trusted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(UNPACK))
@pytest.mark.parametrize("deep", [False, True])
def test_a_cut_or_a_flipped_bit_is_unsound_named_and_not_restored(deployed, form, deep):
    made = create(deployed, compress=form)
    promptvault_app.spoil(deployed)
    held = promptvault_app.content(deployed)
    file = file_of(deployed, made)
    whole = file.read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([whole[half] ^ 4]) + whole[half + 1 :]
    for one in (flipped, whole[:-1], whole[:half], b"", whole + b"\0"):
        file.write_bytes(one)
        found = verified(deployed, deep=deep)
        assert codes(found) == ["file-changed"]
        assert file.name in found.findings[0].message
        assert file.name in str(caught(BackupUnsoundError, lambda: apply(deployed)))
    assert promptvault_app.content(deployed) == held
    assert nothing_is_unpacked(deployed)


def resealed(path, made, text, **more):
    """Put other content into the file of a backup, with a manifest that agrees to it."""
    file = file_of(path, made)
    file.write_bytes(text)
    size, sha256 = len(text), hashlib.sha256(text).hexdigest()
    changed(path, made, bytes=size, sha256=sha256, **more)


def test_what_unpacks_to_more_than_the_manifest_says_fills_no_disk_and_is_not_restored(deployed):
    made = create(deployed)
    resealed(deployed, made, gzip.compress(bytes(300 << 20), 9))
    held = promptvault_app.content(deployed)
    assert codes(verified(deployed, deep=True)) == ["corrupt"]
    assert "more than the" in str(caught(BackupUnsoundError, lambda: apply(deployed)))
    assert promptvault_app.content(deployed) == held
    assert nothing_is_unpacked(deployed)


def test_a_manifest_that_promises_more_than_fits_is_refused_before_anything_is_unpacked(deployed):
    made = create(deployed)
    resealed(deployed, made, file_of(deployed, made).read_bytes(), plain_bytes=1 << 52)
    caught(RoomMissingError, lambda: verified(deployed, deep=True))
    caught(RoomMissingError, lambda: apply(deployed))
    assert codes(verified(deployed, deep=False)) == []


def test_a_packed_file_that_holds_no_database_is_unsound(deployed):
    made = create(deployed)
    text = gzip.compress(b"no database" * 1000)
    resealed(deployed, made, text, plain_bytes=11_000)
    assert codes(verified(deployed, deep=True)) == ["not-a-database"]
    caught(BackupUnsoundError, lambda: apply(deployed))


# Unpacked for a moment -------------------------------------------------------------------------------------------


def test_what_is_unpacked_is_private_and_taken_away_also_when_a_killed_dbctl_left_it(deployed):
    made = create(deployed)
    left = folder_of(deployed, made).parent / f"{SCRATCH}left"
    left.mkdir(mode=0o700)
    (left / "user.db").write_text("x")
    with promptvault_app.opened(deployed) as (app, repository):
        manifest = repository.find(made.id)
        with reader.unpacking(repository.store, promptvault_app.keys_of(app)) as unpacked:
            with unpacked.opened(manifest, manifest.members[0], "fp/user") as plain:
                assert not left.exists()
                assert oct(plain.parent.stat().st_mode)[-3:] + oct(plain.stat().st_mode)[-3:] == "700600"
                assert [item.id for item in listed(deployed).page.items] == [made.id]
                assert not listed(deployed).incomplete
            with unpacked.opened(manifest, manifest.members[0], "fp/user") as again:
                assert again == plain  # what was proven is what is loaded
            create(deployed)
            assert plain.exists()  # what is in use stays
    assert nothing_is_unpacked(deployed)
    left.mkdir(mode=0o700)
    create(deployed)
    assert nothing_is_unpacked(deployed)


def test_one_who_may_not_write_there_unpacks_elsewhere(deployed, monkeypatch, tmp_path):
    create(deployed)
    unpacked = []
    real = compression.unpack
    monkeypatch.setattr(os, "access", lambda *_words, **_more: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(
        compression,
        "unpack",
        lambda source, place, *words, **more: (unpacked.append(place), real(source, place, *words, **more))[
            1
        ],
    )
    assert codes(verified(deployed)) == []
    assert [one.parent.parent for one in unpacked] == [tmp_path]
    assert nothing_is_unpacked(deployed)


@pytest.mark.parametrize("what", [verified, apply])
def test_no_room_to_unpack_says_nothing_about_the_backup(deployed, monkeypatch, what):
    create(deployed)
    held = promptvault_app.content(deployed)

    def full(*_words, **_more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dbctl.files.subprocesses.NewFile.write", full)
    caught(DiskFullError, lambda: what(deployed))
    monkeypatch.undo()
    assert promptvault_app.content(deployed) == held
    assert codes(verified(deployed)) == []
    assert nothing_is_unpacked(deployed)


def test_what_is_packed_wants_room_for_both_only_while_it_is_packed(deployed, monkeypatch):
    size = deployed.stat().st_size
    monkeypatch.setattr("dbctl.stores.local.room", lambda _place: size + size // 5)
    assert create(deployed, compress="none").complete
    caught(RoomMissingError, lambda: create(deployed))
    assert len(listed(deployed).page.items) == 1


def test_packing_that_fails_makes_no_backup_and_leaves_nothing(deployed, monkeypatch):
    whole = create(deployed)

    def fail(*_words):
        raise DiskFullError(target="tests")

    monkeypatch.setattr("dbctl.files.compression.pack", fail)
    caught(DiskFullError, lambda: create(deployed))
    monkeypatch.undo()
    assert [one.id for one in listed(deployed).page.items] == [whole.id]
    assert not listed(deployed).incomplete


def test_what_a_server_dumps_is_packed_already(monkeypatch, deployed):
    monkeypatch.setattr("dbctl.engines.sqlite.reader.SQLiteReader.packed", True)
    assert create(deployed).members[0].compress == "none"
    caught(NotSupportedError, lambda: create(deployed, compress="zstd"))


def test_every_way_to_pack_that_can_be_configured_is_known():
    assert set(compression.ENDINGS) == set(ENDINGS)
