"""Foreign backup files, which dbctl did not create: detected by content, verified, adopted and restored."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dbctl.engines import file_type
from dbctl.errors.backup import (
    AlreadyAdoptedError,
    BackupCorruptError,
    DecompressionLimitError,
    FileInvalidError,
    FileNotRestorableError,
    FileUnsafeError,
)
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, ChangedWhileReadError, FileFailedError, FileMissingError
from dbctl.errors.databases import SameFileError
from dbctl.errors.usage import UsageError, WrongAppError
from dbctl.extensions.adopt import discovery, import_file
from dbctl.extensions.adopt.adopt import AdoptBackup
from dbctl.extensions.adopt.timestamps import detect_time
from dbctl.services.backup import named_files
from dbctl.services.backup.listing import list_backups
from dbctl.services.backup.retention.prune import PruneBackups
from dbctl.services.backup.verify import VerifyBackups
from dbctl.services.restore import preview
from tests.observed_progress import observe_progress
from tests.services import promptvault_app
from tests.services.flashpoint_app import catch_error, run_statements
from tests.services.promptvault_app import (
    change_data,
    create_app,
    create_app_backup,
    list_all_backups,
    read_content,
    undo_restore,
)

BACKUP_TIME = datetime(2026, 1, 5, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def local_timezone(monkeypatch):
    """Use a local time zone other than UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path):
    return create_app(tmp_path / "app", "deployed")


@pytest.fixture
def foreign_dir(tmp_path):
    (tmp_path / "foreign").mkdir()
    return tmp_path / "foreign"


