"""``restore apply --to``: copies into other databases; existing data is replaced only with ``--replace``."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dbctl import signals
from dbctl.config import loader
from dbctl.engines.sqlite.replace_content import ContentReplacer
from dbctl.errors.backup import BackupCorruptError, TargetIsSourceError, TargetNotEmptyError
from dbctl.errors.connection import FileFailedError, FileMissingError, InsufficientSpaceError
from dbctl.errors.usage import NotSupportedError, UrlInvalidError
from dbctl.files import atomic, mounts
from dbctl.services.backup import member_files
from dbctl.services.restore.copy import CopyRestore
from tests import databases, rewriting_proxy, servers
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import catch_error
from tests.services.promptvault_app import apply_restore, create_app_backup
from tests.services.restore.test_apply import stop  # noqa: F401


@pytest.fixture(params=larder_app.KINDS)
def pantry(request, tmp_path):
    with larder_app.open_pantry(request.param, tmp_path / "app") as app:
        yield app


@pytest.fixture
def empty_database(pantry, tmp_path):
    """An empty database of the same engine; for SQLite, the path of a missing file."""
    with databases.empty_database(pantry.engine, tmp_path / "copy.db") as database:
        yield database


def create_copy(pantry, *to, name="latest", **options):
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        urls = loader.parse_urls(to, pantry.path.parent)
        return CopyRestore(promptvault_app.open_source(repository, name), urls, **options).apply()


def plan_copy(pantry, to):
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        urls = loader.parse_urls([to], pantry.path.parent)
        repository.find("latest")
        return CopyRestore(promptvault_app.open_source(repository), urls, replace=True).plan()


def read_copy(result):
    """Return the content of the copy, opened with the URL in the command of the result."""
    return databases.from_url(result.command.split("=", 1)[1].strip("'")).content()


def test_copy_contains_every_row_and_does_not_change_the_app(pantry, empty_database):
    before = pantry.content()
    backup = create_app_backup(pantry.path)
    pantry.change_data()
    changed_content = pantry.content()
    result = create_copy(pantry, empty_database.url)
    assert read_copy(result) == before
    assert pantry.content() == changed_content
    (database,) = result.databases
    assert (result.backup, database.rows, database.tables) == (
        backup.id,
        sum(map(len, before.values())),
        len(before),
    )
    # No safety backup is created if nothing is replaced.
    assert promptvault_app.list_all_backups(pantry.path).page.total == 1


@pytest.mark.parametrize("pantry", ["sqlite"], indirect=True)
def test_disk_of_the_copy_without_space_is_refused(pantry, tmp_path, monkeypatch):
    create_app_backup(pantry.path)
    real, folder = mounts.free_space, tmp_path / "small"
    folder.mkdir()
    monkeypatch.setattr(mounts, "free_space", lambda path: 1 if path == folder else real(path))
    catch_error(InsufficientSpaceError, lambda: create_copy(pantry, str(folder / "copy.db")))
    assert list(folder.glob("copy.db*")) == []


def test_copy_creates_a_missing_database(pantry, empty_database):
    before = pantry.content()
    create_app_backup(pantry.path)
    if pantry.engine != "sqlite":
        empty_database.destroy()
    result = create_copy(pantry, f"pantry={empty_database.url}")
    assert result.databases[0].strategy == "new"
    assert read_copy(result) == before


@pytest.mark.parametrize("pantry", ["postgresql"], indirect=True)
def test_copy_names_the_options_that_its_commands_lack(pantry, empty_database):
    create_app_backup(pantry.path)
    result = create_copy(pantry, f"{empty_database.url}?application_name=x")
    assert [remark.rpartition(": ")[2] for remark in result.remarks] == ["application_name"]


def test_non_empty_target_requires_replace(pantry, empty_database):
    before = pantry.content()
    create_app_backup(pantry.path)
    empty_database.run("create table existing (a integer)")
    catch_error(TargetNotEmptyError, lambda: create_copy(pantry, empty_database.url))
    assert empty_database.tables() == ["existing"]
    result = create_copy(pantry, empty_database.url, replace=True)
    assert read_copy(result) == before


@pytest.mark.parametrize("pantry", ["sqlite"], indirect=True)
@pytest.mark.parametrize("step", ["install", "_overwrite"])
def test_signal_after_the_commit_of_a_file_does_not_hide_the_copy(
    pantry,
    empty_database,
    stop,  # noqa: F811
    monkeypatch,
    step,
):
    before, commit = pantry.content(), getattr(ContentReplacer, step)
    create_app_backup(pantry.path)
    if step == "_overwrite":
        empty_database.run("create table existing (a integer)")

    def commit_and_stop(replacer, *arguments):
        commit(replacer, *arguments)
        stop()

    monkeypatch.setattr(ContentReplacer, step, commit_and_stop)
    result = create_copy(pantry, empty_database.url, replace=True)
    assert signals.pending_signal()
    assert read_copy(result) == before


def test_copy_into_a_schema_with_another_name_is_refused(pantry, empty_database):
    if pantry.engine != "postgresql":
        pytest.skip("databases of this engine have one schema")
    create_app_backup(pantry.path)
    empty_database.run("create schema other")
    empty_database.run("create table other.existing (a integer)")
    address = f"{empty_database.url.split('?')[0]}?schema=other"
    catch_error(NotSupportedError, lambda: create_copy(pantry, address, replace=True))
    empty_database.run("drop table other.existing")  # fails if the table does not exist


@pytest.mark.parametrize("pantry", ["postgresql", "mysql"], indirect=True)
def test_copy_whose_connection_ends_before_the_replaced_database_is_dropped_is_complete(
    pantry, empty_database
):
    end = {"postgresql": b"select pg_terminate_backend(pg_backend_pid())", "mysql": b"kill connection_id()"}
    drops = []

    def end_session(sql):
        if not sql.startswith(b"drop database if exists"):
            return sql
        drops.append(sql)
        return end[pantry.engine]

    before = pantry.content()
    create_app_backup(pantry.path)
    create_copy(pantry, empty_database.url)
    with rewriting_proxy.open_proxy(empty_database.own, end_session) as (_proxy, url):
        create_copy(pantry, url, replace=True)
        assert drops
    assert empty_database.content() == before


def test_copy_never_replaces_system_databases(pantry):
    names = {"mysql": ["mysql", "SYS"], "postgresql": ["template1"]}.get(pantry.engine, [])
    create_app_backup(pantry.path)
    connection, _, options = pantry.url.partition("?")
    for name in names:
        address = f"{connection.rsplit('/', 1)[0]}/{name}" + (f"?{options}" if options else "")
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


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
def test_copy_with_the_name_of_a_log_of_the_live_file_is_refused(tmp_path, suffix):
    with larder_app.open_pantry("sqlite", tmp_path / "app") as pantry:
        create_app_backup(pantry.path)
        catch_error(NotSupportedError, lambda: create_copy(pantry, f"{pantry.path}{suffix}", replace=True))
        assert suffix == "-shm" or not os.path.lexists(f"{pantry.path}{suffix}")


def test_log_of_a_deleted_file_is_content_of_the_destination(tmp_path):
    with larder_app.open_pantry("sqlite", tmp_path / "app") as pantry:
        create_app_backup(pantry.path)
        log = tmp_path / "copy.db-wal"
        log.write_bytes(b"rows of a file that was deleted")
        catch_error(TargetNotEmptyError, lambda: create_copy(pantry, str(tmp_path / "copy.db")))
        assert log.read_bytes()
        result = create_copy(pantry, str(tmp_path / "copy.db"), replace=True)
        assert not os.path.lexists(log)
        assert read_copy(result) == pantry.content()


def test_damaged_backup_is_not_copied(pantry, empty_database):
    backup = create_app_backup(pantry.path)
    file = promptvault_app.find_backup_file(pantry.path, backup)
    file.write_bytes(file.read_bytes()[:-1])
    catch_error(BackupCorruptError, lambda: create_copy(pantry, empty_database.url))
    assert pantry.engine == "sqlite" or empty_database.tables() == []


def test_copy_requires_the_same_engine_and_an_existing_parent_of_its_folder(pantry, tmp_path):
    create_app_backup(pantry.path)
    other = "mysql://x@127.0.0.1/x" if pantry.engine == "sqlite" else "copy.db"
    catch_error(NotSupportedError, lambda: create_copy(pantry, other))
    if pantry.engine == "sqlite":
        catch_error(FileMissingError, lambda: create_copy(pantry, str(tmp_path / "no/such/copy.db")))


def test_missing_folder_is_in_the_plan_and_created_with_the_copy(tmp_path):
    with larder_app.open_pantry("sqlite", tmp_path / "app") as pantry:
        create_app_backup(pantry.path)
        copy = tmp_path / "new" / "copy.db"
        assert f"create the directory {copy.parent}, which is missing" in plan_copy(pantry, str(copy)).steps
        assert not copy.parent.exists()
        create_copy(pantry, str(copy))
        assert copy.is_file()


def test_target_that_is_not_a_regular_file_is_refused(tmp_path):
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
            with promptvault_app.open_repository(path) as (_app, repository):
                source = promptvault_app.open_source(repository)
                to = loader.parse_urls([str(folder / name)], path.parent)
                error = catch_error(
                    NotSupportedError,
                    lambda: CopyRestore(source, to, replace=replace),  # noqa: B023
                )
            assert name in str(error)
    assert sorted(folder.iterdir()) == before


def test_database_name_longer_than_the_limit_is_refused(tmp_path):
    """PostgreSQL truncates names to 63 bytes, so the copy would be written to another database."""
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
    result = apply_restore(pantry.path)
    if pantry.engine == "sqlite":
        assert (
            create_copy(pantry, empty_database.url, name=result.safety_backup).backup == result.safety_backup
        )
        return
    with promptvault_app.open_repository(pantry.path) as (_app, repository):
        (member,) = repository.find(result.safety_backup).members
    if member.form == "kept":
        catch_error(
            NotSupportedError, lambda: create_copy(pantry, empty_database.url, name=result.safety_backup)
        )
        assert promptvault_app.undo_restore(pantry.path).databases[0].strategy == "swapped"


@pytest.mark.parametrize("form", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("other_disk", [False, True])
def test_decompressed_file_is_moved_or_copied_to_the_target(tmp_path, form, other_disk):
    """A decompressed file is moved if it is on the disk of the target, otherwise copied; an uncompressed backup is copied."""
    places = (Path(name) for name in ("/dev/shm", "/tmp", "/var/tmp"))  # noqa: S108
    other_disks = (
        place for place in places if place.is_dir() and place.stat().st_dev != tmp_path.stat().st_dev
    )
    disk = next(other_disks, None) if other_disk else tmp_path
    if disk is None:
        pytest.skip("this system has no second file system")
    with larder_app.open_pantry("sqlite", tmp_path / "app") as pantry, TemporaryDirectory(dir=disk) as folder:
        before, target = pantry.content(), Path(folder) / "copy.db"
        create_app_backup(pantry.path, compress=form)
        for _ in range(2):  # the second copy uses the same backup
            assert read_copy(create_copy(pantry, str(target), replace=True)) == before
            assert (target.stat().st_nlink, stat.S_IMODE(target.stat().st_mode)) == (1, 0o600)
            assert [item.name for item in target.parent.iterdir() if ".partial" in item.name] == []
            target.unlink()
        assert promptvault_app.list_codes(promptvault_app.verify_backups(pantry.path, deep=True)) == []


def test_copy_that_was_not_synced_is_not_renamed(tmp_path, monkeypatch):
    """The kernel reports a write error only once: a second fsync of the file succeeds."""
    path = promptvault_app.create_app(tmp_path / "app", "deployed")
    create_app_backup(path)
    real_sync, calls = atomic.sync_file, []

    def sync(file):
        if not calls:
            calls.append(file)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real_sync(file)

    monkeypatch.setattr(member_files, "sync_file", sync)
    with promptvault_app.open_repository(path) as (_app, repository):
        urls = loader.parse_urls(["copy.db"], path.parent)
        operation = CopyRestore(promptvault_app.open_source(repository), urls)
        catch_error(FileFailedError, operation.apply)
        assert not [
            item for item in path.parent.iterdir() if item.name == "copy.db" or "partial" in item.name
        ]
        operation.apply()
    assert promptvault_app.read_content(path.with_name("copy.db")) == promptvault_app.read_content(path)
    assert calls


def test_copy_of_tables_that_the_search_path_distinguishes(answer, tmp_path, monkeypatch):
    """The destination has another search path, in which the same name is that of the other table."""
    monkeypatch.chdir(tmp_path)
    with (
        servers.postgresql_database(encoding="UTF8") as first,
        servers.postgresql_database(encoding="UTF8") as second,
    ):
        source, copy = databases.PostgreSQL(first), databases.PostgreSQL(second)
        source.run(
            "create schema app",
            "create table app.t (id integer primary key, a text)",
            "create table public.t (id integer primary key)",
            "insert into app.t values (1, 'a')",
            "insert into public.t values (7)",
            f'alter database "{first.path}" set search_path to app, public',
        )
        Path("app.toml").write_text(
            'schema = "dbctl.profile/1"\nname = "shop"\ntitle = "Shop"\n'
            '[databases.main]\nengines = ["postgresql"]\n'
        )
        answer("init", "./app.toml", ".", "--app", "shop", "--url", f"main={source.url}")
        answer("backup", "create")
        answer("restore", "apply", "latest", "--to", f"main={copy.url}")
        with servers.connection(second) as connection:
            rows = connection.execute("select a, (select id from public.t) from app.t").fetchall()
    assert rows == [("a", 7)]
