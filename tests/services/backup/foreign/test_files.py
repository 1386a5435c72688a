"""Files that the apps' own scripts or hands left: known by what they hold, verified, adopted, and restored."""

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
from dbctl.errors import (
    AdoptedAlreadyError,
    BackupUnsoundError,
    BusyError,
    ChangedWhileReadError,
    DbctlError,
    FileFailedError,
    FileMissingError,
    FileUnfitError,
    FileUnsafeError,
    FileUnsoundError,
    SameFileError,
    UnpacksTooFarError,
    UsageError,
    WrongAppError,
)
from dbctl.services.backup.foreign import detect, discovery, verify
from dbctl.services.backup.foreign.adopt import Adoption
from dbctl.services.backup.foreign.timestamps import dated
from dbctl.services.backup.prune import Pruning
from dbctl.services.backup.repository import list_backups
from dbctl.services.restore import preview
from dbctl.services.restore.apply import Restoring
from tests.services import promptvault_app
from tests.services.flashpoint_app import caught, run
from tests.services.promptvault_app import content, create, listed, settle, spoil, undo

FIFTH = datetime(2026, 1, 5, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    """Let local time be another one than UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path):
    return settle(tmp_path / "app", "deployed")


@pytest.fixture
def left(tmp_path):
    """A folder in which somebody left something."""
    (tmp_path / "left").mkdir()
    return tmp_path / "left"


def copied(path, place):
    """Copy a database as ``sqlite3 .backup`` does."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(place)) as made:
        source.backup(made)
    return place


def dumped(path, place):
    with closing(sqlite3.connect(path)) as source:
        place.write_text("PRAGMA foreign_keys=OFF;\n" + "\n".join(source.iterdump()) + "\n")
    return place


def packed_as(data):
    return gzip.compress(data, mtime=0)


def packed(place, *words):
    subprocess.run([*words, "-k", place], check=True)
    return place


def forms(path, left):
    """Return a file of each form in which somebody may leave a database."""
    plain = copied(path, left / "backup_20260105_030000.db")
    text = dumped(path, left / "backup_20260105_030000.sql")
    for one in (plain, text):
        packed(one, "gzip")
        packed(one, "zstd", "-q")
    both = left / "parts_20260105_030000.db.gz"
    half = plain.stat().st_size // 2
    both.write_bytes(packed_as(plain.read_bytes()[:half]) + packed_as(plain.read_bytes()[half:]))
    return sorted(left.iterdir())


@contextmanager
def taken(path, file, **more):
    with (
        promptvault_app.opened(path, only=more.pop("only", "")) as (app, repository),
        detect.staged(app, repository, file, trial=False, **more) as (told, beside),
    ):
        yield app, beside, told


def apply(path, file, *, replace=True, **more):
    """Restore a file; ``replace``: whether tables may go that it does not hold, which ``spoil`` makes."""
    with taken(path, file, **more) as (app, beside, found):
        keys = promptvault_app.keys_of(app)
        return Restoring(app, beside, found.manifest, keys, timeout=5, replace=replace).apply()


def adopt(path, *files, at=None):
    with promptvault_app.opened(path) as (app, repository):
        return Adoption(app, repository, files, promptvault_app.keys_of(app), at=at, timeout=5).apply()


def tried(path, *files):
    with promptvault_app.opened(path) as (app, repository):
        return verify.verify(
            app, repository, (), files, deep=False, keys=promptvault_app.keys_of(app)
        ).findings.findings


def found(path):
    with promptvault_app.opened(path) as (app, repository):
        return discovery.found(app, repository)


# Restored from ------------------------------------------------------------------------------------------------------


def test_a_file_of_every_form_is_restored_and_undone_and_stays_as_it_was(path, left):
    before = content(path)
    files = forms(path, left)
    for file in files:
        as_it_was = file.read_bytes(), file.stat().st_mtime_ns
        spoil(path)
        spoiled = content(path)
        done = apply(path, file)
        assert (done.backup, done.databases[0].way) == (str(file), "in place")
        assert content(path) == before, file.name
        assert (file.read_bytes(), file.stat().st_mtime_ns) == as_it_was
    undo(path)
    assert content(path) == spoiled
    assert sorted(left.iterdir()) == files, "nothing was left beside them"


def test_a_preview_of_a_file_tells_what_a_restore_would_change_and_changes_nothing(path, left):
    file = copied(path, left / "backup.db")
    spoil(path)
    spoiled = content(path)
    with taken(path, file) as (app, beside, told):
        seen = preview.preview(app, beside, told.manifest, promptvault_app.keys_of(app))
    lost = {one.table: (one.now, one.then) for one in seen.databases[0].tables if one.now != one.then}
    assert lost["user_game_plays"][0] == 0 < lost["user_game_plays"][1]
    assert content(path) == spoiled
    assert not path.with_name("backups").exists() or not listed(path).page.items


def test_a_full_text_table_comes_back_from_the_text_of_sqlite3(path, left):
    run(path, "create virtual table notes using fts5(body)")
    run(path, "insert into notes values ('a quick fox'), ('a lazy dog')")
    file = left / "backup_20260105.sql"
    with file.open("wb") as text:
        subprocess.run(["sqlite3", path, ".dump"], stdout=text, check=True)
    run(path, "drop table notes")
    apply(path, file)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select body from notes where notes match 'fox'").fetchall() == [
            ("a quick fox",)
        ]