def copy_database(path, destination):
    """Copy a database as ``sqlite3 .backup`` does."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(destination)) as copy:
        source.backup(copy)
    return destination


def dump_database(path, destination):
    with closing(sqlite3.connect(path)) as source:
        destination.write_text("PRAGMA foreign_keys=OFF;\n" + "\n".join(source.iterdump()) + "\n")
    return destination


def gzip_data(data):
    return gzip.compress(data, mtime=0)


def compress_file(file, *command):
    subprocess.run([*command, "-k", file], check=True)
    return file


def write_all_formats(path, folder):
    """Write a copy of the database in every supported format."""
    plain = copy_database(path, folder / "backup_20260105_030000.db")
    text = dump_database(path, folder / "backup_20260105_030000.sql")
    for dump_file in (plain, text):
        compress_file(dump_file, "gzip")
        compress_file(dump_file, "zstd", "-q")
    joined = folder / "parts_20260105_030000.db.gz"
    half = plain.stat().st_size // 2
    joined.write_bytes(gzip_data(plain.read_bytes()[:half]) + gzip_data(plain.read_bytes()[half:]))
    return sorted(folder.iterdir())


@contextmanager
def stage_file(path, file, **options):
    with (
        promptvault_app.open_repository(path, only=options.pop("only", "")) as (app, repository),
        named_files.stage_backup(repository, file, trial=False, **options) as (staged, overlay),
    ):
        yield app, overlay, staged


def apply(path, file, *, replace=True, **options):
    """Restore a file; ``replace``: drop tables that the file does not contain."""
    with stage_file(path, file, **options) as (_app, overlay, staged):
        return promptvault_app.create_restore(overlay, staged.manifest, replace=replace).apply()


def adopt(path, *files, at=None):
    with promptvault_app.open_repository(path) as (app, repository):
        return AdoptBackup(repository, files, promptvault_app.create_keys(app), created_at=at).apply()


def verify_files(path, *files):
    with promptvault_app.open_repository(path) as (app, repository):
        keys = promptvault_app.create_keys(app)
        return VerifyBackups(repository, (), files, deep=False, keys=keys).run().findings.findings


def find_backups(path):
    with promptvault_app.open_repository(path) as (_app, repository):
        return discovery.find_foreign_backups(repository)


# Restore ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_format_is_restored_and_undone(path, foreign_dir):
    before = read_content(path)
    files = write_all_formats(path, foreign_dir)
    for file in files:
        original = file.read_bytes(), file.stat().st_mtime_ns
        change_data(path)
        changed_content = read_content(path)
        result = apply(path, file)
        assert (result.backup, result.databases[0].strategy) == (str(file), "in place")
        assert read_content(path) == before, file.name
        assert (file.read_bytes(), file.stat().st_mtime_ns) == original
    undo_restore(path)
    assert read_content(path) == changed_content
    assert sorted(foreign_dir.iterdir()) == files, "no other files are created"


def test_preview_of_file_changes_nothing(path, foreign_dir):
    file = copy_database(path, foreign_dir / "backup.db")
    change_data(path)
    changed_content = read_content(path)
    with stage_file(path, file) as (_app, overlay, staged):
        comparison = preview.preview(promptvault_app.open_source(overlay, staged.manifest))
    differences = {
        table.table: (table.current_rows, table.backup_rows)
        for table in comparison.databases[0].tables
        if table.current_rows != table.backup_rows
    }
    assert differences["user_game_plays"][0] == 0 < differences["user_game_plays"][1]
    assert read_content(path) == changed_content
    assert not path.with_name("backups").exists() or not list_all_backups(path).page.items


def test_sqlite3_text_dump_of_a_dropped_table_with_automatic_keys_is_adopted(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBCTL_STATE", "off")
    for sql in (
        "create table numbers (id integer primary key autoincrement)",
        "drop table numbers",
        "create table notes (id integer primary key)",
        "insert into notes values (7)",
    ):
        run_statements("main.db", sql)
    with Path("dump.sql").open("wb") as text:
        subprocess.run(["sqlite3", "main.db", ".dump"], stdout=text, check=True)
    assert "sqlite_sequence" in Path("dump.sql").read_text()
    Path("dbctl.toml").write_text(
        '[apps.shop]\nprofile = "plain"\ndatabases = "main.db"\n[apps.shop.backup]\nrepository = "backups"\n'
    )
    answer("backup", "adopt", "dump.sql")
    (member,) = answer("backup", "show", "latest")["data"]["members"]
    assert member["rows"] == {"notes": 1}


@pytest.mark.parametrize("is_newer", [False, True])
def test_sqlite3_text_dump_restores_full_text_table(path, foreign_dir, is_newer):
    run_statements(path, "create table numbers (id integer primary key autoincrement)")
    run_statements(path, "insert into numbers values (7)")
    run_statements(path, "create virtual table notes using fts5(body)")
    run_statements(path, "insert into notes values ('a quick fox'), ('a lazy dog')")
    file = foreign_dir / "backup_20260105.sql"
    with file.open("wb") as text:
        subprocess.run(["sqlite3", path, ".dump"], stdout=text, check=True)
    if is_newer and (content := file.read_text()).startswith(
        "PRAGMA"
    ):  # as the shell of SQLite 3.53 writes it
        sequences = "CREATE TABLE IF NOT EXISTS sqlite_sequence(name,seq);\nDELETE FROM sqlite_sequence;"
        note = "/* WARNING: Script requires that SQLITE_DBCONFIG_DEFENSIVE be disabled */\n"
        file.write_text(note + content.replace("DELETE FROM sqlite_sequence;", sequences))
    run_statements(path, "drop table notes")
    apply(path, file)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select seq from sqlite_sequence where name = 'numbers'").fetchall() == [
            (7,)
        ]
        assert connection.execute("select body from notes where notes match 'fox'").fetchall() == [
            ("a quick fox",)
        ]


def test_dump_with_json_in_constraint_is_restored(path, foreign_dir):
    # Django writes such constraints; SQLite up to 3.40 does not mark its JSON functions as harmless
    run_statements(path, "create table labels (meta text check ((json_valid(meta) or meta is null)))")
    run_statements(path, "insert into labels values ('{}')")
    dump_database(path, foreign_dir / "backup_20260105.sql")
    run_statements(path, "delete from labels")
    apply(path, foreign_dir / "backup_20260105.sql")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select meta from labels").fetchall() == [("{}",)]


def test_wal_next_to_file_is_included_with_remark(path, foreign_dir):
    run_statements(path, "pragma journal_mode = wal")
    with closing(sqlite3.connect(path)) as app:
        app.execute("pragma wal_autocheckpoint = 0")
        app.execute("update users set username = 'only-in-the-wal' where id = 1")
        app.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", foreign_dir / f"user.db.bak{suffix}")
    with stage_file(path, foreign_dir / "user.db.bak") as (_app, _overlay, staged):
        assert "user.db.bak-wal" in staged.remarks[0]
    apply(path, foreign_dir / "user.db.bak")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select username from users where id = 1").fetchall() == [
            ("only-in-the-wal",)
        ]
    assert sorted(entry.name for entry in foreign_dir.iterdir()) == ["user.db.bak", "user.db.bak-wal"]


def test_copies_that_differ_in_their_wal_alone_are_both_adopted(path, foreign_dir):
    run_statements(path, "pragma journal_mode = wal")
    with closing(sqlite3.connect(path)) as app:
        app.execute("pragma wal_autocheckpoint = 0")
        for number in (5, 6, 7):
            copy = foreign_dir / f"user_2026010{number}.db"
            shutil.copy(path, copy)
            if number > 5:
                app.execute(f"update users set username = 'name {number}' where id = 1")
                app.commit()
                shutil.copy(f"{path}-wal", f"{copy}-wal")
            adopt(path, copy)
    again = foreign_dir / "user_20260108.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{foreign_dir}/user_20260107.db{suffix}", f"{again}{suffix}")
    assert "20260107" in str(catch_error(AlreadyAdoptedError, lambda: adopt(path, again)))


def test_file_of_a_folder_is_adopted_again_once_it_was_replaced(path, foreign_dir):
    file = copy_database(path, foreign_dir / f"{path.name}.bak")
    first = adopt(path, foreign_dir).adopted
    assert [backup.source for backup in first] == [str(file)]
    assert adopt(path, foreign_dir).adopted == []
    before = file.stat()
    change_data(path)
    copy_database(path, foreign_dir / "new").rename(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as rsync does
    second = adopt(path, foreign_dir).adopted
    assert [backup.source for backup in second] == [str(file)]
    assert second[0].members[0].sha256 != first[0].members[0].sha256


def test_folder_of_other_repository_is_restored_and_adopted(path, foreign_dir):
    before = read_content(path)
    backup = create_app_backup(path)
    folder = foreign_dir / "other-repository"
    shutil.move(promptvault_app.find_backup_folder(path, backup), folder)
    change_data(path)
    apply(path, folder)
    assert read_content(path) == before
    adopted = adopt(path, folder).adopted[0]
    assert adopted.created_at == backup.created_at
    assert [member.sha256 for member in adopted.members] == [member.sha256 for member in backup.members]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    with pytest.raises(AlreadyAdoptedError):
        adopt(path, folder)


def test_copy_of_existing_backup_is_not_adopted(path, foreign_dir):
    backup = create_app_backup(path)
    shutil.copytree(promptvault_app.find_backup_folder(path, backup), foreign_dir / "copy")
    assert backup.id in str(catch_error(AlreadyAdoptedError, lambda: adopt(path, foreign_dir / "copy")))


def test_folder_with_modified_file_is_rejected(path, foreign_dir):
    backup = create_app_backup(path)
    folder = foreign_dir / "other-repository"
    shutil.move(promptvault_app.find_backup_folder(path, backup), folder)
    file = next(folder.glob("*.db.gz"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    before = read_content(path)
    with pytest.raises(BackupCorruptError, match="SHA-256"):
        apply(path, folder)
    with pytest.raises(BackupCorruptError, match="SHA-256"):
        adopt(path, folder)
    assert read_content(path) == before
    assert "file-changed" in [finding.code for finding in verify_files(path, folder)]


def test_dbctl_file_without_manifest_has_utc_time(path, foreign_dir):
    backup = create_app_backup(path)
    file = shutil.copy(promptvault_app.find_backup_file(path, backup), foreign_dir)
    with stage_file(path, Path(file)) as (_app, _overlay, staged):
        assert staged.manifest.created_at == backup.created_at.replace(microsecond=0)
        assert staged.manifest.origin.time == "its name, read as UTC"


# Rejected files -----------------------------------------------------------------------------------------------------


def assert_rejected(path, file, **options):
    before = read_content(path)
    error = catch_error(DbctlError, lambda: apply(path, file, **options))
    assert read_content(path) == before
    codes = [finding.code for finding in verify_files(path, file) if finding.severity == "error"]
    assert codes == [error.code] or isinstance(error, BusyError)
    return error


def write_file(destination, data):
    destination.write_bytes(data)
    return destination


@pytest.mark.parametrize(
    ("data", "expected", "text"),
    [
        (b"", FileInvalidError, "empty"),
        (gzip_data(b""), FileInvalidError, "empty"),
        (b"\x1f\x8b", FileInvalidError, "its end is missing"),
        (b"\x1f\x8bnot gzip data", FileInvalidError, ""),
        (b"any other content", FileNotRestorableError, "unknown type"),
        (b'{"users": []}', FileNotRestorableError, "JSON"),
        (gzip_data(b"[" * 100_000), FileNotRestorableError, "JSON"),
        (b"age-encryption.org/v1\n", FileNotRestorableError, "encrypted"),
        (b"BZh91AY", FileNotRestorableError, "unsupported format"),
        (gzip_data(gzip_data(b"x")), FileNotRestorableError, "unsupported format"),
        (b"-- PostgreSQL database cluster dump\n", FileNotRestorableError, "whole PostgreSQL server"),
        (
            b"SET default_transaction_read_only = off;\n\nCREATE ROLE app;\n",
            FileNotRestorableError,
            "whole PostgreSQL server",
        ),
        # other programs, whose dumps are read differently
        (
            b"-- HeidiSQL 12\n\n/*!40101 SET @OLD_SQL_NOTES=@@SQL_NOTES */;\n",
            FileNotRestorableError,
            "unknown type",
        ),
        (b'SET SQL_MODE = "NO_AUTO_VALUE_ON_ZERO";\n', FileNotRestorableError, "unknown type"),
        (b"CREATE TABLE `a` (b int);\n", FileNotRestorableError, "unknown type"),
        (b"SQLite format 3\0" + b"x" * 5000, FileInvalidError, ""),
        ("PRAGMA foreign_keys=OFF;\n".encode("utf-8-sig"), FileNotRestorableError, "byte order mark"),
        ("-- PostgreSQL database dump\n".encode("utf-16"), FileNotRestorableError, "byte order mark"),
        ("-- MySQL dump 10.13\n".encode("utf-8-sig"), FileNotRestorableError, "byte order mark"),
        ("[]".encode("utf-8-sig"), FileNotRestorableError, "JSON"),
    ],
    ids=[str(number) for number in range(20)],
)
def test_invalid_content_is_rejected_with_its_type(path, foreign_dir, data, expected, text):
    error = assert_rejected(path, write_file(foreign_dir / "backup_20260105.db", data))
    assert isinstance(error, expected)
    assert text in str(error)


def test_damaged_or_extended_file_is_rejected(path, foreign_dir):
    plain = copy_database(path, foreign_dir / "a.db")
    complete = gzip_data(plain.read_bytes())
    for index, data in enumerate(
        [
            complete[:-1],
            complete[: len(complete) // 2],
            complete + b"junk",
            complete + b"\0" * 600,
            complete + complete,
            complete[:-8] + bytes(8),
            plain.read_bytes()[:-1],
            plain.read_bytes()[:20_000],
        ]
    ):
        file = write_file(foreign_dir / f"{index}.db", data)
        assert [finding.code for finding in verify_files(path, file)] == ["file-invalid"], index
        assert isinstance(assert_rejected(path, file), FileInvalidError)


def test_gzip_bomb_is_limited_and_leaves_no_files(path, foreign_dir, monkeypatch):
    monkeypatch.setattr(named_files, "MIN_DECOMPRESSION_LIMIT", 1 << 18)
    bomb = write_file(foreign_dir / "backup_20260105.db.gz", gzip_data(bytes(1 << 24)))
    assert isinstance(assert_rejected(path, bomb), DecompressionLimitError)
    assert not list(path.parent.rglob(".dbctl-unpacked-*"))


def test_special_and_missing_files_are_rejected(path, foreign_dir):
    (foreign_dir / "folder").mkdir()
    os.mkfifo(foreign_dir / "pipe", 0o600)
    (foreign_dir / "dangling").symlink_to("nowhere")
    assert isinstance(assert_rejected(path, foreign_dir / "folder"), FileNotRestorableError)
    assert isinstance(assert_rejected(path, foreign_dir / "pipe"), FileFailedError)
    assert isinstance(assert_rejected(path, foreign_dir / "dangling"), FileMissingError)
    assert isinstance(assert_rejected(path, foreign_dir / "nothing"), FileMissingError)
    assert isinstance(assert_rejected(path, Path("nul\0")), FileFailedError)


def test_symlink_is_followed(path, foreign_dir):
    before = read_content(path)
    (foreign_dir / "newest").symlink_to(copy_database(path, foreign_dir / "backup_20260105.db"))
    change_data(path)
    apply(path, foreign_dir / "newest")
    assert read_content(path) == before


def test_world_writable_file_is_rejected(path, foreign_dir):
    file = copy_database(path, foreign_dir / "my backup_20260105.db")
    file.chmod(0o666)
    error = assert_rejected(path, file)
    assert isinstance(error, FileUnsafeError)
    subprocess.run(["sh", "-c", error.hint.partition("run: ")[2]], check=True)
    apply(path, file)


def test_live_database_is_rejected_by_any_path(path, foreign_dir):
    (foreign_dir / "other-name.db").symlink_to(path)
    for file in (path, foreign_dir / "other-name.db"):
        assert isinstance(catch_error(DbctlError, lambda file=file: apply(path, file)), SameFileError)


def test_file_opened_by_another_process_is_rejected(path, foreign_dir):
    file = copy_database(path, foreign_dir / "backup_20260105.db")
    with subprocess.Popen(
        ["sqlite3", file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as holder:
        holder.stdin.write("select count(*) from users;\n")
        holder.stdout.readline()
        error = catch_error(DbctlError, lambda: apply(path, file))
    assert isinstance(error, BusyError)
    assert str(holder.pid) in str(error)


def test_file_changed_while_read_is_rejected(path, foreign_dir, monkeypatch):
    file = copy_database(path, foreign_dir / "backup_20260105.db")
    decompress_import = import_file.compression.decompress_import

    def decompress_and_append(*args, **kwargs):
        result = decompress_import(*args, **kwargs)
        with file.open("ab") as output:
            output.write(b"more")
        return result

    monkeypatch.setattr(import_file.compression, "decompress_import", decompress_and_append)
    before = read_content(path)
    assert isinstance(catch_error(DbctlError, lambda: apply(path, file)), ChangedWhileReadError)
    assert read_content(path) == before


def test_database_of_another_app_is_rejected(path, foreign_dir):
    run_statements(foreign_dir / "other.db", "create table recipes (id)")
    error = assert_rejected(path, foreign_dir / "other.db")
    assert isinstance(error, WrongAppError)
    assert "users" in str(error)


@pytest.mark.parametrize(
    "name", ["we ird\n name.db", "--file=x.db", "ünïcode \u202e.db", "%s?#;$(x).db", "x" * 250]
)
def test_unusual_file_names_are_accepted(path, foreign_dir, name):
    before = read_content(path)
    file = copy_database(path, foreign_dir / "plain.db").rename(foreign_dir / name)
    change_data(path)
    apply(path, file)
    assert read_content(path) == before
    assert adopt(path, file).adopted[0].databases == ["user"]


HOSTILE = {
    "attaches another file": "ATTACH DATABASE '{evil}' AS e;",
    "vacuums into another file": "VACUUM INTO '{evil}';",
    "sets a pragma": "PRAGMA temp_store_directory = '/tmp';",
    "makes the schema writable": "PRAGMA writable_schema=ON; ATTACH '{evil}' AS e;",
    "loads code": "SELECT load_extension('{evil}');",
    "loads code in a trigger": "CREATE TRIGGER t AFTER INSERT ON users BEGIN SELECT load_extension('{evil}'); END;",
    "loads code in a view": "CREATE VIEW v AS SELECT load_extension('{evil}'); SELECT * FROM v;",
    "creates a temporary trigger": "CREATE TEMP TRIGGER t AFTER INSERT ON users BEGIN SELECT 1; END;",
    "creates a virtual table of an extension": "CREATE VIRTUAL TABLE v USING csv(filename='/etc/passwd');",
    "inserts a virtual table into the schema": "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','v','v',0,"
    "'CREATE VIRTUAL TABLE v USING zipfile(''/etc/passwd'')');",
    "updates the schema": "UPDATE sqlite_master SET sql = 'x';",
    "runs a shell command": ".open {evil}",
    "rolls back": "ROLLBACK;",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sql_dump_cannot_access_other_files(path, foreign_dir, name):
    evil = foreign_dir / "evil.db"
    text = dump_database(path, foreign_dir / "good.sql").read_text()
    begin = text.index("CREATE TABLE")
    file = foreign_dir / "backup_20260105.sql"
    file.write_text(f"{text[:begin]}{HOSTILE[name].format(evil=evil)}\n{text[begin:]}")
    assert isinstance(assert_rejected(path, file), FileInvalidError)
    assert not evil.exists()


def test_dump_marked_as_incomplete_is_rejected(path, foreign_dir):
    text = dump_database(path, foreign_dir / "good.sql").read_text()
    (foreign_dir / "bad.sql").write_text(text.replace("COMMIT;", "ROLLBACK; -- due to errors"))
    error = assert_rejected(path, foreign_dir / "bad.sql")
    assert "damaged database" in str(error)


def test_truncated_dump_is_rejected(path, foreign_dir):
    text = dump_database(path, foreign_dir / "good.sql").read_bytes().rstrip()
    for percentage in range(5, 100, 10):
        cut = write_file(foreign_dir / "cut.sql", text[: len(text) * percentage // 100])
        assert isinstance(catch_error(DbctlError, lambda cut=cut: apply(path, cut)), FileInvalidError), (
            percentage
        )


# Adoption -----------------------------------------------------------------------------------------------------------


def test_adopted_file_becomes_backup_with_the_time_in_its_name(path, foreign_dir):
    before = read_content(path)
    file = copy_database(path, foreign_dir / "backup_20260105_030000.db")
    original = file.read_bytes()
    newest = create_app_backup(path)
    (adopted,) = adopt(path, file).adopted
    assert (adopted.id, adopted.kind, adopted.created_at) == ("20260105_020000", "backup", BACKUP_TIME)
    assert adopted.time.startswith("its name, read as local time, CET")
    assert file.read_bytes() == original
    file.unlink()
    assert [backup.id for backup in list_all_backups(path).page.items] == [newest.id, adopted.id]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []
    change_data(path)
    promptvault_app.apply_restore(path, adopted.id)
    assert read_content(path) == before
    with promptvault_app.open_prune(path, last=1) as operation:
        assert isinstance(operation, PruneBackups)
        assert operation.apply().deleted == [adopted.id]


def test_adoption_creates_missing_repository(path, foreign_dir):
    file = copy_database(path, foreign_dir / "backup_20260105_030000.db")
    with promptvault_app.open_repository(path) as (app, repository):
        folder = Path(repository.store.location)
        assert not folder.parent.exists()
        operation = AdoptBackup(repository, [file], promptvault_app.create_keys(app), created_at=None)
        assert len(operation.plan().steps) == 1
        assert not folder.parent.exists(), "the plan creates nothing"
        (adopted,) = operation.apply().adopted
    assert [backup.id for backup in list_all_backups(path).page.items] == [adopted.id]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(path)) == []


def test_progress_of_an_adoption_does_not_count_its_plan(path, foreign_dir):
    file, counts = copy_database(path, foreign_dir / "backup_20260105_030000.db"), list[int]()
    with promptvault_app.open_repository(path) as (app, repository), observe_progress(counts.append):
        operation = AdoptBackup(repository, [file], promptvault_app.create_keys(app), created_at=None)
        operation.plan()
        assert not counts
        operation.apply()
    assert sum(counts) >= operation.size() > 0


def test_latest_is_determined_by_backup_time_not_by_adoption(path, foreign_dir):
    old = copy_database(path, foreign_dir / "backup_20250105.db")
    change_data(path)
    middle = copy_database(path, foreign_dir / "backup_20250301.db")
    adopt(path, middle, old)
    assert [backup.id[:8] for backup in list_all_backups(path).page.items] == ["20250228", "20250104"]
    with promptvault_app.open_repository(path) as (_app, repository):
        assert repository.find("latest").id.startswith("20250228")
    newest = create_app_backup(path)
    assert list_all_backups(path).page.items[0].id == newest.id


def test_same_content_is_adopted_only_once(path, foreign_dir):
    file = copy_database(path, foreign_dir / "backup_20260105_030000.db")
    compress_file(file, "gzip")
    adopted = adopt(path, file).adopted[0]
    for duplicate in (file, foreign_dir / "backup_20260105_030000.db.gz"):
        assert adopted.id in str(
            catch_error(AlreadyAdoptedError, lambda duplicate=duplicate: adopt(path, duplicate))
        )
    assert len(list_all_backups(path).page.items) == 1


def test_option_at_sets_time_of_one_file(path, foreign_dir):
    file = copy_database(path, foreign_dir / "user.db.bak")
    (adopted,) = adopt(path, file, at=BACKUP_TIME).adopted
    assert (adopted.id, adopted.time) == ("20260105_020000", "--at")
    with pytest.raises(UsageError):
        adopt(path, file, path, at=BACKUP_TIME)


def test_failed_adoption_leaves_no_incomplete_backup(path, foreign_dir):
    bad = write_file(foreign_dir / "bad.db", b"SQLite format 3\0" + b"x" * 5000)
    good = copy_database(path, foreign_dir / "good.db")
    with pytest.raises(FileInvalidError):
        adopt(path, good, bad)
    assert len(list_all_backups(path).page.items) == 1
    assert list_all_backups(path).incomplete == []


# Listing ------------------------------------------------------------------------------------------------------------


def test_foreign_files_are_listed_by_content(path):
    app = path.parent
    (app / "backups").mkdir(mode=0o700)
    copy_database(path, app / "backups" / "backup_20260105_030000.db")
    compress_file(app / "backups" / "backup_20260105_030000.db", "gzip")
    dump_database(path, app / "backups" / "anything.sql")
    copy_database(path, app / "user.db.bak")
    (app / "backups" / "notes.txt").write_text("no backup")
    (app / "backups" / "backup_20260106.db").write_text("invalid content")
    (app / "backups" / "link.db").symlink_to(path)
    copy_database(path, app / "unrelated.db")
    backups = {Path(backup.path).name: backup for backup in find_backups(path)}
    assert set(backups) == {
        "backup_20260105_030000.db",
        "backup_20260105_030000.db.gz",
        "anything.sql",
        "user.db.bak",
        "backup_20260106.db",
    }
    backup = backups["backup_20260105_030000.db.gz"]
    assert (backup.kind, backup.complete, backup.verified_at, backup.created_at, backup.databases) == (
        "foreign",
        False,
        None,
        BACKUP_TIME,
        ["user"],
    )
    assert backup.note.startswith("a SQLite database, compressed with gzip")
    assert backups["backup_20260106.db"].note.startswith("of an unknown type")


def test_adopted_file_is_marked_in_list(path, foreign_dir):
    file = copy_database(path, path.with_name("user.db.bak"))
    (adopted,) = adopt(path, file).adopted
    assert find_backups(path)[0].note.endswith(f"adopted as {adopted.id}")


def test_foreign_files_are_listed_after_backups(path):
    copy_database(path, path.with_name("user.db.bak"))
    backup = create_app_backup(path)
    with promptvault_app.open_repository(path) as (_app, repository):
        page = list_backups(
            repository, promptvault_app.ALL_ROWS, foreign=discovery.find_foreign_backups(repository)
        ).page
    assert [backup.kind for backup in page.items] == ["backup", "foreign"]
    assert page.items[0].id == backup.id


FILE_HEADERS = {
    "sqlite": b"SQLite format 3\0",
    "postgresql": b"--\n-- PostgreSQL database dump\n--\n",
    "json": b'{"users": []}',
    "tar": bytes(257) + b"ustar",
}
#: Backup files that the documentation of an app names: profile, databases, file, file type, databases in the file.
DOCUMENTED_NAMES = [
    ("flashpoint-web", {"user": "user.db"}, "backups/backup_20260105.db.gz", "sqlite", ["user"]),
    ("flashpoint-web", {"user": "user.db"}, "backend/backups/backup_20260105_030000.sql", "sqlite", ["user"]),
    ("flashpoint-web", {"user": "user.db"}, "user.db.bak", "sqlite", ["user"]),
    ("flashpoint-web", {"user": "user.db"}, "backups/user_20260105_030000.db.gz", "sqlite", ["user"]),
    ("promptvault", {"main": "data/promptvault.db"}, "data/promptvault.db.backup", "sqlite", ["main"]),
    ("promptvault", {"main": "data/promptvault.db"}, "backup_20260105.db", "sqlite", ["main"]),
    (
        "promptvault",
        {"main": "data/promptvault.db"},
        "backups/promptvault_20260105_030000.db.gz",
        "sqlite",
        ["main"],
    ),
    (
        "promptvault",
        {"main": "postgresql://x/y"},
        "backups/promptvault_20260105_030000.sql.gz",
        "postgresql",
        ["main"],
    ),
    ("promptvault", {"main": "data/promptvault.db"}, "data/promptvault.backup.db", "sqlite", ["main"]),
    ("waqtor", {"main": "postgresql://x/y"}, "backup_20260105_030000.sql.gz", "postgresql", ["main"]),
    ("waqtor", {"main": "postgresql://x/y"}, "users_backup.sql", "postgresql", ["main"]),
    (
        "waqtor",
        {"main": "postgresql://x/y"},
        "backups/postgres-backup-2026-01-05T02-00-00-000Z.json",
        "json",
        ["main"],
    ),
    (
        "yaai",
        {"chat": "db/chat.sqlite"},
        "backups/chat_2026-01-05T02-00-00-000Z.sqlite.gz",
        "sqlite",
        ["chat"],
    ),
    ("yaai", {"chat": "db/chat.sqlite"}, "backups/code_2026-01-05T02-00-00-000Z.sqlite", "sqlite", ["code"]),
]


@pytest.mark.parametrize(
    ("profile", "databases", "file", "kind", "expected"), DOCUMENTED_NAMES, ids=range(len(DOCUMENTED_NAMES))
)
def test_documented_backup_names_are_found(tmp_path, profile, databases, file, kind, expected):
    for name in (*databases.values(), file, "backups/x"):
        if "://" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    urls = "\n".join(f'{name} = "{url}"' for name, url in databases.items())
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.a]\nprofile = "{profile}"\n[apps.a.databases]\n{urls}\n[apps.a.backup]\nrepository = "repository"\n'
    )
    (tmp_path / "repository").mkdir()
    data = FILE_HEADERS[kind]
    (tmp_path / file).write_bytes(gzip_data(data) if file.endswith(".gz") else data)
    (backup,) = find_backups(tmp_path / "x")
    assert (backup.path, backup.databases, backup.kind) == (str(tmp_path / file), expected, "foreign")
    if "2026" in file:
        assert "time: its name" in backup.note


def test_unreadable_files_are_skipped(path):
    folder = path.with_name("backups")
    folder.mkdir(mode=0o700)
    copy_database(path, folder / "backup_20260105.db").chmod(0)
    os.mkfifo(folder / "backup_20260106.db")
    (folder / "backup_20260107.db").mkdir()
    assert {Path(backup.path).name for backup in find_backups(path)} <= {"backup_20260105.db"}


# Times and file types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "timestamp", "description"),
    [
        ("backup_20260105_030000.db.gz", BACKUP_TIME, "its name, read as local time, CET"),
        (
            "backup_20260705_040000.sql",
            datetime(2026, 7, 5, 2, tzinfo=UTC),
            "its name, read as local time, CEST",
        ),
        (
            "backup_20260105.db",
            datetime(2026, 1, 4, 23, tzinfo=UTC),
            "its name, read as local time, CET, without time of day",
        ),
        ("chat_2026-01-05T02-00-00-000Z.sqlite", BACKUP_TIME, "its name, read as UTC"),
        *[
            (f"shop-{text}Z.sql.gz", BACKUP_TIME, "its name, read as UTC")
            for text in ("20260105T020000", "20260105T0200", "2026-01-05T02:00:00", "2026-01-05 02:00:00.000")
        ],
        *[
            (f"shop_{text}.dump", BACKUP_TIME, "its name, read as local time, CET")
            for text in (
                "20260105_0300",
                "202601050300",
                "2026-01-05_03-00",
                "2026-01-05_03h00m",
                "2026-01-05-0300",
            )
        ],
        ("flashpoint.sqlite.backup-1767578400000", BACKUP_TIME, "its name, read as UTC"),
        (
            "backup_20260105_9901.db",
            datetime(2026, 1, 4, 23, tzinfo=UTC),
            "its name, read as local time, CET, without time of day",
        ),
        ("backup_20261399.db", None, "its modification time"),
        ("backup_99990101.db", None, "its modification time"),
        ("backup_00000000.db", None, "its modification time"),
        ("build-202601051234567890.db", None, "its modification time"),
        ("user.db.bak", None, "its modification time"),
    ],
)
def test_time_in_name_is_local_by_default(name, timestamp, description):
    detected = detect_time(name, 1_700_000_000.5)
    assert detected.description == description
    assert detected.timestamp == (timestamp or datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC))


def test_time_in_dbctl_name_is_utc():
    assert detect_time("user_20260105_020000.db.gz", 0, is_utc=True).timestamp == BACKUP_TIME


@pytest.mark.parametrize("content", sorted(set(file_type.TITLES) - set(file_type.ENGINES)))
def test_every_unsupported_content_has_a_hint(content):
    assert file_type.HINTS[content]


def test_adopted_backup_is_encrypted_without_plain_copies(path, foreign_dir):
    pyrage = pytest.importorskip("pyrage")
    identity = pyrage.x25519.Identity.generate()
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f'encrypt = {{ recipients = ["{identity.to_public()}"] }}\n')
    adopted = adopt(path, copy_database(path, foreign_dir / "backup_20260105.db")).adopted[0]
    assert adopted.members[0].encryption == "age"
    assert [
        entry.name
        for entry in promptvault_app.find_backup_folder(path, adopted).iterdir()
        if entry.suffix != ".json"
    ] == [adopted.members[0].file]
    with (
        stage_file(path, foreign_dir / "backup_20260105.db") as (_app, overlay, staged),
        overlay.store.open_locally(staged.manifest.id, staged.manifest.members[0].file) as member_path,
    ):
        assert path.with_name("backups") not in member_path.parents


def test_temporary_folders_are_not_listed(path, foreign_dir):
    promptvault_app.create_app_backup(path)
    paths = [backup.path for backup in find_backups(path)]
    with promptvault_app.open_repository(path) as (_app, repository), repository.store.temp_dir(1) as folder:
        copy_database(path, folder / "backup_20260105_030000.db")
        assert [backup.path for backup in find_backups(path)] == paths
