"""Backups: whole, proven, private, and never pruned to nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl import model
from dbctl.config import Keep
from dbctl.errors import (
    BackupFailedError,
    BackupMissingError,
    BackupUnsoundError,
    BusyError,
    CorruptError,
    DatabaseMissingError,
    DbctlError,
    Exit,
    NotSupportedError,
    PlanChangedError,
    ProfileInvalidError,
    ReadOnlyError,
    RepositoryFailedError,
    RepositoryMissingError,
    RepositoryUnreadError,
    RepositoryUnsafeError,
    RepositoryUnsetError,
    RetentionUnsetError,
)
from dbctl.profiles import loader
from dbctl.services.backup import create as backup_create
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import prune, verify
from dbctl.services.backup.prune import Candidate
from tests.services import flashpoint_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import (
    codes,
    create,
    file_of,
    folder_of,
    listed,
    pruning,
    settle,
    verified,
)
from tests.shapes import flashpoint_web

SHAPES = ("document", "deployed", "larder")


@pytest.fixture(params=SHAPES)
def path(request, tmp_path):
    return settle(tmp_path / "app", request.param)


@pytest.fixture
def deployed(tmp_path):
    return settle(tmp_path / "app", "deployed")


def at(monkeypatch, moment):
    """Let the clock stand at ``moment``."""
    monkeypatch.setattr(backup_create, "now", lambda: moment)


# Made ------------------------------------------------------------------------------------------------------------


def test_a_backup_holds_every_row_and_opens_without_dbctl(path):
    made = create(path)
    assert flashpoint_app.content(promptvault_app.plain_of(path, made)) == flashpoint_app.content(path)
    (member,) = made.members
    told = flashpoint_app.content(path)
    told.pop("sqlite_sequence", None)
    assert member.rows == {name: len(rows) for name, rows in told.items()}


def test_rows_that_stand_only_in_the_wal_are_in_the_backup(deployed):
    with closing(sqlite3.connect(deployed, isolation_level=None)) as app:
        app.execute("pragma wal_autocheckpoint = 0")
        app.execute("update users set email = 'wal@example.org' where username = 'ann'")
        assert deployed.with_name("user.db-wal").stat().st_size
        made = create(deployed)
    found = flashpoint_app.rows(
        promptvault_app.plain_of(deployed, made), "select email from users where username = 'ann'"
    )
    assert found == [("wal@example.org",)]


def test_trap_a_copy_of_a_file_in_wal_mode_grows_a_wal_of_its_own_where_it_is_opened_so_it_leaves_that_mode(
    deployed,
):
    made = create(deployed)
    plain = promptvault_app.plain_of(deployed, made)
    flashpoint_app.rows(plain, "select count(*) from users")
    assert list(plain.parent.glob(f"{plain.name}*")) == [plain]
    assert {one.name for one in folder_of(deployed, made).iterdir()} == {
        made.members[0].file,
        "manifest.json",
    }
    assert made.members[0].facts["journal_mode"] == "wal"


def test_trap_a_journal_that_comes_back_after_a_power_cut_rolls_a_finished_copy_back_to_nothing(
    deployed, monkeypatch
):
    """So none is beside the copy when it is synced, and its folder is synced before the manifest is written."""
    events, real = [], os.fsync

    def fsync(descriptor):
        synced = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - a path in /proc
        events.append(synced)
        if synced.suffix == ".gz":
            assert [one.name for one in synced.parent.glob(f"{synced.name}*")] == [synced.name]
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    made = create(deployed)
    copy, folder = file_of(deployed, made), folder_of(deployed, made)
    manifest = next(one for one in events if ".manifest.json." in one.name)
    assert events.index(copy) < events.index(manifest)
    assert folder in events[events.index(copy) : events.index(manifest)]
    assert folder in events[events.index(manifest) :]


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_trap_what_sqlite_and_gzip_write_anybody_may_read_so_a_backup_is_private_whatever_the_umask(
    deployed, mask
):
    before = os.umask(mask)
    try:
        made = create(deployed)
    finally:
        os.umask(before)
    root = deployed.with_name("backups")
    for one in [root, *root.rglob("*")]:
        assert stat.S_IMODE(one.lstat().st_mode) == (0o700 if one.is_dir() else 0o600), one
    assert made.complete


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_that_root_makes_in_the_folder_of_another_user_belongs_to_that_user(deployed):
    os.chown(deployed.parent, 65534, 65533)
    create(deployed)
    create(deployed)
    verified(deployed)
    repository = deployed.with_name("backups")
    made = [repository, *repository.rglob("*")]
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in made} == {(65534, 65533)}
    assert {path.name for path in made} >= {"manifest.json", "verified.json", ".dbctl-lock"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_in_the_repository_of_somebody_else_is_theirs(deployed):
    repository = deployed.with_name("backups")
    repository.mkdir(mode=0o700)
    os.chown(repository, 65534, 65534)
    create(deployed)
    promptvault_app.apply(deployed)
    made = list(repository.rglob("*"))
    assert len(made) == 8  # the app's folder, its lock, and two backups of a manifest and a file
    assert {(one.stat().st_uid, one.stat().st_gid) for one in made} == {(65534, 65534)}


def test_the_file_is_called_as_the_profile_says(deployed):
    made = create(deployed)
    assert made.members[0].file == f"user_{made.id}.db.gz"


def test_two_backups_of_one_second_have_two_names_and_their_order(deployed, monkeypatch):
    at(monkeypatch, datetime(2026, 5, 1, 12, tzinfo=UTC))
    first, second = create(deployed), create(deployed)
    assert (first.id, second.id) == ("20260501_120000", "20260501_120001")
    assert [one.id for one in listed(deployed).page.items] == [second.id, first.id]


def test_a_clock_set_back_is_told_and_the_latest_stays_the_last_one_made(deployed, monkeypatch):
    at(monkeypatch, datetime(2026, 5, 2, tzinfo=UTC))
    create(deployed)
    at(monkeypatch, datetime(2020, 1, 1, tzinfo=UTC))
    made = create(deployed)
    assert "the clock (2020-01-01 00:00) is behind" in made.remarks[0]
    with promptvault_app.opened(deployed) as (_app, repository):
        assert repository.find("latest").id == made.id == "20200101_000000"


def beside_the_launcher(folder):
    """Put an app into ``folder`` that has a database of another program, too; return the path of its own."""
    path = settle(folder, "deployed")
    flashpoint_web.launcher_flashpoint_db(path.with_name("flashpoint.sqlite"))
    text = path.with_name("dbctl.toml").read_text()
    path.with_name("dbctl.toml").write_text(
        text.replace('user = "user.db"', 'user = "user.db"\nflashpoint = "flashpoint.sqlite"')
    )
    return path


def test_the_database_of_another_program_is_left_out_and_said_to_be(tmp_path):
    path = beside_the_launcher(tmp_path / "app")
    made = create(path)
    assert [one.database for one in made.members] == ["user"]
    assert "the Flashpoint Launcher" in made.left_out[0].reason
    asked = create(path, only="flashpoint")
    assert [one.database for one in asked.members] == ["flashpoint"]
    before = path.with_name("flashpoint.sqlite").read_bytes()
    refused = caught(ReadOnlyError, lambda: promptvault_app.apply(path, asked.id))
    assert "belongs to the Flashpoint Launcher" in str(refused)
    assert path.with_name("flashpoint.sqlite").read_bytes() == before


def settle_one(folder, more=""):
    """Put an app of one database into ``folder``, of whose tables its profile says nothing; return its path."""
    flashpoint_app.run(folder / "one.db", "create table t (x)")
    (folder / "p.toml").write_text(
        f'schema = "dbctl.profile/1"\nname = "p"\ntitle = "P"\n[databases.one]\nengines = ["sqlite"]\n{more}'
    )
    (folder / "dbctl.toml").write_text(
        '[apps.p]\nprofile = "p.toml"\n[apps.p.databases]\none = "one.db"\n[apps.p.backup]\nrepository = "backups"\n'
    )
    return folder / "one.db"


def test_an_emptied_database_does_not_become_the_latest_backup(tmp_path):
    path = settle_one(tmp_path)
    made = create(path)
    path.write_bytes(b"")
    error = caught(BackupFailedError, lambda: create(path))
    assert "it holds no table" in str(error)
    assert [one.id for one in listed(path).page.items] == [made.id]
    promptvault_app.apply(path)
    assert "t" in flashpoint_app.content(path)


def test_an_app_whose_databases_are_all_left_out_gets_no_empty_backup(tmp_path):
    path = settle_one(tmp_path, 'backup = false\nowner = "another"\n')
    error = caught(NotSupportedError, lambda: create(path))
    assert "--db one takes it" in error.hint
    assert not (tmp_path / "backups").exists()


def test_a_damaged_database_makes_no_backup_and_leaves_nothing(deployed):
    whole = create(deployed)
    raw = bytearray(deployed.read_bytes())
    for page in range(3, len(raw) // 4096):  # all b-tree pages behind the schema
        raw[page * 4096 + 1 : page * 4096 + 8] = b"\xff" * 7
    deployed.write_bytes(raw)
    with pytest.raises((BackupFailedError, CorruptError)):
        create(deployed)
    assert [one.id for one in listed(deployed).page.items] == [whole.id]
    assert not listed(deployed).incomplete


def test_rows_that_break_a_rule_of_the_app_are_backed_up_as_they_are(deployed):
    with closing(sqlite3.connect(deployed)) as connection, connection:
        connection.execute("pragma ignore_check_constraints = on")
        connection.execute("update system_settings set data_type = 'nonsense' where id = 1")
    made = create(deployed)
    assert codes(verified(deployed, made.id)) == []


def test_a_missing_database_makes_no_backup(deployed):
    deployed.unlink()
    caught(DatabaseMissingError, lambda: create(deployed))
    assert not any(deployed.with_name("backups").rglob("manifest.json"))


# The repository --------------------------------------------------------------------------------------------------


def test_without_a_repository_it_says_what_to_write(tmp_path):
    path = flashpoint_app.settle(tmp_path / "app", "document")
    error = caught(RepositoryUnsetError, lambda: create(path))
    assert "[apps.fp.backup]" in error.hint


def test_a_repository_whose_parent_is_missing_is_not_made_for_that_may_be_a_disk_not_mounted(deployed):
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('"backups"', '"mnt/disk/backups"'))
    caught(RepositoryFailedError, lambda: create(deployed))
    assert not deployed.with_name("mnt").exists()


@pytest.mark.parametrize("address", ["~nobody-of-that-name/backups", "back\\u0000ups", "ftp://host/backups"])
def test_an_address_that_leads_nowhere_is_a_mistake_of_the_configuration(deployed, address):
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace('"backups"', f'"{address}"'))
    assert caught(DbctlError, lambda: create(deployed)).exit_status == Exit.USAGE


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722])
@pytest.mark.parametrize("name", ["backups", "backups/fp"])
def test_a_repository_that_others_may_write_is_refused(deployed, mode, name):
    place = deployed.parent / name
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o700)
    place.chmod(mode)
    caught(RepositoryUnsafeError, lambda: create(deployed))
    assert list(place.iterdir()) == []


def test_a_repository_may_be_a_link_and_the_folder_of_an_app_may_not(deployed):
    elsewhere = deployed.with_name("disk")
    elsewhere.mkdir(mode=0o700)
    deployed.with_name("backups").symlink_to(elsewhere)
    create(deployed)
    (elsewhere / "fp").rename(elsewhere / "kept")
    (elsewhere / "fp").symlink_to(elsewhere / "kept")
    caught(RepositoryFailedError, lambda: create(deployed))


def test_a_file_in_the_place_of_the_repository_is_told(deployed):
    deployed.with_name("backups").write_text("")
    assert "not a directory" in str(caught(RepositoryFailedError, lambda: create(deployed)))


def test_a_second_dbctl_waits_for_the_first_and_then_says_who_it_is(deployed):
    create(deployed)
    with (
        promptvault_app.opened(deployed) as (_app, repository),
        repository.store.lock("backup create", timeout=0),
    ):
        error = caught(BusyError, lambda: create(deployed, timeout=0))
    assert f"pid {os.getpid()}" in str(error)


def test_an_app_may_be_called_whatever_a_configuration_likes(deployed):
    file = deployed.with_name("dbctl.toml")
    file.write_text(file.read_text().replace("apps.fp", 'apps."../../x"'))
    create(deployed)
    assert [one.name for one in deployed.with_name("backups").iterdir()] == ["%2E%2E%2F%2E%2E%2Fx"]


def test_a_repository_that_is_gone_or_empty_does_not_verify(deployed):
    caught(RepositoryMissingError, lambda: verified(deployed))
    caught(RepositoryMissingError, lambda: listed(deployed))
    deployed.with_name("backups").mkdir(mode=0o700)
    assert listed(deployed).page.items == []
    assert codes(verified(deployed)) == ["no-backup"]


# Found -----------------------------------------------------------------------------------------------------------


def test_a_folder_without_a_manifest_is_no_backup(deployed):
    made = create(deployed)
    (folder_of(deployed, made) / "manifest.json").unlink()
    (folder_of(deployed, made) / ".dbctl-incomplete").touch()
    assert listed(deployed).page.items == []
    assert listed(deployed).incomplete == [made.id]
    caught(BackupMissingError, lambda: promptvault_app.apply(deployed))


def test_a_mark_that_a_kill_left_in_a_whole_backup_goes_with_the_next_one(deployed):
    made = create(deployed)
    mark = folder_of(deployed, made) / ".dbctl-incomplete"
    mark.touch()
    assert [one.id for one in listed(deployed).page.items] == [made.id]
    create(deployed)
    assert not mark.exists()
    assert codes(verified(deployed)) == []


def test_a_folder_that_somebody_else_made_is_left_alone(deployed):
    create(deployed)
    other = folder_of(deployed, "20200101_000000")
    other.mkdir()
    (other / "by-hand.db").write_text("x")
    with pruning(deployed, last=1) as work:
        work.apply()
    assert (other / "by-hand.db").exists()


def test_listing_while_another_dbctl_prunes_misses_nothing_that_stays(deployed):
    made = create(deployed)
    root, done = folder_of(deployed, made).parent, threading.Event()

    def come_and_go():
        while not done.is_set():
            for second in range(20):
                shutil.copytree(root / made.id, root / f"20010101_0000{second:02}")
            for second in range(20):
                shutil.rmtree(root / f"20010101_0000{second:02}")

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(200):
            assert made.id in [one.id for one in listed(deployed).page.items]
    finally:
        done.set()
        other.join()


def test_a_backup_that_another_dbctl_prunes_while_it_is_verified_is_no_damage(deployed):
    gone, stays = create(deployed), create(deployed)
    with promptvault_app.opened(deployed) as (app, repository):
        checked = verify.verify(
            app,
            repository,
            (),
            deep=False,
            keys=promptvault_app.keys_of(app),
            advance=lambda _bytes: shutil.rmtree(folder_of(deployed, gone), ignore_errors=True),
        )
    assert (codes(checked.findings), checked.remarks) == ([], [f"{gone.id} was pruned meanwhile"])
    assert [one.id for one in listed(deployed).page.items] == [stays.id]


@pytest.mark.parametrize("where", ["fifo", "link", "folder", "huge", *(["closed"] if os.geteuid() else [])])
def test_one_manifest_that_cannot_be_read_hides_no_other_backup_and_stops_no_new_one(deployed, where):
    bad, good = create(deployed), create(deployed)
    manifest = folder_of(deployed, bad) / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    if where == "fifo":  # which would be waited for
        os.mkfifo(manifest)
    elif where == "link":
        (deployed.parent / "elsewhere").write_text(text)
        manifest.symlink_to(deployed.parent / "elsewhere")
    elif where == "folder":
        manifest.mkdir()
    elif where == "huge":
        with manifest.open("wb") as file:
            file.truncate(1 << 30)
    else:
        folder_of(deployed, bad).chmod(0)
    told = listed(deployed)
    assert ([one.id for one in told.page.items], told.unread) == ([good.id], [bad.id])
    assert codes(verified(deployed)) == ["manifest-unread"]
    assert create(deployed).complete


@pytest.mark.parametrize("kind", ["link", "fifo", "naive", "early"])
def test_a_planted_remark_is_neither_followed_nor_waited_for_nor_believed(deployed, kind):
    made = create(deployed)
    note, victim = folder_of(deployed, made) / "verified.json", deployed.parent / "victim"
    victim.write_text("precious")
    if kind == "link":
        note.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(note)
    else:
        at = "2999-01-01T00:00:00" if kind == "naive" else "0001-01-01T00:00:00+14:00"
        note.write_text(json.dumps({"at": at}))
    assert listed(deployed).page.items[0].verified_at == made.verified_at
    assert codes(verified(deployed)) == []
    assert listed(deployed).page.items[0].verified_at > made.verified_at
    assert victim.read_text() == "precious"
    assert stat.S_IMODE(note.lstat().st_mode) == 0o600


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
def test_a_manifest_that_nobody_could_count_on_is_refused_and_stops_no_new_backup(deployed, changes):
    made = create(deployed)
    manifest = folder_of(deployed, made) / "manifest.json"
    told = json.dumps(json.loads(manifest.read_text())["backup"] | changes)
    seal = hashlib.sha256(told.encode()).hexdigest()
    manifest.write_text(f'{{"schema":"dbctl.backup/1","sha256":"{seal}","backup":{told}}}\n')
    assert listed(deployed).unread == [made.id]
    assert create(deployed).complete


@pytest.mark.parametrize("kind", ["hard link", "fifo"])
def test_a_planted_lock_file_is_not_written_over(deployed, kind):
    made = create(deployed)
    lock, victim = folder_of(deployed, made).parent / ".dbctl-lock", deployed.parent / "victim"
    victim.write_text("precious " * 99)
    lock.unlink()
    if kind == "fifo":
        os.mkfifo(lock)
    else:
        os.link(victim, lock)
    error = caught(RepositoryFailedError, lambda: create(deployed))
    assert "not a file of its own" in str(error)
    assert victim.read_text() == "precious " * 99


def test_the_latest_of_one_database_is_the_newest_that_holds_it(tmp_path):
    path = beside_the_launcher(tmp_path / "app")
    made = create(path)
    create(path, only="flashpoint")
    with promptvault_app.opened(path, only="user") as (_app, repository):
        assert repository.find("latest").id == made.id


def test_an_id_that_is_nearly_one_is_answered_with_it(deployed):
    made = create(deployed)
    error = caught(BackupMissingError, lambda: promptvault_app.apply(deployed, made.id[:-1]))
    assert made.id in error.hint


# Verified --------------------------------------------------------------------------------------------------------


def test_a_sound_backup_verifies_and_the_moment_is_kept(path):
    made = create(path)
    assert codes(verified(path)) == []
    assert listed(path).page.items[0].verified_at >= made.verified_at


@pytest.mark.parametrize("deep", [False, True])
def test_every_flipped_bit_of_the_file_is_found(deployed, deep):
    made = create(deployed)
    file = file_of(deployed, made)
    whole = file.read_bytes()
    for place in range(0, len(whole), len(whole) // 40):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        assert codes(verified(deployed, made.id, deep=deep)) == ["file-changed"]


def test_where_the_only_manifest_cannot_be_read_the_latest_is_not_said_to_be_missing(deployed):
    bad = create(deployed)
    (folder_of(deployed, bad) / "manifest.json").write_text("none")
    with promptvault_app.opened(deployed) as (_app, repository):
        error = caught(BackupUnsoundError, lambda: repository.find("latest"))
    assert error.facts["id"] == bad.id


def test_every_flipped_bit_of_the_manifest_is_found(deployed):
    made = create(deployed)
    manifest = folder_of(deployed, made) / "manifest.json"
    whole = manifest.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        with pytest.raises(backup_manifest.ManifestInvalidError):
            backup_manifest.read(bytes(changed))
    manifest.write_bytes(whole[:-40])
    assert codes(verified(deployed)) == ["manifest-unread"]
    caught(BackupUnsoundError, lambda: promptvault_app.apply(deployed, made.id))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b"null", b'{"schema": "dbctl.backup/1"}']
)
def test_what_is_no_manifest_is_told(text):
    with pytest.raises(backup_manifest.ManifestInvalidError):
        backup_manifest.read(text)


@pytest.mark.parametrize("name", ["../user.db", "/etc/passwd", "..", "a/b", ""])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(deployed, name):
    with promptvault_app.opened(deployed) as (_app, repository):
        create(deployed)
        manifest = repository.find("latest")
        member = msgspec.structs.replace(manifest.members[0], file=name)
        text = backup_manifest.written(msgspec.structs.replace(manifest, members=[member]))
    with pytest.raises(backup_manifest.ManifestInvalidError):
        backup_manifest.read(text.encode())


def test_a_backup_cut_off_missing_or_swapped_is_told(deployed):
    first, second = create(deployed), create(deployed)
    flashpoint_app.run(deployed, "delete from user_settings")
    third = create(deployed)
    file_of(deployed, first).write_bytes(file_of(deployed, first).read_bytes()[:-1])
    file_of(deployed, second).unlink()
    file_of(deployed, third).write_bytes(deployed.read_bytes()[:-4096] + b"\0" * 4096)
    found = verified(deployed)
    assert sorted(codes(found)) == ["file-changed", "file-changed", "file-missing"]
    assert found.unsound


def test_a_manifest_in_the_wrong_folder_is_told(deployed):
    first = create(deployed)
    folder_of(deployed, first).rename(folder_of(deployed, "20300101_000000"))
    assert codes(verified(deployed)) == ["manifest-unread"]


def test_a_backup_of_another_app_is_foreign_and_not_restored(tmp_path):
    theirs = settle(tmp_path / "larder", "larder")
    ours = settle(tmp_path / "app", "deployed")
    shutil.rmtree(folder_of(ours, create(ours)))
    made = create(theirs)
    folder_of(theirs, made).rename(folder_of(ours, made))
    assert "backup-foreign" in codes(verified(ours))
    caught(BackupMissingError, lambda: promptvault_app.apply(ours, made.id, only="user"))


def test_a_file_that_does_not_belong_to_a_backup_is_told(deployed):
    made = create(deployed)
    (folder_of(deployed, made) / "notes.txt").write_text("mine")
    found = verified(deployed)
    assert [(one.severity, one.code) for one in found.findings] == [("warning", "file-unknown")]


def test_deep_tells_what_a_digest_cannot_a_dump_that_was_never_what_its_manifest_says(deployed):
    made = create(deployed)
    with promptvault_app.opened(deployed) as (_app, repository):
        manifest = repository.find(made.id)
        member = msgspec.structs.replace(manifest.members[0], rows={**manifest.members[0].rows, "users": 99})
        changed = msgspec.structs.replace(manifest, members=[member])
    (folder_of(deployed, made) / "manifest.json").write_text(backup_manifest.written(changed))
    assert codes(verified(deployed, deep=False)) == []
    assert codes(verified(deployed, deep=True)) == ["rows-differ"]


def test_a_schema_that_is_told_otherwise_today_is_a_warning_and_the_backup_can_be_restored(deployed):
    made = create(deployed)
    with promptvault_app.opened(deployed) as (_app, repository):
        manifest = repository.find(made.id)
        member = msgspec.structs.replace(manifest.members[0], schema="0" * 64)
        changed = msgspec.structs.replace(manifest, members=[member])
    (folder_of(deployed, made) / "manifest.json").write_text(backup_manifest.written(changed))
    assert [(one.severity, one.code) for one in verified(deployed).findings] == [
        ("warning", "schema-differs")
    ]
    assert promptvault_app.apply(deployed, made.id).backup == made.id


def test_reading_a_backup_leaves_nothing_in_it(deployed):
    made = create(deployed)
    before = {one.name: one.read_bytes() for one in folder_of(deployed, made).iterdir()}
    verified(deployed)
    after = {one.name: one.read_bytes() for one in folder_of(deployed, made).iterdir()}
    assert json.loads(after.pop("verified.json"))["verified_at"]
    assert after == before


# Pruned ----------------------------------------------------------------------------------------------------------


def test_without_a_rule_nothing_is_pruned(deployed):
    create(deployed)
    with pytest.raises(RetentionUnsetError), pruning(deployed):
        pass


def test_a_repository_that_is_gone_is_not_made_to_be_pruned(deployed):
    with pruning(deployed, last=1) as work:
        caught(RepositoryMissingError, work.apply)
    assert not deployed.with_name("backups").exists()


def test_pruning_keeps_what_the_rules_say_and_tells_why(deployed, monkeypatch):
    for day in range(1, 6):
        for hour in (1, 2):
            at(monkeypatch, datetime(2026, 5, day, hour, tzinfo=UTC))
            create(deployed)
    with pruning(deployed, daily=3, last=2) as work:
        plan = work.plan()
        assert plan.destructive
        done = work.apply(plan.digest)
    assert [one.id for one in done.kept] == [
        "20260505_020000",
        "20260505_010000",
        "20260504_020000",
        "20260503_020000",
    ]
    assert done.kept[0].reasons == ["the newest", "one of the last 2", "daily"]
    assert len(done.deleted) == 6
    assert [one.id for one in listed(deployed).page.items] == [one.id for one in done.kept]
    assert codes(verified(deployed)) == []


def test_the_newest_of_each_database_stays_whatever_the_rules_say(deployed):
    made = create(deployed)
    with pruning(deployed, within="1s") as work:
        assert work.apply().deleted == []
    assert [one.id for one in listed(deployed).page.items] == [made.id]


def test_a_damaged_backup_does_not_push_out_a_sound_one(deployed):
    sound, damaged = create(deployed), create(deployed)
    file_of(deployed, damaged).write_bytes(b"cut off")
    with pruning(deployed, last=1) as work:
        done = work.apply()
    assert done.deleted == []
    assert {one.id: one.reasons for one in done.kept}[damaged.id] == ["damaged: see dbctl backup verify"]
    assert file_of(deployed, sound).exists()


def test_the_newest_whole_one_stays_where_the_newest_is_cut_off_and_others_go(deployed):
    old, whole, cut = create(deployed), create(deployed), create(deployed)
    raw = file_of(deployed, cut).read_bytes()
    file_of(deployed, cut).write_bytes(raw[:-1])
    with pruning(deployed, last=1) as work:
        done = work.apply()
    assert done.deleted == [old.id]
    assert {one.id: one.reasons[0] for one in done.kept}[whole.id] == "the newest"


def test_what_verify_has_found_damaged_does_not_count_though_it_is_as_long_as_it_was(deployed):
    sound, damaged = create(deployed), create(deployed)
    raw = file_of(deployed, damaged).read_bytes()
    file_of(deployed, damaged).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert codes(verified(deployed)) == ["file-changed"]
    with pruning(deployed, last=1) as work:
        assert work.apply().deleted == []
    file_of(deployed, damaged).write_bytes(raw)
    assert codes(verified(deployed)) == []
    with pruning(deployed, last=1) as work:
        assert work.apply().deleted == [sound.id]


def test_the_plan_tells_of_each_database_how_many_newer_ones_stay(tmp_path):
    path = beside_the_launcher(tmp_path / "app")
    first = create(path, only="flashpoint")
    create(path, only="flashpoint")
    with pruning(path, last=1) as work:
        (step, *_) = work.plan().steps
    assert step.startswith(f"delete {first.id} (")
    assert step.endswith("no rule keeps it; newer ones that stay: 1 of flashpoint")


def test_what_was_made_before_the_clock_was_set_back_is_not_taken_for_newer(deployed, monkeypatch):
    at(monkeypatch, datetime(2026, 5, 2, tzinfo=UTC))
    ahead = create(deployed)
    at(monkeypatch, datetime(2020, 1, 1, tzinfo=UTC))
    made = create(deployed)
    with pruning(deployed, last=1) as work:
        assert work.apply().deleted == [ahead.id]
    assert [one.id for one in listed(deployed).page.items] == [made.id]


def test_what_another_dbctl_is_making_now_is_not_removed(deployed):
    made = create(deployed)
    with (
        promptvault_app.opened(deployed) as (_app, repository),
        repository.store.lock("backup create", timeout=1),
    ):
        folder = folder_of(deployed, made).with_name("20991231_235959")
        folder.mkdir()
        (folder / ".dbctl-incomplete").touch()
        with pruning(deployed, last=1) as work:
            caught(BusyError, work.apply)
        assert folder.exists()


def test_without_a_rule_of_the_configuration_that_of_the_profile_counts(tmp_path, monkeypatch):
    (tmp_path / "app").mkdir()
    with closing(sqlite3.connect(tmp_path / "app/vault.db")) as app, app:
        app.execute("create table t (x)")
    config = tmp_path / "app/dbctl.toml"
    profile = 'schema = "dbctl.profile/1"\nname = "v"\ntitle = "V"\n[databases.main]\nengines = ["sqlite"]\n'
    (tmp_path / "app/v.toml").write_text(profile + '[backup]\nkeep = { within = "30d" }\n')
    text = '[apps.v]\nprofile = "v.toml"\n[apps.v.databases]\nmain = "vault.db"\n[apps.v.backup]\nrepository = "backups"\n'
    config.write_text(text)
    at(monkeypatch, datetime(2026, 5, 1, tzinfo=UTC))
    old = create(config)
    at(monkeypatch, datetime(2026, 5, 2, tzinfo=UTC))
    create(config)
    at(monkeypatch, datetime(2026, 5, 31, 12, tzinfo=UTC))
    create(config)
    monkeypatch.setattr(model, "now", lambda: datetime(2026, 5, 31, 13, tzinfo=UTC))
    with pruning(config) as work:
        assert work.apply().deleted == [old.id]
    config.write_text(text + "keep = { last = 1 }\n")
    with pruning(config) as work:
        assert len(work.apply().deleted) == 1


def test_a_rule_of_a_profile_that_is_no_length_of_time_is_refused(tmp_path):
    file = tmp_path / "wrong.toml"
    file.write_text(
        'schema = "dbctl.profile/1"\nname = "v"\ntitle = "V"\n[databases.main]\nengines = ["sqlite"]\n'
        '[backup]\nkeep = { within = "a month" }\n'
    )
    assert "no length of time" in str(caught(ProfileInvalidError, lambda: loader.load(str(file))))


def test_nothing_is_pruned_where_a_manifest_cannot_be_read(deployed):
    first, *_ = create(deployed), create(deployed), create(deployed)
    (folder_of(deployed, first) / "manifest.json").write_text("{")
    with pruning(deployed, last=1) as work:
        caught(RepositoryUnreadError, work.apply)
    assert len(listed(deployed).page.items) == 2


def test_what_was_cut_off_is_removed(deployed):
    made, cut = create(deployed), create(deployed)
    (folder_of(deployed, cut) / "manifest.json").unlink()
    (folder_of(deployed, cut) / ".dbctl-incomplete").touch()
    with pruning(deployed, last=5) as work:
        assert work.apply().leftovers == [cut.id]
    assert not folder_of(deployed, cut).exists()
    assert file_of(deployed, made).exists()


def test_room_can_be_made_where_there_is_none_for_one_more_file(deployed, monkeypatch):
    old, new = create(deployed), create(deployed)
    really = os.open

    def full(path, flags, *more, **words):
        if flags & os.O_CREAT and not Path(path).exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return really(path, flags, *more, **words)

    monkeypatch.setattr(os, "open", full)
    with pruning(deployed, last=1) as work:
        assert work.apply().deleted == [old.id]
    monkeypatch.undo()
    assert [one.id for one in listed(deployed).page.items] == [new.id]
    assert not folder_of(deployed, old).exists()


def test_an_agreed_plan_that_is_another_one_now_is_not_carried_out(deployed):
    create(deployed)
    create(deployed)
    with pruning(deployed, last=1) as work:
        digest = work.plan().digest
        create(deployed)
        caught(PlanChangedError, lambda: work.apply(digest))
    assert len(listed(deployed).page.items) == 3


MOMENTS = st.datetimes(datetime(2019, 1, 1), datetime(2027, 1, 1)).map(lambda one: one.replace(tzinfo=UTC))  # noqa: DTZ001


@given(
    st.lists(st.tuples(MOMENTS, st.sets(st.sampled_from("abc"), min_size=1)), min_size=1, max_size=40),
    st.builds(
        Keep,
        last=st.integers(0, 3),
        hourly=st.integers(0, 3),
        daily=st.integers(0, 3),
        weekly=st.integers(0, 3),
        monthly=st.integers(0, 3),
        yearly=st.integers(0, 3),
        within=st.sampled_from(["", "1s", "40d"]),
    ),
)
def test_whatever_the_rules_every_series_keeps_its_newest_and_as_many_as_a_rule_asks_for(told, keep):
    told.sort(key=lambda one: one[0], reverse=True)
    candidates = [
        Candidate(id=str(number), at=moment, series=sorted(names))
        for number, (moment, names) in enumerate(told)
    ]
    stay = prune.reasons(candidates, keep)
    for name in {name for one in candidates for name in one.series}:
        members = [one for one in candidates if name in one.series]
        assert members[0].id in stay
        assert sum(one.id in stay for one in members) >= min(keep.last, len(members))
        days = list(dict.fromkeys(one.at.date() for one in members))
        assert {one.at.date() for one in members if one.id in stay} >= set(days[: keep.daily])
        if keep.within:
            lasting = timedelta(seconds=1) if keep.within == "1s" else timedelta(days=40)
            assert all(one.id in stay for one in members if one.at >= model.now() - lasting)
