"""What SQLite finds wrong with a file, and what it cannot find."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.engines.sqlite.wal import lost_commits
from dbctl.engines.sqlite.wal import waiting as wal_waiting
from dbctl.engines.sqlite.writer import SQLiteWriter
from dbctl.errors import DbctlError, NotSupportedError


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


def test_rows_that_point_to_nothing_are_counted_by_key(file, reader):
    execute(file, "update child set up = 7 where id in (3, 5); update child set up = null where id = 6")
    execute(file, "insert into pair values ('x', 'y')")
    found = {(one.table, *one.columns): (one.to, one.number, one.example) for one in reader.orphans()}
    assert found == {("child", "up"): ("parent", 2, "rowid 3"), ("pair", "a"): ("gone", 1, None)}
    assert [one.table for one in reader.orphans("child")] == ["child"]


def test_trap_the_quick_check_sees_no_index_that_disagrees_with_its_table_so_the_full_one_is_the_usual(
    file, reader
):
    execute(file, "update sqlite_master set sql = 'create index by_a on child (up)' where name = 'by_a'")
    assert any("by_a" in line for line in reader.damage())
    assert any("by_a" in line for line in reader.damage(table="child"))
    assert list(reader.damage(quick=True)) == list(reader.damage(table="parent")) == []


def test_a_line_about_an_index_names_it_whatever_it_is_called(file):
    execute(file, 'create index "a\nb (c" on child (up)')
    execute(
        file,
        """update sqlite_master set sql = 'create index "a' || char(10) || 'b (c" on child (up, a)' where name like 'a%'""",
    )
    with closing(SQLiteReader(file, "app/user")) as reader:
        lines = reader.damage()
        assert {one.index for line in lines if (one := reader.index_damage(line))} == {"a\nb (c"}
        assert [line for line in lines if not reader.index_damage(line)] == []
        assert reader.index_damage("*** in database main ***") is None


def test_a_page_of_zeros_is_damage_and_no_failure(file):
    with closing(sqlite3.connect(file)) as db:
        (root,) = db.execute("select rootpage from sqlite_master where name = 'child'").fetchone()
    raw = bytearray(file.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = bytes(4096)
    file.write_bytes(raw)
    with closing(SQLiteReader(file, "app/user")) as opened:
        assert list(opened.damage())
        assert list(opened.damage(quick=True))


@pytest.mark.parametrize("module", ["fts5", "fts4"])
def test_an_index_for_searching_text_is_compared_with_its_rows_and_nothing_stays_written(file, module):
    extra = ", content_rowid='id'" if module == "fts5" else ""
    execute(file, f"create virtual table \"a 'b\" using {module}(a, content='child'{extra})")
    execute(file, "insert into \"a 'b\"(\"a 'b\") values ('rebuild')")
    before = file.read_bytes()
    with closing(SQLiteWriter(file, "app/user")) as writer:
        assert list(writer.text_indexes()) == ["a 'b"]
        assert writer.text_index_damage("a 'b") == ""
        assert writer.text_index_damage("a 'b") == "", "the first left no transaction open"
    assert file.read_bytes() == before
    execute(file, "update child set a = 'another word' where id = 4")
    with closing(SQLiteWriter(file, "app/user")) as writer:
        assert "malformed" in writer.text_index_damage("a 'b")
        with pytest.raises(NotSupportedError):
            writer.text_index_damage("child")


def test_a_reader_does_not_look_into_an_index_for_searching_text(file):
    execute(file, "create virtual table words using fts5(a)")
    before = file.read_bytes()
    with closing(SQLiteReader(file, "app/user")) as opened:
        with pytest.raises(DbctlError):
            opened.text_index_damage("words")
        assert opened.count("child") == 400
    assert file.read_bytes() == before


# Facts of a -wal: SQLite drops all that stands behind a damaged frame, and integrity_check says ok -------------------


@pytest.fixture
def wal(tmp_path):
    """The -wal of 40 commits, which nobody has taken into the file yet."""
    with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None)) as db:
        for sql in ("pragma journal_mode = wal", "pragma wal_autocheckpoint = 0", "create table t (a)"):
            db.execute(sql)
        for number in range(40):
            db.execute("insert into t values (?)", (str(number) * 500,))
        yield tmp_path / "w.db-wal"


def test_a_sound_wal_has_lost_nothing(wal, tmp_path):
    assert lost_commits(wal) == 0
    assert lost_commits(tmp_path / "none") == 0
    (tmp_path / "empty").touch()
    assert lost_commits(tmp_path / "empty") == 0


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.9])
def test_one_flipped_bit_loses_every_commit_behind_it(wal, tmp_path, part):
    raw = bytearray(wal.read_bytes())
    frames = (len(raw) - 32) // 4120
    number = int(frames * part)
    raw[32 + number * 4120 + 2000] ^= 4
    (tmp_path / "flipped").write_bytes(raw)
    lost = lost_commits(tmp_path / "flipped")
    assert 0 < lost <= frames - number
    with closing(sqlite3.connect(tmp_path / "w.db")) as db:  # what SQLite makes of it
        kept = db.execute("select count(*) from t").fetchone()[0]
    (tmp_path / "copy.db").write_bytes((tmp_path / "w.db").read_bytes())
    (tmp_path / "copy.db-wal").write_bytes(raw)
    with closing(SQLiteReader(tmp_path / "copy.db", "app/user")) as reader:
        assert list(reader.damage()) == []
        left = reader.count("t") if "t" in reader.tables() else 0
        assert reader.lost_commits() == lost
    assert kept - left in {lost, lost - 1}, "making the table is a commit too"


def test_a_damaged_header_loses_everything(wal, tmp_path):
    raw = bytearray(wal.read_bytes())
    raw[13] ^= 1
    (tmp_path / "flipped").write_bytes(raw)
    assert lost_commits(tmp_path / "flipped") == 41


def test_frames_of_an_earlier_round_are_normal_and_so_is_half_a_frame(wal, tmp_path):
    (tmp_path / "torn").write_bytes(wal.read_bytes()[:-100])
    assert lost_commits(tmp_path / "torn") == 0
    with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None)) as db:
        db.execute("pragma wal_checkpoint(restart)")
        db.execute("insert into t values ('again')")
        assert wal.stat().st_size > 4120 * 20
        assert lost_commits(wal) == 0


# What waits in a -wal for a checkpoint ------------------------------------------------------------------------------

GROW = "with recursive n(i) as (select 1 union all select i + 1 from n where i < {}) insert into t select hex(randomblob(200)) from n"


@pytest.fixture
def live(tmp_path):
    """A database in use: changes wait in its -wal, of which no checkpoint has moved any."""
    with closing(sqlite3.connect(tmp_path / "live.db", isolation_level=None)) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma wal_autocheckpoint = 0")
        db.execute("create table t (a)")
        db.execute(GROW.format(300))
        yield db


def waiting(path):
    with closing(SQLiteReader(path, "app/user")) as opened:
        return opened.storage().wal_pages


def checkpointed(db, kind="passive"):
    """Return what SQLite itself says: pages in the -wal, and how many of them are in the database now."""
    busy, pages, moved = db.execute(f"pragma wal_checkpoint({kind})").fetchone()
    assert busy == 0
    return pages, moved


def test_pages_that_wait_are_as_many_as_a_checkpoint_moves_and_none_is_moved_by_asking(live, tmp_path):
    path = tmp_path / "live.db"
    before = path.read_bytes(), (tmp_path / "live.db-wal").read_bytes()
    told = waiting(path)
    assert (path.read_bytes(), (tmp_path / "live.db-wal").read_bytes()) == before
    assert checkpointed(live) == (told, told)
    assert told > 20
    assert waiting(path) == 0, "the -wal is as long as before, and nothing waits in it"


def test_pages_that_a_checkpoint_could_not_move_yet_still_wait(live, tmp_path):
    path = tmp_path / "live.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as slow:
        slow.execute("begin")
        slow.execute("select count(*) from t").fetchone()  # what it sees may not be written over
        live.execute(GROW.format(200))
        pages, moved = checkpointed(live)
        assert 0 < moved < pages
        assert waiting(path) == pages - moved
        slow.execute("commit")
    assert checkpointed(live) == (pages, pages)
    live.execute("insert into t values ('begins the -wal anew')")
    assert waiting(path) == 1 < pages
    with closing(SQLiteWriter(path, "app/user")) as writer:
        assert writer.storage().wal_pages == 1
    checkpointed(live, "truncate")
    assert waiting(path) == 0


def test_changes_that_were_taken_back_do_not_wait(live, tmp_path):
    live.execute("pragma cache_size = 1")
    told = waiting(tmp_path / "live.db")
    live.execute("begin")
    live.execute(GROW.format(3000))
    assert (tmp_path / "live.db-wal").stat().st_size > 24 * told + 4096 * (told + 50)
    assert waiting(tmp_path / "live.db") == told, "not committed"
    live.execute("rollback")
    assert waiting(tmp_path / "live.db") == told


def test_where_no_descriptor_can_be_found_every_page_of_a_whole_commit_counts(live, tmp_path, monkeypatch):
    monkeypatch.setattr("dbctl.engines.sqlite.wal.DESCRIPTORS", tmp_path / "none")
    live.execute("pragma cache_size = 1")
    told = waiting(tmp_path / "live.db")
    live.execute("begin")
    live.execute(GROW.format(3000))
    live.execute("rollback")
    assert waiting(tmp_path / "live.db") == told == checkpointed(live)[0]
    live.execute("insert into t values ('begins the -wal anew')")
    assert waiting(tmp_path / "live.db") == 1
    (tmp_path / "torn.db-wal").write_bytes((tmp_path / "live.db-wal").read_bytes()[:20])
    assert wal_waiting(tmp_path / "torn.db") == 0
    assert wal_waiting(tmp_path / "none.db") == 0


def test_a_wal_that_a_killed_program_left_is_told_as_it_will_be_recovered(live, tmp_path):
    pages = waiting(tmp_path / "live.db")
    for name in ("live.db", "live.db-wal"):
        (tmp_path / name.replace("live", "left")).write_bytes((tmp_path / name).read_bytes())
    assert waiting(tmp_path / "left.db") == pages
    with closing(sqlite3.connect(tmp_path / "left.db")) as db:
        assert checkpointed(db) == (pages, pages)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who holds which lock")
def test_asking_leaves_the_locks_on_the_index_of_the_wal_where_they_are(live, tmp_path):
    index = f":{(tmp_path / 'live.db-shm').stat().st_ino} "

    def held():
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        return [line.split()[1:] for line in locks if index in line and f" {os.getpid()} " in line]

    with closing(SQLiteReader(tmp_path / "live.db", "app/user")) as opened:
        before = held()
        assert before
        assert opened.storage().wal_pages
        assert held() == before
