"""``restore apply --to``: copies into other databases, which never replace existing ones without permission."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dbctl.config import loader
from dbctl.errors import (
    BackupCorruptError,
    FileFailedError,
    FileMissingError,
    NotSupportedError,
    TargetIsSourceError,
    TargetNotEmptyError,
    UrlInvalidError,
)
from dbctl.files import atomic
from dbctl.services.backup import reader
from dbctl.services.restore.copy import CopyRestore
from tests import databases
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import apply_restore, create_app_backup


@pytest.fixture(params=larder_app.PLACES)
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as created:
        yield created


@pytest.fixture
def empty_database(pantry, tmp_path):
    """An empty database of the same engine; for SQLite, the path of a missing file."""
    with databases.nothing_yet(pantry.engine, tmp_path / "copy.db") as created:
        yield created


def create_copy(pantry, *to, name="latest", **options):
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        places = loader.parse_urls(to, pantry.path.parent)
        return CopyRestore(
            app,
            repository,
            repository.find(name),
            places,
            promptvault_app.create_keys(app),
            timeout=5,
            **options,
        ).apply()


def plan_copy(pantry, to):
    with promptvault_app.open_repository(pantry.path) as (app, repository):
        places = loader.parse_urls([to], pantry.path.parent)
        manifest = repository.find("latest")
        return CopyRestore(
            app, repository, manifest, places, promptvault_app.create_keys(app), replace=True, timeout=5
        ).plan()


def read_copy(done):
    """Return the content of the copy, opened with the command of the result."""
    return databases.of(done.command.split("=", 1)[1].strip("'")).content()


def test_copy_contains_every_row_and_app_is_unchanged(pantry, empty_database):
    before = pantry.content()
    backup = create_app_backup(pantry.path)
    pantry.spoil()
    spoiled = pantry.content()
    done = create_copy(pantry, empty_database.url)
    assert read_copy(done) == before
    assert pantry.content() == spoiled
    (database,) = done.databases
    assert (done.backup, database.rows, database.tables) == (
        backup.id,
        sum(map(len, before.values())),
        len(before),
    )
    assert (
        promptvault_app.list_all_backups(pantry.path).page.total == 1
    )  # no safety backup: nothing was replaced


def test_copy_creates_a_missing_database(pantry, empty_database):
    before = pantry.content()
    create_app_backup(pantry.path)
    if pantry.engine != "sqlite":
        empty_database.destroy()
    done = create_copy(pantry, f"pantry={empty_database.url}")
    assert done.databases[0].strategy == "new"
    assert read_copy(done) == before


def test_non_empty_target_requires_replace(pantry, empty_database):
    before = pantry.content()
    create_app_backup(pantry.path)
    empty_database.run("create table mine (a integer)")
    catch_error(TargetNotEmptyError, lambda: create_copy(pantry, empty_database.url))
    assert empty_database.tables() == ["mine"]
    done = create_copy(pantry, empty_database.url, replace=True)
    assert read_copy(done) == before


def test_copy_into_a_schema_of_another_name_is_refused(pantry, empty_database):
    if pantry.engine != "postgresql":
        pytest.skip("there a database is one schema")
    create_app_backup(pantry.path)
    empty_database.run("create schema apart")
    empty_database.run("create table apart.theirs (a integer)")
    address = f"{empty_database.url.split('?')[0]}?schema=apart"
    catch_error(NotSupportedError, lambda: create_copy(pantry, address, replace=True))
    empty_database.run("drop table apart.theirs")  # it is still there


def test_copy_never_replaces_system_databases(pantry):
    names = {"mysql": ["mysql", "SYS"], "postgresql": ["template1"]}.get(pantry.engine, [])
    create_app_backup(pantry.path)
    own, _, options = pantry.url.partition("?")
    for name in names:
        address = f"{own.rsplit('/', 1)[0]}/{name}" + (f"?{options}" if options else "")
        catch_error(NotSupportedError, lambda to=address: plan_copy(pantry, to))


def test_copy_into_the_live_database_is_refused(pantry):
    create_app_backup(pantry.path)
    before = pantry.content()
    catch_error(TargetIsSourceError, lambda: create_copy(pantry, pantry.url, replace=True))
    if "127.0.0.1" in pantry.url:
        catch_error(
            TargetIsSourceError,
            lambda: create_copy(pantry, pantry.url.replace("127.0.0.1", "localhost"), replace=True),
        )
    assert pantry.content() == before


def test_damaged_backup_is_not_copied(pantry, empty_database):
    backup = create_app_backup(pantry.path)
    file = promptvault_app.find_backup_file(pantry.path, backup)
    file.write_bytes(file.read_bytes()[:-1])
    catch_error(BackupCorruptError, lambda: create_copy(pantry, empty_database.url))
    assert pantry.engine == "sqlite" or empty_database.tables() == []


def test_copy_requires_the_same_engine_and_an_existing_folder(pantry, tmp_path):
    create_app_backup(pantry.path)
    other = "mysql://x@127.0.0.1/x" if pantry.engine == "sqlite" else "copy.db"
    catch_error(NotSupportedError, lambda: create_copy(pantry, other))
    if pantry.engine == "sqlite":
        catch_error(FileMissingError, lambda: create_copy(pantry, str(tmp_path / "nowhere" / "copy.db")))


def test_target_that_is_no_regular_file_is_refused(tmp_path):
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    create_app_backup(path)
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "null").symlink_to("/dev/null")
    before = sorted(folder.iterdir())
    for name in ("folder", "pipe", "null"):
        for replace in (False, True):
            with promptvault_app.open_repository(path) as (app, repository):
                manifest, keys = repository.find("latest"), promptvault_app.create_keys(app)
                to = loader.parse_urls([str(folder / name)], path.parent)
                error = catch_error(
                    NotSupportedError,
                    lambda: CopyRestore(app, repository, manifest, to, keys, replace=replace, timeout=1),  # noqa: B023 - called at once
                )
            assert name in str(error)
    assert sorted(folder.iterdir()) == before


def test_name_longer_than_the_server_allows_is_refused(tmp_path):
    """PostgreSQL truncates names to 63 bytes: the copy would go to a database with a shorter name."""
    with larder_app.open_pantry("postgresql", tmp_path / "app") as pantry:
        create_app_backup(pantry.path)
        databases = set(pantry.databases())
        for name in (f"{pantry.own.path}{'x' * 63}", f"{pantry.own.path}{'é' * 24}"):
            url = f"{pantry.url.rpartition('/')[0]}/{name}"
            error = catch_error(UrlInvalidError, lambda url=url: create_copy(pantry, url))
            assert "63 bytes" in str(error)
        assert set(pantry.databases()) == databases


def test_retained_database_cannot_be_copied(pantry, empty_database):
    create_app_backup(pantry.path)
    done = apply_restore(pantry.path)
    if pantry.engine == "sqlite":
        assert create_copy(pantry, empty_database.url, name=done.safety_backup).backup == done.safety_backup
        return
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        (member,) = repository.find(done.safety_backup).members
    if member.form == "kept":
        catch_error(
            NotSupportedError, lambda: create_copy(pantry, empty_database.url, name=done.safety_backup)
        )
        assert promptvault_app.undo_restore(pantry.path).databases[0].strategy == "swapped"


@pytest.mark.parametrize("form", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("other_disk", [False, True])
def test_decompressed_file_becomes_the_copy(tmp_path, form, other_disk):
    """On the disk of the backups the file is moved, on another disk it is copied; a plain backup is always copied."""
    disk = Path("/dev/shm") if other_disk else tmp_path  # noqa: S108 - a separate disk
    if not disk.is_dir():
        pytest.skip("this system has no disk in memory there")
    with larder_app.open_pantry("sqlite", tmp_path / "app") as pantry, TemporaryDirectory(dir=disk) as folder:
        before, target = pantry.content(), Path(folder) / "copy.db"
        create_app_backup(pantry.path, compress=form)
        for _ in range(2):  # the second time from the same backup
            assert read_copy(create_copy(pantry, str(target), replace=True)) == before
            assert (target.stat().st_nlink, stat.S_IMODE(target.stat().st_mode)) == (1, 0o600)
            assert [item.name for item in target.parent.iterdir() if ".partial" in item.name] == []
            target.unlink()
        assert promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path, deep=True)) == []


def test_copy_that_was_not_synced_is_not_renamed(tmp_path, monkeypatch):
    """The kernel reports a write error only once: a second fsync of the file succeeds."""
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    create_app_backup(path)
    real, calls = atomic.sync_file, []

    def sync(file):
        if not calls:
            calls.append(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(reader, "sync_file", sync)
    with promptvault_app.open_repository(path) as (app, repository):
        places = loader.parse_urls(["copy.db"], path.parent)
        work = CopyRestore(
            app, repository, repository.find("latest"), places, promptvault_app.create_keys(app), timeout=5
        )
        catch_error(FileFailedError, work.apply)
        assert not [
            item for item in path.parent.iterdir() if item.name == "copy.db" or "partial" in item.name
        ]
        work.apply()
    assert promptvault_app.read_content(path.with_name("copy.db")) == promptvault_app.read_content(path)
    assert calls
