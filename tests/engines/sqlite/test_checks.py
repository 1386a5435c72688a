"""Integrity checks of SQLite files and of the -wal."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.engines.sqlite.files import count_lost_commits, count_pending_pages
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import QueryFailedError
from dbctl.errors.usage import NotSupportedError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(
            """create table parent (id integer primary key);
            create table child (id integer primary key, a text, up integer references parent (id));
            create index by_a on child (a);
            create table pair (a text references gone (x), b text, primary key (a, b)) without rowid;
            insert into parent values (1)"""
        )
        db.executemany("insert into child (a, up) values (?, 1)", ((f"text {n}" * 20,) for n in range(400)))
    return path


def execute(path, sql):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("pragma writable_schema = on")
        db.executescript(sql)


@pytest.fixture
def reader(file):
    with closing(SQLiteReader(file, "app/user")) as opened:
        yield opened


def test_orphaned_rows_are_counted_by_foreign_key(file, reader):
    execute(file, "update child set up = 7 where id in (3, 5); update child set up = null where id = 6")
    execute(file, "insert into pair values ('x', 'y')")
    orphans_by_key = {
        (orphans.table, *orphans.columns): (orphans.referenced_table, orphans.count, orphans.example)
        for orphans in reader.checks.find_orphaned_rows()
    }
    assert orphans_by_key == {("child", "up"): ("parent", 2, "rowid 3"), ("pair", "a"): ("gone", 1, None)}
    assert [orphans.table for orphans in reader.checks.find_orphaned_rows("child")] == ["child"]


def test_foreign_key_without_a_unique_target_hides_no_other_orphans(file, reader):
    execute(file, "update child set up = 7 where id in (3, 5)")
    execute(
        file, "create table loose (code integer); create table bad (code integer references loose (code))"
    )
    with pytest.raises(QueryFailedError):
        reader.checks.find_orphaned_rows()
    assert [(orphans.table, orphans.count) for orphans in reader.checks.find_checkable_orphans()] == [
        ("child", 2)
    ]


def test_trap_quick_check_misses_index_damage(file, reader):
    execute(file, "update sqlite_master set sql = 'create index by_a on child (up)' where name = 'by_a'")
    assert any("by_a" in line for line in reader.checks.find_damage())
    assert any("by_a" in line for line in reader.checks.find_damage(table="child"))
    assert (
        list(reader.checks.find_damage(quick=True)) == list(reader.checks.find_damage(table="parent")) == []
    )


def test_index_damage_is_parsed_for_any_index_name(file):
    execute(file, 'create index "a\nb (c" on child (up)')
    execute(
        file,
        """update sqlite_master set sql = 'create index "a' || char(10) || 'b (c" on child (up, a)' where name like 'a%'""",
    )
    with closing(SQLiteReader(file, "app/user")) as reader:
        lines = reader.checks.find_damage()
        assert {damage.index for line in lines if (damage := reader.checks.parse_index_damage(line))} == {
            "a\nb (c"
        }
        assert [line for line in lines if not reader.checks.parse_index_damage(line)] == []
        assert reader.checks.parse_index_damage("*** in database main ***") is None


def test_damage_of_text_index_is_distinguished_from_that_of_rows(reader):
    checks = reader.checks
    # as SQLite 3.53 reports it
    assert checks.concerns_text_index('fts5: corruption found reading blob 137438953473 from table "f"')
    assert checks.concerns_text_index("malformed inverted index for FTS4 table main.g")
    assert checks.concerns_text_index("malformed inverted index for FTS4 table main.g", "g")
    assert not checks.concerns_text_index("malformed inverted index for FTS4 table main.gh", "g")
    assert checks.concerns_text_index('fts5: corruption found reading blob 1 from table "f"', "f")
    assert not checks.concerns_text_index('fts5: corruption found reading blob 1 from table "f"', "blob")
    assert not checks.concerns_text_index("Tree 5 page 5: btreeInitPage() returns error code 11")
    assert not checks.concerns_text_index("wrong # of entries in index fts5: ")


def test_zeroed_page_is_reported_as_damage(file):
    with closing(sqlite3.connect(file)) as db:
        (root,) = db.execute("select rootpage from sqlite_master where name = 'child'").fetchone()
    raw = bytearray(file.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = bytes(4096)
    file.write_bytes(raw)
    with closing(SQLiteReader(file, "app/user")) as opened:
        assert list(opened.checks.find_damage())
        assert list(opened.checks.find_damage(quick=True))


CHECKED = """create table item (
  id integer primary key, amount integer default (1) constraint positive check (amount > 0 /* ) */), "check" text,
  name text check (length(name) > 1 -- the end of a line: )
  ),
  kind text check (kind in ('a)', "b", 'c')), constraint pairs check (("check" is null) = (kind is null)))"""


def write_against_checks(file, *statements):
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("pragma ignore_check_constraints = on")
        for sql in statements:
            db.execute(sql)


def test_violated_checks_of_file_that_is_read_are_counted(file):
    write_against_checks(
        file,
        CHECKED,
        "insert into item values (1, 1, 'x', 'one', 'a)'), (2, null, null, null, null), (3, 5, 'x', 'two', 'b')",
    )
    with closing(SQLiteReader(file, "app/user")) as reader:
        assert list(reader.checks.find_damage()) == []
    write_against_checks(
        file,
        "insert into item values (4, 0, null, 'four', null), (5, -1, null, 'five', null), (6, 1, null, 's', 'c')",
        "create table other (a integer check (a <> 7), b integer as (a + 1) check (b <> 9)) ",
        "insert into other values (8)",
    )
    with closing(SQLiteReader(file, "app/user")) as reader:
        assert [line.partition(": ")[::2] for line in reader.checks.find_damage()] == [
            ("CHECK constraint failed in item", "2 rows without amount > 0 /* ) */"),
            ("CHECK constraint failed in item", "1 row without length(name) > 1 -- the end of a line: )"),
            ("CHECK constraint failed in item", '1 row without ("check" is null) = (kind is null)'),
            ("CHECK constraint failed in other", "1 row without b <> 9"),
        ]
        assert len(reader.checks.find_damage(table="other")) == 1
        assert list(reader.checks.find_damage(table="parent")) == []
        assert list(reader.checks.find_damage(quick=True)) == []
        assert list(reader.checks.list_unchecked()) == []
    with closing(SQLiteWriter(file, "app/user")) as writer:  # SQLite reports each row
        assert len(writer.checks.find_damage()) == 4


def test_check_without_a_result_is_stated(file):
    with closing(sqlite3.connect(file)) as db, db:
        db.create_function("is_known", 1, lambda value: value == 1, deterministic=True)
        db.execute("create table own (a integer check (is_known(a)), b integer check (b > 0))")
        db.execute("create table document (a text check (json_extract(a, '$') is not null))")
        db.execute("insert into own values (1, 1)")
        db.execute("pragma ignore_check_constraints = on")
        db.execute("insert into own values (2, 0)")
        db.execute("insert into document values ('{')")
    with closing(SQLiteReader(file, "app/user")) as reader:
        assert list(reader.checks.find_damage()) == ["CHECK constraint failed in own: 1 row without b > 0"]
        document, function = reader.checks.list_unchecked()
        assert "document" in document
        assert function.endswith("is_known")
        assert list(reader.checks.find_damage(table="parent")) == []
        assert list(reader.checks.list_unchecked()) == []


@pytest.mark.parametrize("module", ["fts5", "fts4"])
def test_text_index_check_compares_rows_and_writes_nothing(file, module):
    extra = ", content_rowid='id'" if module == "fts5" else ""
    execute(file, f"create virtual table \"a 'b\" using {module}(a, content='child'{extra})")
    execute(file, "insert into \"a 'b\"(\"a 'b\") values ('rebuild')")
    initial = file.read_bytes()
    with closing(SQLiteWriter(file, "app/user")) as writer:
        assert list(writer.checks.list_text_indexes()) == ["a 'b"]
        assert writer.checks.check_text_index("a 'b") == ""
        assert writer.checks.check_text_index("a 'b") == "", "the first call left no open transaction"
    assert file.read_bytes() == initial
    execute(file, "update child set a = 'another word' where id = 4")
    with closing(SQLiteWriter(file, "app/user")) as writer:
        assert "malformed" in writer.checks.check_text_index("a 'b")
        with pytest.raises(NotSupportedError):
            writer.checks.check_text_index("child")


def test_reader_does_not_check_text_indexes(file):
    execute(file, "create virtual table words using fts5(a)")
    initial = file.read_bytes()
    with closing(SQLiteReader(file, "app/user")) as opened:
        with pytest.raises(DbctlError):
            opened.checks.check_text_index("words")
        assert opened.count("child") == 400
    assert file.read_bytes() == initial


# SQLite ignores all frames after a damaged frame of the -wal, and integrity_check reports ok ---------------------------


@pytest.fixture
def wal(tmp_path):
    """Create a -wal with 40 commits and no checkpoint."""
    with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None)) as db:
        for sql in ("pragma journal_mode = wal", "pragma wal_autocheckpoint = 0", "create table t (a)"):
            db.execute(sql)
        for number in range(40):
            db.execute("insert into t values (?)", (str(number) * 500,))
        yield tmp_path / "w.db-wal"


def test_valid_wal_has_no_lost_commits(wal, tmp_path):
    assert count_lost_commits(wal) == 0
    assert count_lost_commits(tmp_path / "none") == 0
    (tmp_path / "empty").touch()
    assert count_lost_commits(tmp_path / "empty") == 0


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.9])
def test_flipped_bit_loses_all_later_commits(wal, tmp_path, part):
    raw = bytearray(wal.read_bytes())
    frames = (len(raw) - 32) // 4120
    number = int(frames * part)
    raw[32 + number * 4120 + 2000] ^= 4
    (tmp_path / "flipped").write_bytes(raw)
    lost = count_lost_commits(tmp_path / "flipped")
    assert 0 < lost <= frames - number
    with closing(sqlite3.connect(tmp_path / "w.db")) as db:  # the rows that SQLite reads
        row_count = db.execute("select count(*) from t").fetchone()[0]
    (tmp_path / "copy.db").write_bytes((tmp_path / "w.db").read_bytes())
    (tmp_path / "copy.db-wal").write_bytes(raw)
    with closing(SQLiteReader(tmp_path / "copy.db", "app/user")) as reader:
        assert list(reader.checks.find_damage()) == []
        remaining = reader.count("t") if "t" in reader.tables() else 0
        assert reader.checks.count_lost_commits() == lost
    assert row_count - remaining in {lost, lost - 1}, "creating the table is also a commit"


def test_damaged_wal_header_loses_all_commits(wal, tmp_path):
    raw = bytearray(wal.read_bytes())
    raw[13] ^= 1
    (tmp_path / "flipped").write_bytes(raw)
    assert count_lost_commits(tmp_path / "flipped") == 41


def test_old_and_incomplete_frames_are_normal(wal, tmp_path):
    (tmp_path / "torn").write_bytes(wal.read_bytes()[:-100])
    assert count_lost_commits(tmp_path / "torn") == 0
    with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None)) as db:
        db.execute("pragma wal_checkpoint(restart)")
        db.execute("insert into t values ('again')")
        assert wal.stat().st_size > 4120 * 20
        assert count_lost_commits(wal) == 0


# Pending pages of a -wal --------------------------------------------------------------------------------------------

GROW = "with recursive n(i) as (select 1 union all select i + 1 from n where i < {}) insert into t select hex(randomblob(200)) from n"


@pytest.fixture
def live(tmp_path):
    """Create a database with changes in its -wal and without a checkpoint; yield an open connection."""
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma wal_autocheckpoint = 0")
        db.execute("create table t (a)")
        db.execute(GROW.format(300))
        yield db


def count_pending(path):
    with closing(SQLiteReader(path, "app/user")) as opened:
        return opened.storage.measure_storage().wal_pages


def run_checkpoint(db, kind="passive"):
    """Run a checkpoint; return the number of pages in the -wal, and how many of them were copied to the database."""
    busy, pages, checkpointed = db.execute(f"pragma wal_checkpoint({kind})").fetchone()
    assert busy == 0
    return pages, checkpointed


def test_pending_pages_match_checkpoint_and_reading_moves_none(live, tmp_path):
    path = tmp_path / "live.db"
    initial = path.read_bytes(), (tmp_path / "live.db-wal").read_bytes()
    pending = count_pending(path)
    assert (path.read_bytes(), (tmp_path / "live.db-wal").read_bytes()) == initial
    assert run_checkpoint(live) == (pending, pending)
    assert pending > 20
    assert count_pending(path) == 0, "the -wal is as long as before, without pending pages"


def test_pages_blocked_by_a_reader_stay_pending(live, tmp_path):
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as slow:
        slow.execute("begin")
        slow.execute("select count(*) from t").fetchone()  # its snapshot must not be overwritten
        live.execute(GROW.format(200))
        pages, checkpointed = run_checkpoint(live)
        assert 0 < checkpointed < pages
        assert count_pending(path) == pages - checkpointed
        slow.execute("commit")
    assert run_checkpoint(live) == (pages, pages)
    live.execute("insert into t values ('restarts the -wal')")
    assert count_pending(path) == 1 < pages
    with closing(SQLiteWriter(path, "app/user")) as writer:
        assert writer.storage.measure_storage().wal_pages == 1
    run_checkpoint(live, "truncate")
    assert count_pending(path) == 0


def test_rolled_back_pages_are_not_pending(live, tmp_path):
    live.execute("pragma cache_size = 1")
    pending = count_pending(tmp_path / "live.db")
    live.execute("begin")
    live.execute(GROW.format(3000))
    assert (tmp_path / "live.db-wal").stat().st_size > 24 * pending + 4096 * (pending + 50)
    assert count_pending(tmp_path / "live.db") == pending, "not committed"
    live.execute("rollback")
    assert count_pending(tmp_path / "live.db") == pending


def test_without_descriptor_all_committed_pages_count(live, tmp_path, monkeypatch):
    monkeypatch.setattr("dbctl.engines.sqlite.files.DESCRIPTORS", tmp_path / "none")
    live.execute("pragma cache_size = 1")
    pending = count_pending(tmp_path / "live.db")
    live.execute("begin")
    live.execute(GROW.format(3000))
    live.execute("rollback")
    assert count_pending(tmp_path / "live.db") == pending == run_checkpoint(live)[0]
    live.execute("insert into t values ('restarts the -wal')")
    assert count_pending(tmp_path / "live.db") == 1
    (tmp_path / "torn.db-wal").write_bytes((tmp_path / "live.db-wal").read_bytes()[:20])
    assert count_pending_pages(tmp_path / "torn.db") == 0
    assert count_pending_pages(tmp_path / "none.db") == 0


def test_wal_of_a_killed_program_is_counted_as_recovered(live, tmp_path):
    pages = count_pending(tmp_path / "live.db")
    for name in ("live.db", "live.db-wal"):
        (tmp_path / name.replace("live", "left")).write_bytes((tmp_path / name).read_bytes())
    assert count_pending(tmp_path / "left.db") == pages
    with closing(sqlite3.connect(tmp_path / "left.db")) as db:
        assert run_checkpoint(db) == (pages, pages)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the holders of locks")
def test_counting_pages_keeps_the_locks_on_the_shm(live, tmp_path):
    index = f":{(tmp_path / 'live.db-shm').stat().st_ino} "

    def list_own_locks():
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        return [line.split()[1:] for line in locks if index in line and f" {os.getpid()} " in line]

    with closing(SQLiteReader(tmp_path / "live.db", "app/user")) as opened:
        initial = list_own_locks()
        assert initial
        assert opened.storage.measure_storage().wal_pages
        assert list_own_locks() == initial
