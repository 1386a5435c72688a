"""Copies of a backup beside the app's own databases: new, whole, and never in the place of anything."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dbctl.config import loader
from dbctl.errors import (
    BackupUnsoundError,
    CopyFilledError,
    CopyOntoOwnError,
    FileFailedError,
    FileMissingError,
    NotSupportedError,
    UrlInvalidError,
)
from dbctl.files import atomic
from dbctl.services.backup import reader
from dbctl.services.restore.copy import Copying
from tests import databases
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import caught
from tests.services.promptvault_app import apply, create


@pytest.fixture(params=larder_app.PLACES)
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        yield made


@pytest.fixture
def beside(pantry, tmp_path):
    """An empty database of the same engine; of a file, its place."""
    with databases.nothing_yet(pantry.engine, tmp_path / "copy.db") as made:
        yield made


def copied(pantry, *to, name="latest", **more):
    with promptvault_app.opened(pantry.path) as (app, repository):
        places = loader.given(to, pantry.path.parent)
        return Copying(
            app, repository, repository.find(name), places, promptvault_app.keys_of(app), timeout=5, **more
        ).apply()


def plan_of(pantry, to):
    with promptvault_app.opened(pantry.path) as (app, repository):
        places = loader.given([to], pantry.path.parent)
        manifest = repository.find("latest")
        return Copying(
            app, repository, manifest, places, promptvault_app.keys_of(app), replace=True, timeout=5
        ).plan()


def held_at(done):
    """Return what the copy holds that an answer tells how to use."""
    return databases.of(done.use.split("=", 1)[1].strip("'")).content()


def test_a_copy_holds_every_row_and_the_app_is_as_it_was(pantry, beside):
    before = pantry.content()
    made = create(pantry.path)
    pantry.spoil()
    spoiled = pantry.content()
    done = copied(pantry, beside.url)
    assert held_at(done) == before
    assert pantry.content() == spoiled
    (one,) = done.databases
    assert (done.backup, one.rows, one.tables) == (made.id, sum(map(len, before.values())), len(before))
    assert promptvault_app.listed(pantry.path).page.total == 1  # no safety backup: nothing was replaced


def test_a_copy_is_made_where_no_database_is(pantry, beside):
    before = pantry.content()
    create(pantry.path)
    if pantry.engine != "sqlite":
        beside.destroy()
    done = copied(pantry, f"pantry={beside.url}")
    assert done.databases[0].way == "new"
    assert held_at(done) == before


def test_what_holds_a_table_is_left_alone_unless_it_may_go(pantry, beside):
    before = pantry.content()
    create(pantry.path)
    beside.run("create table mine (a integer)")
    caught(CopyFilledError, lambda: copied(pantry, beside.url))
    assert beside.tables() == ["mine"]
    done = copied(pantry, beside.url, replace=True)
    assert held_at(done) == before


def test_a_copy_never_empties_one_schema_to_fill_another(pantry, beside):
    if pantry.engine != "postgresql":
        pytest.skip("there a database is one schema")
    create(pantry.path)
    beside.run("create schema apart")
    beside.run("create table apart.theirs (a integer)")
    address = f"{beside.url.split('?')[0]}?schema=apart"
    caught(NotSupportedError, lambda: copied(pantry, address, replace=True))
    beside.run("drop table apart.theirs")  # it is still there


def test_a_copy_never_takes_the_place_of_what_is_the_servers_own(pantry):
    names = {"mysql": ["mysql", "SYS"], "postgresql": ["template1"]}.get(pantry.engine, [])
    create(pantry.path)
    own, _, options = pantry.url.partition("?")
    for name in names:
        address = f"{own.rsplit('/', 1)[0]}/{name}" + (f"?{options}" if options else "")
        caught(NotSupportedError, lambda to=address: plan_of(pantry, to))


def test_a_copy_never_goes_into_the_apps_own_database(pantry):
    create(pantry.path)
    before = pantry.content()
    caught(CopyOntoOwnError, lambda: copied(pantry, pantry.url, replace=True))
    if "127.0.0.1" in pantry.url:
        caught(
            CopyOntoOwnError,
            lambda: copied(pantry, pantry.url.replace("127.0.0.1", "localhost"), replace=True),
        )
    assert pantry.content() == before


def test_a_damaged_backup_makes_no_copy(pantry, beside):
    made = create(pantry.path)
    file = promptvault_app.file_of(pantry.path, made)
    file.write_bytes(file.read_bytes()[:-1])
    caught(BackupUnsoundError, lambda: copied(pantry, beside.url))
    assert pantry.engine == "sqlite" or beside.tables() == []


def test_a_copy_goes_to_its_own_engine_alone_and_into_a_folder_that_is_there(pantry, tmp_path):
    create(pantry.path)
    other = "mysql://x@127.0.0.1/x" if pantry.engine == "sqlite" else "copy.db"
    caught(NotSupportedError, lambda: copied(pantry, other))
    if pantry.engine == "sqlite":
        caught(FileMissingError, lambda: copied(pantry, str(tmp_path / "nowhere" / "copy.db")))


def test_what_is_no_regular_file_is_refused_and_nothing_is_laid_beside_it(tmp_path):
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    create(path)
    place = tmp_path / "odd"
    place.mkdir()
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    (place / "null").symlink_to("/dev/null")
    before = sorted(place.iterdir())
    for name in ("folder", "pipe", "null"):
        for replace in (False, True):
            with promptvault_app.opened(path) as (app, repository):
                manifest, keys = repository.find("latest"), promptvault_app.keys_of(app)
                to = loader.given([str(place / name)], path.parent)
                error = caught(
                    NotSupportedError,
                    lambda: Copying(app, repository, manifest, to, keys, replace=replace, timeout=1),  # noqa: B023 - called at once
                )
            assert "no regular file" in str(error)
    assert sorted(place.iterdir()) == before


def test_a_name_that_a_server_would_cut_is_refused(tmp_path):
    """PostgreSQL keeps 63 bytes of a name: the copy would go to what another, shorter name means."""
    with larder_app.settled("postgresql", tmp_path / "app") as pantry:
        create(pantry.path)
        held = set(pantry.databases())
        for name in (f"{pantry.own.path}{'x' * 63}", f"{pantry.own.path}{'é' * 24}"):
            url = f"{pantry.url.rpartition('/')[0]}/{name}"
            error = caught(UrlInvalidError, lambda url=url: copied(pantry, url))
            assert "63 bytes" in str(error)
        assert set(pantry.databases()) == held


def test_what_a_server_keeps_for_an_undo_is_not_given_away(pantry, beside):
    create(pantry.path)
    done = apply(pantry.path)
    if pantry.engine == "sqlite":
        assert copied(pantry, beside.url, name=done.safety_backup).backup == done.safety_backup
        return
    with promptvault_app.opened(pantry.path) as (_app, repository):
        (kept_one,) = repository.find(done.safety_backup).members
    if kept_one.form == "kept":
        caught(NotSupportedError, lambda: copied(pantry, beside.url, name=done.safety_backup))
        assert promptvault_app.undo(pantry.path).databases[0].way == "swapped"


@pytest.mark.parametrize("form", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_was_unpacked_becomes_the_copy_and_the_backup_stays(tmp_path, form, elsewhere):
    """On the disk of the backups it is moved, on another one it is copied; a plain backup is always copied."""
    place = Path("/dev/shm") if elsewhere else tmp_path  # noqa: S108 - a disk of its own
    if not place.is_dir():
        pytest.skip("this system has no disk in memory there")
    with larder_app.settled("sqlite", tmp_path / "app") as pantry, TemporaryDirectory(dir=place) as folder:
        before, target = pantry.content(), Path(folder) / "copy.db"
        create(pantry.path, compress=form)
        for _ in range(2):  # the second time from the same backup
            assert held_at(copied(pantry, str(target), replace=True)) == before
            assert (target.stat().st_nlink, stat.S_IMODE(target.stat().st_mode)) == (1, 0o600)
            assert [one.name for one in target.parent.iterdir() if ".partial" in one.name] == []
            target.unlink()
        assert promptvault_app.codes(promptvault_app.verified(pantry.path, deep=True)) == []


def test_what_the_disk_lost_while_it_was_proven_never_gets_the_name(tmp_path, monkeypatch):
    """The kernel tells of it but once: whoever syncs the file again is told that all is well."""
    path = promptvault_app.settle(tmp_path / "app", "deployed")
    create(path)
    real, told = atomic.sync_file, []

    def sync(file):
        if not told:
            told.append(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(reader, "sync_file", sync)
    with promptvault_app.opened(path) as (app, repository):
        places = loader.given(["copy.db"], path.parent)
        work = Copying(
            app, repository, repository.find("latest"), places, promptvault_app.keys_of(app), timeout=5
        )
        caught(FileFailedError, work.apply)
        assert not [one for one in path.parent.iterdir() if one.name == "copy.db" or "partial" in one.name]
        work.apply()
    assert promptvault_app.content(path.with_name("copy.db")) == promptvault_app.content(path)
    assert told
