"""Traps of SQLite, backups of SQLite and gzip: behavior that loses data, or that hides a loss.

Each test shows the trap and the behavior of dbctl; it also fails if the trap no longer exists. ``grep -r "def test_trap"`` lists
the traps in other tests.
"""

from __future__ import annotations

import gzip
import io
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.engines.sqlite import files
from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.engines.sqlite.dump import copy_database
from dbctl.errors.connection import CorruptError, DatabaseMissingError, FileFailedError
from dbctl.files import compression
from tests.crash import forge
from tests.crash.figures import choose_count, create_rng
from tests.services import promptvault_app
from tests.services.flashpoint_app import catch_error, query_rows, run_statements


@pytest.fixture
def deployed(tmp_path):
    return promptvault_app.create_app(tmp_path / "app", "deployed")


def ignore_progress(_share):
    pass


# Backups -------------------------------------------------------------------------------------------------------------


def test_trap_vacuum_renumbers_rows_so_copies_preserve_rowids(deployed):
    run_statements(
        deployed,
        "create table notes (text)",
        "create virtual table found using fts5(text, content='notes')",
        "with recursive n(n) as (select 1 union all select n + 1 from n where n < 300) insert into notes select 'word' || n from n",
        "insert into found (found) values ('rebuild')",
        "delete from notes where rowid % 3",
        "insert into found (found) values ('rebuild')",
    )
    numbers = "select rowid, text from notes order by rowid"
    query = "select n.text from found join notes n on n.rowid = found.rowid where found match 'word270'"
    before = query_rows(deployed, numbers)
    assert before[0] == (3, "word3")
    copy = promptvault_app.decompress_backup(deployed, promptvault_app.create_app_backup(deployed))
    assert query_rows(copy, numbers) == before
    assert query_rows(copy, query) == [("word270",)]
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("insert into found (found, rank) values ('integrity-check', 1)")


def test_trap_vacuum_into_follows_dangling_links_so_copies_require_an_unused_path(deployed, tmp_path):
    link, target = tmp_path / "copy.db", tmp_path / "target.db"
    link.symlink_to(target)
    with closing(sqlite3.connect(deployed, isolation_level=None)) as source:
        source.execute("vacuum into ?", [str(link)])
        assert target.exists(), "trap no longer exists"
        target.unlink()
        catch_error(FileFailedError, lambda: copy_database(source, link, ignore_progress))
        assert not target.exists()
        (tmp_path / "empty.db").touch()  # VACUUM INTO writes into an empty file
        catch_error(FileFailedError, lambda: copy_database(source, tmp_path / "empty.db", ignore_progress))
    assert (tmp_path / "empty.db").read_bytes() == b""


def test_trap_sqlite_leaves_a_journal_so_copies_remove_it(deployed, tmp_path):
    copy, siblings = tmp_path / "copy.db", [tmp_path / "copy.db-journal", tmp_path / "copy.db-wal"]
    run_statements(deployed, "pragma journal_mode = delete")

    def leave_siblings(*_progress):
        for path in siblings:
            path.write_bytes(bytes(512))  # as after a failed unlink

    with closing(sqlite3.connect(deployed, isolation_level=None)) as source:
        with closing(sqlite3.connect(copy, isolation_level=None)) as plain:
            plain.execute("pragma journal_mode = off")
            source.backup(plain, progress=leave_siblings)
        assert all(path.exists() for path in siblings), "trap no longer exists"
        copy.unlink()
        copy_database(source, copy, leave_siblings)
    assert not any(path.exists() for path in siblings)


def test_trap_immutable_mode_ignores_the_wal_so_the_reader_opens_the_wal(deployed, tmp_path):
    with closing(sqlite3.connect(deployed, isolation_level=None)) as app:
        app.execute("pragma wal_autocheckpoint = 0")
        app.execute("update users set email = 'wal@example.org' where username = 'ann'")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{deployed}{suffix}", tmp_path / f"copy.db{suffix}")
    query = "select count(*) from users where email = 'wal@example.org'"
    with closing(sqlite3.connect(f"file:{tmp_path}/copy.db?immutable=1", uri=True)) as frozen:
        assert frozen.execute(query).fetchone() == (0,), "trap no longer exists"
    with closing(SQLiteReader(tmp_path / "copy.db", "app/user")) as reader:
        assert reader.query(query) == [(1,)]


# Integrity -----------------------------------------------------------------------------------------------------------