def test_commits_that_only_its_wal_holds_are_taken_in_with_a_remark(path, left):
    run(path, "pragma journal_mode = wal")
    with closing(sqlite3.connect(path)) as app:
        app.execute("pragma wal_autocheckpoint = 0")
        app.execute("update users set username = 'only-in-the-wal' where id = 1")
        app.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", left / f"user.db.bak{suffix}")
    with taken(path, left / "user.db.bak") as (_app, _beside, told):
        assert "user.db.bak-wal" in told.remarks[0]
    apply(path, left / "user.db.bak")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select username from users where id = 1").fetchall() == [
            ("only-in-the-wal",)
        ]
    assert sorted(one.name for one in left.iterdir()) == ["user.db.bak", "user.db.bak-wal"]


def test_a_folder_of_another_machines_repository_is_restored_and_adopted(path, left):
    before = content(path)
    made = create(path)
    away = left / "from-elsewhere"
    shutil.move(promptvault_app.folder_of(path, made), away)
    spoil(path)
    apply(path, away)
    assert content(path) == before
    adopted = adopt(path, away).adopted[0]
    assert adopted.created_at == made.created_at
    assert [one.sha256 for one in adopted.members] == [one.sha256 for one in made.members]
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    with pytest.raises(AdoptedAlreadyError):
        adopt(path, away)


def test_a_backup_of_this_repository_is_not_adopted_again(path, left):
    made = create(path)
    shutil.copytree(promptvault_app.folder_of(path, made), left / "copy")
    assert made.id in str(caught(AdoptedAlreadyError, lambda: adopt(path, left / "copy")))


def test_a_folder_whose_file_was_changed_is_refused(path, left):
    made = create(path)
    away = left / "from-elsewhere"
    shutil.move(promptvault_app.folder_of(path, made), away)
    file = next(away.glob("*.db.gz"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    before = content(path)
    with pytest.raises(BackupUnsoundError, match="SHA-256"):
        apply(path, away)
    with pytest.raises(BackupUnsoundError, match="SHA-256"):
        adopt(path, away)
    assert content(path) == before
    assert "file-changed" in [one.code for one in tried(path, away)]


def test_a_file_of_dbctl_without_its_manifest_is_of_its_time_in_utc(path, left):
    made = create(path)
    file = shutil.copy(promptvault_app.file_of(path, made), left)
    with taken(path, Path(file)) as (_app, _beside, told):
        assert told.manifest.created_at == made.created_at.replace(microsecond=0)
        assert told.manifest.origin.time == "its name, read as UTC"


# Refused ------------------------------------------------------------------------------------------------------------


def refusal(path, file, **more):
    before = content(path)
    error = caught(DbctlError, lambda: apply(path, file, **more))
    assert content(path) == before
    codes = [one.code for one in tried(path, file) if one.severity == "error"]
    assert codes == [error.code] or isinstance(error, BusyError)
    return error


def written(place, data):
    place.write_bytes(data)
    return place


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", FileUnsoundError, "empty"),
        (packed_as(b""), FileUnsoundError, "empty"),
        (b"\x1f\x8b", FileUnsoundError, "its end is missing"),
        (b"\x1f\x8bnonsense that was never packed", FileUnsoundError, ""),
        (b"nothing that anybody knows", FileUnfitError, "nothing that is known"),
        (b'{"users": []}', FileUnfitError, "JSON"),
        (packed_as(b"[" * 100_000), FileUnfitError, "JSON"),
        (b"age-encryption.org/v1\n", FileUnfitError, "encrypted"),
        (b"BZh91AY", FileUnfitError, "packed in a way"),
        (packed_as(packed_as(b"x")), FileUnfitError, "packed in a way"),
        (b"-- PostgreSQL database cluster dump\n", FileUnfitError, "whole PostgreSQL server"),
        (b"SQLite format 3\0" + b"x" * 5000, FileUnsoundError, ""),
    ],
    ids=[str(number) for number in range(12)],
)
def test_what_is_no_whole_database_is_refused_for_what_it_is(path, left, data, error, says):
    found = refusal(path, written(left / "backup_20260105.db", data))
    assert isinstance(found, error)
    assert says in str(found)