def test_trap_integrity_check_accepts_changed_text_so_verify_compares_checksums(deployed):
    backup = promptvault_app.create_app_backup(deployed, compress="none")
    file = promptvault_app.find_backup_file(deployed, backup)
    content = file.read_bytes()
    position = content.index(b"light", content.index(b"theme_mode"))  # a value that is in no index
    file.write_bytes(content[:position] + b"Light" + content[position + 5 :])
    assert query_rows(file, "pragma integrity_check") == [("ok",)], "trap no longer exists"
    assert promptvault_app.list_codes(promptvault_app.verify_backups(deployed, backup.id, deep=False)) == [
        "file-changed"
    ]
    assert promptvault_app.list_codes(promptvault_app.verify_backups(deployed, backup.id, deep=True)) == [
        "file-changed"
    ]


def test_trap_full_text_check_without_rank_ignores_rows_so_dbctl_compares_them(deployed):
    run_statements(
        deployed,
        "create table notes (id integer primary key, text)",
        "create virtual table found using fts5(text, content='notes', content_rowid='id')",
        "insert into notes (text) values ('one'), ('two'), ('three')",
        "insert into found (found) values ('rebuild')",
        "update notes set text = 'four' where id = 2",  # simulates a damaged page
    )
    with closing(sqlite3.connect(deployed)) as connection:
        connection.execute(
            "insert into found (found) values ('integrity-check')"
        )  # the trap: without rank, no error
        connection.rollback()
    assert query_rows(deployed, "pragma integrity_check") == [("ok",)], "trap no longer exists"
    with closing(SQLiteWriter(deployed, "app/user")) as writer:
        assert "malformed" in writer.checks.check_text_index("found")


def test_trap_empty_file_passes_integrity_check_so_empty_and_missing_files_are_errors(
    deployed, tmp_path, answer, monkeypatch
):
    missing = tmp_path / "wrong.db"
    with closing(sqlite3.connect(missing)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)], "trap no longer exists"
        connection.execute("pragma user_version = 0")
    missing.unlink(missing_ok=True)
    catch_error(DatabaseMissingError, lambda: SQLiteReader(missing, "app/user"))
    catch_error(DatabaseMissingError, lambda: SQLiteWriter(missing, "app/user"))
    assert not missing.exists()
    monkeypatch.chdir(deployed.parent)
    deployed.write_bytes(b"")
    result = answer("integrity", "check", status=None)
    assert result["exit_code"] != 0
    assert [finding["severity"] for finding in (result["data"] or result["error"])["findings"]] == ["error"]


@pytest.fixture
def database_with_wal(tmp_path):
    """Create a database with 200 commits that are only in its ``-wal``, as after a kill of the app."""
    path = tmp_path / "w.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        for sql in ("pragma journal_mode = wal", "pragma wal_autocheckpoint = 0", "create table t (a)"):
            app.execute(sql)
        for number in range(199):
            app.execute("insert into t values (?)", [str(number) * 100])
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", tmp_path / f"killed.db{suffix}")
    return tmp_path / "killed.db"


def test_trap_sqlite_ignores_damage_in_a_wal_so_each_bit_flip_is_reported(database_with_wal):
    log, draw = database_with_wal.with_name("killed.db-wal"), create_rng("flips in a wal")
    content = log.read_bytes()
    assert files.count_lost_commits(log) == 0
    for number in range(choose_count(20, 200)):
        position = draw.randrange(len(content))
        changed = bytearray(content)
        changed[position] ^= 1 << draw.randrange(8)
        log.write_bytes(changed)
        lost = files.count_lost_commits(log)
        assert 0 < lost <= 200, position
        if not number:
            with closing(sqlite3.connect(f"file:{database_with_wal}?mode=ro", uri=True)) as app:
                assert app.execute("pragma integrity_check").fetchall() == [("ok",)], "trap no longer exists"
                table_count = app.execute("select count(*) from sqlite_master").fetchone()[0]
                row_count = app.execute("select count(*) from t").fetchone()[0] if table_count else -1
            assert row_count + lost == 199


def test_trap_integrity_check_reports_lost_commits_of_a_damaged_wal(deployed, answer, monkeypatch):
    copies = deployed.with_name("copies")
    copies.mkdir()
    with closing(sqlite3.connect(deployed, isolation_level=None)) as app:
        app.execute("pragma wal_autocheckpoint = 0")
        for number in range(20):
            app.execute("update users set email = ? where username = 'ann'", [f"{number}@example.org"])
        for path in deployed.parent.glob("user.db*"):
            shutil.copyfile(path, copies / path.name)
    for path in copies.iterdir():
        shutil.move(path, deployed.parent / path.name)
    log = deployed.with_name("user.db-wal")
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)
    deployed.with_name("user.db-shm").unlink()
    monkeypatch.chdir(deployed.parent)
    findings = answer("integrity", "check")["data"]["findings"]
    # a warning, because the last commit may be incomplete after a crash
    assert ("warning", "commits-lost") in {(finding["severity"], finding["code"]) for finding in findings}
    assert {finding["severity"] for finding in findings} == {"warning"}


@pytest.mark.needs_extension("salvage")
@pytest.mark.slow
def test_trap_recover_of_sqlite3_shell_may_fail_so_dbctl_recovers_without_it(tmp_path):
    """The ``sqlite3`` of Debian recovers no row even from an undamaged file; dbctl must not require external programs."""
    numbers = "with recursive n(n) as (select 1 union all select n + 1 from n where n < 2000)"
    run_statements(
        tmp_path / "app.db",
        "create table t (a)",
        f"{numbers} insert into t select hex(randomblob(100)) from n",
    )
    raw = bytearray((tmp_path / "app.db").read_bytes())
    raw[20 * 4096 : 21 * 4096] = bytes(4096)
    (tmp_path / "app.db").write_bytes(raw)
    job = forge.start(
        tmp_path,
        "restore",
        "recover",
        "--url",
        "main=app.db",
        "--to",
        "new.db",
        environment={"PATH": "/nonexistent"},
    )
    job.communicate()
    assert job.returncode == 4  # some rows are lost and reported
    assert 1900 < query_rows(tmp_path / "new.db", "select count(*) from t")[0][0] < 2000


# Signals -------------------------------------------------------------------------------------------------------------


def wait_until_query_runs(job):
    """Wait until the process has used more CPU time than a command uses before its first query."""
    stat = Path(f"/proc/{job.pid}/stat")
    if not stat.exists():
        time.sleep(3)
    while stat.exists() and job.poll() is None:
        user, system = stat.read_text().rpartition(")")[2].split()[11:13]
        if int(user) + int(system) > 50:  # hundredths of a second
            return
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_trap_python_handles_signals_only_after_a_query_so_dbctl_interrupts_it(deployed, number, expected):
    endless = "with recursive n(n) as (select 1 union all select n + 1 from n) select count(*) from n"
    job = forge.start(deployed.parent, "data", "query", endless, "-o", "json")
    wait_until_query_runs(job)
    job.send_signal(number)
    status, output = forge.wait_for_result(job)  # fails after two minutes; the query does not end by itself
    assert (status, output["error"]["code"]) == (expected, "interrupted")


# Gzip ----------------------------------------------------------------------------------------------------------------


PLAIN = b"a page of a database " * 5000
COMPRESSED = gzip.compress(PLAIN)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (COMPRESSED + bytes(512), PLAIN),
        (gzip.compress(PLAIN[:7]) + gzip.compress(PLAIN[7:]), PLAIN),
    ],
    ids=["empty", "trailing zeros", "two members"],
)
def test_trap_gzip_accepts_empty_padded_and_concatenated_files_so_dbctl_rejects_them(
    tmp_path, content, expected
):
    assert gzip.GzipFile(fileobj=io.BytesIO(content)).read() == expected, "trap no longer exists"
    compressed, plain = tmp_path / "a.gz", tmp_path / "a"
    compressed.write_bytes(content)
    catch_error(
        CorruptError,
        lambda: compression.decompress_file(
            compressed, plain, "gzip", expected_bytes=len(PLAIN), target="app/user"
        ),
    )
    assert not plain.exists()


def test_trap_gzip_reports_trailing_garbage_only_at_the_end(tmp_path):
    (tmp_path / "a.gz").write_bytes(COMPRESSED + b"junk")
    with gzip.GzipFile(tmp_path / "a.gz") as stream:
        assert stream.read(len(PLAIN)) == PLAIN, "trap no longer exists"
    catch_error(
        CorruptError,
        lambda: compression.decompress_file(
            tmp_path / "a.gz", tmp_path / "a", "gzip", expected_bytes=len(PLAIN), target="x"
        ),
    )
    assert not (tmp_path / "a").exists()