def test_a_file_that_was_cut_off_flipped_or_added_to_is_refused(path, left):
    plain = copied(path, left / "a.db")
    whole = packed_as(plain.read_bytes())
    for number, data in enumerate(
        [
            whole[:-1],
            whole[: len(whole) // 2],
            whole + b"junk",
            whole + b"\0" * 600,
            whole + whole,
            whole[:-8] + bytes(8),
            plain.read_bytes()[:-1],
            plain.read_bytes()[:20_000],
        ]
    ):
        file = written(left / f"{number}.db", data)
        assert [one.code for one in tried(path, file)] == ["file-unsound"], number
        assert isinstance(refusal(path, file), FileUnsoundError)


def test_a_gzip_bomb_ends_at_its_limit_and_leaves_nothing(path, left, monkeypatch):
    monkeypatch.setattr(detect, "SMALL", 1 << 18)
    bomb = written(left / "backup_20260105.db.gz", packed_as(bytes(1 << 24)))
    assert isinstance(refusal(path, bomb), UnpacksTooFarError)
    assert not list(path.parent.rglob(".dbctl-unpacked-*"))


def test_a_directory_a_pipe_a_dangling_link_and_nothing_are_told_apart(path, left):
    (left / "folder").mkdir()
    os.mkfifo(left / "pipe", 0o600)
    (left / "dangling").symlink_to("nowhere")
    assert isinstance(refusal(path, left / "folder"), FileUnfitError)
    assert isinstance(refusal(path, left / "pipe"), FileFailedError)
    assert isinstance(refusal(path, left / "dangling"), FileMissingError)
    assert isinstance(refusal(path, left / "nothing"), FileMissingError)
    assert isinstance(refusal(path, Path("nul\0")), FileFailedError)


def test_a_link_that_somebody_names_is_followed(path, left):
    before = content(path)
    (left / "newest").symlink_to(copied(path, left / "backup_20260105.db"))
    spoil(path)
    apply(path, left / "newest")
    assert content(path) == before


def test_a_file_that_others_may_write_is_refused(path, left):
    file = copied(path, left / "backup_20260105.db")
    file.chmod(0o666)
    assert isinstance(refusal(path, file), FileUnsafeError)


def test_the_database_itself_is_refused_by_any_name(path, left):
    (left / "other-name.db").symlink_to(path)
    for file in (path, left / "other-name.db"):
        assert isinstance(caught(DbctlError, lambda file=file: apply(path, file)), SameFileError)


def test_a_database_that_somebody_has_open_is_refused_and_named(path, left):
    file = copied(path, left / "backup_20260105.db")
    with subprocess.Popen(
        ["sqlite3", file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as holder:
        holder.stdin.write("select count(*) from users;\n")
        holder.stdout.readline()
        error = caught(DbctlError, lambda: apply(path, file))
    assert isinstance(error, BusyError)
    assert str(holder.pid) in str(error)


def test_a_file_that_changes_while_it_is_read_is_refused(path, left, monkeypatch):
    file = copied(path, left / "backup_20260105.db")
    really = detect.compression.unpack_all

    def grows(*words, **more):
        answer = really(*words, **more)
        with file.open("ab") as more_of_it:
            more_of_it.write(b"more")
        return answer

    monkeypatch.setattr(detect.compression, "unpack_all", grows)
    before = content(path)
    assert isinstance(caught(DbctlError, lambda: apply(path, file)), ChangedWhileReadError)
    assert content(path) == before


def test_a_database_of_another_app_is_refused_by_what_it_lacks(path, left):
    run(left / "other.db", "create table recipes (id)")
    error = refusal(path, left / "other.db")
    assert isinstance(error, WrongAppError)
    assert "users" in str(error)


@pytest.mark.parametrize(
    "name", ["we ird\n name.db", "--file=x.db", "ünïcode \u202e.db", "%s?#;$(x).db", "x" * 250]
)
def test_a_path_of_any_letters_is_a_path(path, left, name):
    before = content(path)
    file = copied(path, left / "plain.db").rename(left / name)
    spoil(path)
    apply(path, file)
    assert content(path) == before
    assert adopt(path, file).adopted[0].databases == ["user"]


HOSTILE = {
    "attaches another file": "ATTACH DATABASE '{evil}' AS e;",
    "vacuums into another file": "VACUUM INTO '{evil}';",
    "sets a pragma": "PRAGMA temp_store_directory = '/tmp';",
    "opens the schema": "PRAGMA writable_schema=ON; ATTACH '{evil}' AS e;",
    "loads code": "SELECT load_extension('{evil}');",
    "makes a temporary trigger": "CREATE TEMP TRIGGER t AFTER INSERT ON users BEGIN SELECT 1; END;",
    "makes a virtual table of another kind": "CREATE VIRTUAL TABLE v USING csv(filename='/etc/passwd');",
    "enters such a one": "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','v','v',0,"
    "'CREATE VIRTUAL TABLE v USING zipfile(''/etc/passwd'')');",
    "writes the schema": "UPDATE sqlite_master SET sql = 'x';",
    "is a command of the shell": ".open {evil}",
    "begins anew": "ROLLBACK;",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_the_text_of_a_dump_reaches_nothing_but_its_own_tables(path, left, what):
    evil = left / "evil.db"
    text = dumped(path, left / "good.sql").read_text()
    begin = text.index("CREATE TABLE")
    file = left / "backup_20260105.sql"
    file.write_text(f"{text[:begin]}{HOSTILE[what].format(evil=evil)}\n{text[begin:]}")
    assert isinstance(refusal(path, file), FileUnsoundError)
    assert not evil.exists()


def test_a_dump_that_calls_itself_not_whole_is_refused(path, left):
    text = dumped(path, left / "good.sql").read_text()
    (left / "bad.sql").write_text(text.replace("COMMIT;", "ROLLBACK; -- due to errors"))
    error = refusal(path, left / "bad.sql")
    assert "damaged database" in str(error)


def test_a_dump_cut_off_anywhere_is_refused(path, left):
    text = dumped(path, left / "good.sql").read_bytes().rstrip()
    for share in range(5, 100, 10):
        cut = written(left / "cut.sql", text[: len(text) * share // 100])
        assert isinstance(caught(DbctlError, lambda cut=cut: apply(path, cut)), FileUnsoundError), share


# Adopted ------------------------------------------------------------------------------------------------------------


def test_an_adopted_file_is_a_backup_like_others_and_of_its_own_time(path, left):
    before = content(path)
    file = copied(path, left / "backup_20260105_030000.db")
    as_it_was = file.read_bytes()
    newest = create(path)
    (adopted,) = adopt(path, file).adopted
    assert (adopted.id, adopted.kind, adopted.created_at) == ("20260105_020000", "backup", FIFTH)
    assert adopted.time.startswith("its name, read as local time, CET")
    assert file.read_bytes() == as_it_was
    file.unlink()
    assert [one.id for one in listed(path).page.items] == [newest.id, adopted.id]
    assert promptvault_app.codes(promptvault_app.verified(path)) == []
    spoil(path)
    promptvault_app.apply(path, adopted.id)
    assert content(path) == before
    with promptvault_app.pruning(path, last=1) as work:
        assert isinstance(work, Pruning)
        assert work.apply().deleted == [adopted.id]


def test_a_file_is_adopted_into_a_repository_that_does_not_exist_yet(path, left):
    file = copied(path, left / "backup_20260105_030000.db")
    with promptvault_app.opened(path) as (app, repository):
        place = Path(repository.store.place)
        assert not place.parent.exists()
        work = Adoption(app, repository, [file], promptvault_app.keys_of(app), at=None, timeout=5)
        assert len(work.plan().steps) == 1
        assert not place.parent.exists(), "a plan makes nothing"
        (adopted,) = work.apply().adopted
    assert [one.id for one in listed(path).page.items] == [adopted.id]
    assert promptvault_app.codes(promptvault_app.verified(path)) == []


def test_latest_is_the_newest_by_its_time_not_the_one_adopted_last(path, left):
    old = copied(path, left / "backup_20250105.db")
    spoil(path)
    middle = copied(path, left / "backup_20250301.db")
    adopt(path, middle, old)
    assert [one.id[:8] for one in listed(path).page.items] == ["20250228", "20250104"]
    with promptvault_app.opened(path) as (_app, repository):
        assert repository.find("latest").id.startswith("20250228")
    newest = create(path)
    assert listed(path).page.items[0].id == newest.id


def test_the_same_content_is_adopted_once_however_it_is_packed(path, left):
    file = copied(path, left / "backup_20260105_030000.db")
    packed(file, "gzip")
    made = adopt(path, file).adopted[0]
    for again in (file, left / "backup_20260105_030000.db.gz"):
        assert made.id in str(caught(AdoptedAlreadyError, lambda again=again: adopt(path, again)))
    assert len(listed(path).page.items) == 1


def test_a_time_may_be_said_of_one_file(path, left):
    file = copied(path, left / "user.db.bak")
    (made,) = adopt(path, file, at=FIFTH).adopted
    assert (made.id, made.time) == ("20260105_020000", "as you said")
    with pytest.raises(UsageError):
        adopt(path, file, path, at=FIFTH)


def test_one_that_cannot_be_adopted_leaves_nothing_behind(path, left):
    bad = written(left / "bad.db", b"SQLite format 3\0" + b"x" * 5000)
    good = copied(path, left / "good.db")
    with pytest.raises(FileUnsoundError):
        adopt(path, good, bad)
    assert len(listed(path).page.items) == 1
    assert listed(path).incomplete == []


# Listed -------------------------------------------------------------------------------------------------------------


def test_files_are_listed_where_they_lie_unproven_and_by_what_they_hold(path):
    app = path.parent
    (app / "backups").mkdir(mode=0o700)
    copied(path, app / "backups" / "backup_20260105_030000.db")
    packed(app / "backups" / "backup_20260105_030000.db", "gzip")
    dumped(path, app / "backups" / "anything.sql")
    copied(path, app / "user.db.bak")
    (app / "backups" / "notes.txt").write_text("no backup")
    (app / "backups" / "backup_20260106.db").write_text("only its name says so")
    (app / "backups" / "link.db").symlink_to(path)
    copied(path, app / "unrelated.db")
    told = {Path(one.path).name: one for one in found(path)}
    assert set(told) == {
        "backup_20260105_030000.db",
        "backup_20260105_030000.db.gz",
        "anything.sql",
        "user.db.bak",
        "backup_20260106.db",
    }
    one = told["backup_20260105_030000.db.gz"]
    assert (one.kind, one.complete, one.verified_at, one.created_at, one.databases) == (
        "foreign",
        False,
        None,
        FIFTH,
        ["user"],
    )
    assert one.note.startswith("a SQLite database, packed by gzip")
    assert told["backup_20260106.db"].note.startswith("nothing that is known here")


def test_one_that_was_adopted_says_so_in_the_list_and_the_others_stay(path, left):
    file = copied(path, path.with_name("user.db.bak"))
    (made,) = adopt(path, file).adopted
    assert found(path)[0].note.endswith(f"adopted as {made.id}")


def test_the_list_counts_them_behind_the_backups(path):
    copied(path, path.with_name("user.db.bak"))
    made = create(path)
    with promptvault_app.opened(path) as (app, repository):
        page = list_backups(repository, promptvault_app.EVERY, loose=discovery.found(app, repository)).page
    assert [one.kind for one in page.items] == ["backup", "foreign"]
    assert page.items[0].id == made.id


HEADS = {
    "sqlite": b"SQLite format 3\0",
    "postgresql": b"--\n-- PostgreSQL database dump\n--\n",
    "json": b'{"users": []}',
    "tar": bytes(257) + b"ustar",
}
#: What the documents of the apps call their backups, where they lie, and of which database they are.
NAMED = [
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


@pytest.mark.parametrize(("profile", "databases", "file", "kind", "told"), NAMED, ids=range(len(NAMED)))
def test_what_the_apps_documents_call_a_backup_is_found(tmp_path, profile, databases, file, kind, told):
    for name in (*databases.values(), file, "backups/x"):
        if "://" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    urls = "\n".join(f'{name} = "{url}"' for name, url in databases.items())
    (tmp_path / "dbctl.toml").write_text(
        f'[apps.a]\nprofile = "{profile}"\n[apps.a.databases]\n{urls}\n[apps.a.backup]\nrepository = "elsewhere"\n'
    )
    (tmp_path / "elsewhere").mkdir()
    data = HEADS[kind]
    (tmp_path / file).write_bytes(packed_as(data) if file.endswith(".gz") else data)
    (one,) = found(tmp_path / "x")
    assert (one.path, one.databases, one.kind) == (str(tmp_path / file), told, "foreign")
    if "2026" in file:
        assert "time: its name" in one.note


def test_what_cannot_be_read_is_passed_over(path):
    folder = path.with_name("backups")
    folder.mkdir(mode=0o700)
    copied(path, folder / "backup_20260105.db").chmod(0)
    os.mkfifo(folder / "backup_20260106.db")
    (folder / "backup_20260107.db").mkdir()
    assert {Path(one.path).name for one in found(path)} <= {"backup_20260105.db"}


# Times and forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at", "told"),
    [
        ("backup_20260105_030000.db.gz", FIFTH, "its name, read as local time, CET"),
        (
            "backup_20260705_040000.sql",
            datetime(2026, 7, 5, 2, tzinfo=UTC),
            "its name, read as local time, CEST",
        ),
        (
            "backup_20260105.db",
            datetime(2026, 1, 4, 23, tzinfo=UTC),
            "its name, read as local time, CET, a day without a time",
        ),
        ("chat_2026-01-05T02-00-00-000Z.sqlite", FIFTH, "its name, read as UTC"),
        ("flashpoint.sqlite.backup-1767578400000", FIFTH, "its name, read as UTC"),
        ("backup_20261399.db", None, "when it was last written"),
        ("backup_99990101.db", None, "when it was last written"),
        ("backup_00000000.db", None, "when it was last written"),
        ("build-202601051234567890.db", None, "when it was last written"),
        ("user.db.bak", None, "when it was last written"),
    ],
)
def test_a_time_in_a_name_is_local_unless_it_says_otherwise(name, at, told):
    found = dated(name, 1_700_000_000.5)
    assert found.told == told
    assert found.at == (at or datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC))


def test_a_name_of_dbctl_itself_tells_utc():
    assert dated("user_20260105_020000.db.gz", 0, ours=True).at == FIFTH


@pytest.mark.parametrize("content", sorted(set(file_type.TITLES) - set(file_type.ENGINES)))
def test_what_is_never_restored_says_what_serves_instead(content):
    assert file_type.INSTEAD[content]


def test_where_backups_are_encrypted_an_adopted_one_is_too_and_nothing_plain_stands_beside_them(path, left):
    pyrage = pytest.importorskip("pyrage")
    identity = pyrage.x25519.Identity.generate()
    with path.with_name("dbctl.toml").open("a") as file:
        file.write(f'encrypt = {{ recipients = ["{identity.to_public()}"] }}\n')
    made = adopt(path, copied(path, left / "backup_20260105.db")).adopted[0]
    assert made.members[0].encryption == "age"
    assert [one.name for one in promptvault_app.folder_of(path, made).iterdir() if one.suffix != ".json"] == [
        made.members[0].file
    ]
    with (
        taken(path, left / "backup_20260105.db") as (_app, beside, told),
        beside.store.opened(told.manifest.id, told.manifest.members[0].file) as where,
    ):
        assert path.with_name("backups") not in where.parents


def test_folders_in_which_dbctl_works_now_are_not_listed(path, left):
    promptvault_app.create(path)
    listed = [one.path for one in found(path)]
    with promptvault_app.opened(path) as (_app, repository), repository.store.scratch(1) as folder:
        copied(path, folder / "backup_20260105_030000.db")
        assert [one.path for one in found(path)] == listed
