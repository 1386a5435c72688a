"""What can be read of a damaged SQLite file: all that is whole, nothing that is wrong, and word of the rest."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
from contextlib import closing

import pytest

from dbctl.engines.contract.recovery import Recovery
from dbctl.engines.sqlite import recover as recovering
from dbctl.engines.sqlite.recover.records import Decoder, RecordError, rising, varint
from dbctl.errors import (
    CorruptError,
    DatabaseMissingError,
    FileExistsAlreadyError,
    NotADatabaseError,
    RecoverHopelessError,
    RoomMissingError,
    UnreachableError,
)
from tests.engines.sqlite import damaged_files
from tests.engines.sqlite.damaged_files import PAGE, TABLES, content, damaged


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return damaged_files.build(tmp_path_factory.mktemp("whole") / "app.db")


@pytest.fixture(scope="module")
def raw(whole):
    return whole.read_bytes()


@pytest.fixture(scope="module")
def want(whole):
    return content(whole)


def recover(path, *, name="new.db", **more):
    given = Recovery(source=path, to=path.with_name(name), **more)
    return recovering.recover(given, "app/db", lambda _share: None)


def spoil(path, raw):
    path.write_bytes(raw)
    return path


def made(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
    return path


def ask(path, sql, *values):
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        return db.execute(sql, values).fetchall()


def of(found, table):
    return next(one for one in found.tables if one.table == table)


def codes(found, severity="error"):
    return {one.code for one in found.concerns if one.severity == severity}


def root_of(path, table):
    return ask(path, "select rootpage from sqlite_master where name = ?", table)[0][0]


# A sound one ------------------------------------------------------------------------------------------------------


def test_a_sound_database_is_left_alone(whole):
    found = recover(whole)
    assert (found.made, list(whole.parent.iterdir())) == (False, [whole])


def test_a_sound_database_read_all_the_same_comes_back_row_for_row(tmp_path, raw, want):
    found = recover(spoil(tmp_path / "app.db", raw), anyway=True)
    assert content(tmp_path / "new.db") == want
    assert all(one.whole and one.saved == sum(want[one.table].values()) for one in found.tables)
    assert (found.concerns, found.aside) == ([], None)
    last = "select seq from sqlite_sequence where name = 'events'"
    assert ask(tmp_path / "new.db", last) == ask(tmp_path / "app.db", last)


VALUES = [
    None,
    0,
    1,
    -1,
    127,
    -128,
    2**15,
    2**23,
    -(2**31),
    2**47,
    2**63 - 1,
    -(2**63),
    0.1,
    -1e308,
    float("inf"),
    1e-320,
    "",
    "ä€😀",
    "a\0b",
    "x" * 5000,
    b"",
    b"\0\xff",
    bytes(range(256)) * 40,
]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_every_value_comes_back_as_it_is(tmp_path, encoding, mode):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for pragma in (f"encoding = '{encoding}'", f"auto_vacuum = {mode}", "user_version = -7"):
            db.execute(f"pragma {pragma}")
        db.execute("pragma application_id = 4242")
        db.execute("create table v (a, b text, c real, d integer, e blob)")
        db.executemany("insert into v values (?1, ?1, ?1, ?1, ?1)", ([one] for one in VALUES))
        db.execute("insert into v (b) values (cast(x'61ff62d8' as text))")  # text of no encoding
    recover(path, anyway=True)
    for sql in (
        "select rowid, typeof(a), hex(a), a, typeof(b), hex(b), typeof(c), c, typeof(d), hex(d), e from v",
        "select * from pragma_encoding, pragma_auto_vacuum, pragma_user_version, pragma_application_id",
    ):
        told = [repr(row) for row in ask(path, sql.replace(" a, ", " quote(a), "))]
        assert told == [repr(row) for row in ask(tmp_path / "new.db", sql.replace(" a, ", " quote(a), "))]


def test_what_is_computed_checked_added_later_or_fired_comes_back(tmp_path):
    path = made(
        tmp_path / "app.db",
        "create table t (a int, v int as (a * 2) virtual, s text as ('s' || a) stored, b text not null)",
        "insert into t (a, b) values (1, 'one'), (2, 'two')",
        "alter table t add column c text default 'later'",
        "alter table t add column d int default (-5)",
        "insert into t (a, b, c, d) values (3, 'three', 'now', 4)",
        "create table log (what)",
        "create trigger fired after insert on t begin insert into log values (new.a); end",
        "create view seen as select a, v, s from t",
        "create unique index lone on t (b) where a > 1",
        "create index half on t (a + 1, b)",
        "create table own (rowid text, _rowid_ int, oid int)",
        "insert into own values ('x', 1, 2)",
        'create table "a""b]; \n" ("c""d" text primary key)',
        """insert into "a""b]; \n" values ('kept')""",
        "analyze",
    )
    found = recover(path, anyway=True)
    assert (codes(found), codes(found, "warning")) == (set(), set())
    for sql in (
        "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite_stat%' order by 2",
        "select *, rowid from t",
        "select * from seen",
        "select * from log",
        "select * from own",
        'select * from "a""b]; \n"',
        "select tbl, idx from sqlite_stat1 order by 1, 2",
    ):
        assert ask(path, sql) == ask(tmp_path / "new.db", sql)


@pytest.mark.parametrize("damage", [False, True])
def test_indexes_of_words_find_what_there_is(tmp_path, damage):
    path = made(
        tmp_path / "app.db",
        "create table notes (id integer primary key, body text)",
        "create virtual table found using fts5 (body, content='notes', content_rowid='id')",
        "create virtual table own using fts5 (body)",
        "insert into notes values (1, 'a red fox'), (2, 'a blue whale')",
        "insert into found (rowid, body) select id, body from notes",
        "insert into own (rowid, body) select id, body from notes",
    )
    if damage:
        root = root_of(path, "found_data")
        raw = bytearray(path.read_bytes())
        raw[(root - 1) * 4096 : root * 4096] = bytes(4096)
        path.write_bytes(raw)
    found = recover(path, anyway=True)
    for table in ("found", "own"):
        sql = f"select rowid from {table} where {table} match 'whale'"
        assert ask(tmp_path / "new.db", sql) == [(2,)]
    assert ("text-index" in codes(found, "info")) is damage
    assert ask(tmp_path / "new.db", "pragma integrity_check") == [(b"ok",)]


# A damaged one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["zeroed", "swapped", "overwritten", "noise", "cut"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_damaged_no_row_is_wrong_and_none_is_missing_without_a_word(
    tmp_path, raw, want, way, seed
):
    at = damaged_files.chance(f"{way} {seed}")
    path = spoil(tmp_path / "app.db", damaged(raw, way, at))
    found = recover(path)
    if not found.made:
        assert content(path) == want  # a page was exchanged for itself, or was free
        return
    got = content(tmp_path / "new.db")
    doubtful = codes(found) & {"hollow"} or codes(found, "warning") & {"corrupt"}
    for table in TABLES:
        told, missing, wrong = of(found, table), want[table] - got[table], got[table] - want[table]
        assert told.saved == sum(got[table].values())
        # Long values on pages of their own carry no key: an exchange among them shows in SQLite's words alone.
        assert not wrong or (table == "files" and doubtful)
        assert sum(missing.values()) <= told.lost + told.aside + sum(wrong.values()) or told.unread
        assert told.lost <= sum(missing.values())
    assert "corrupt-anew" not in codes(found)


@pytest.mark.parametrize(("pages", "least"), [(1, 0.98), (10, 0.9), (50, 0.6)])
def test_so_many_rows_at_least_survive_so_many_pages(tmp_path, raw, want, pages, least):
    """Facts: of 12,500 rows 12,489 survived one page of zeros, and 11,971 fifty of 1,160 pages."""
    at, spoiled = damaged_files.chance(pages), bytearray(raw)
    for number in at.sample(range(damaged_files.FIRST, len(raw) // PAGE), pages):
        spoiled[number * PAGE : (number + 1) * PAGE] = bytes(PAGE)
    recover(spoil(tmp_path / "app.db", bytes(spoiled)))
    got = content(tmp_path / "new.db")
    back = sum(sum((got[one] & want[one]).values()) for one in ("notes", "events"))
    assert back >= least * sum(sum(want[one].values()) for one in ("notes", "events"))


def test_the_first_half_of_a_file_gives_back_the_rows_on_its_pages(tmp_path, raw, want):
    path = spoil(tmp_path / "app.db", raw[: len(raw) // 2])
    found = recover(path)
    assert "file-cut" in codes(found, "warning")
    got = content(tmp_path / "new.db")
    assert not any(got[one] - want[one] for one in TABLES)
    assert of(found, "notes").saved > 0.9 * sum(want["notes"].values())


def test_200_flipped_bits_cost_few_rows_and_sqlite_finds_no_fault_in_the_rest(tmp_path, raw, want):
    found = recover(spoil(tmp_path / "app.db", damaged(raw, "flipped", damaged_files.chance(1))))
    assert "corrupt" in codes(found, "warning")
    assert ask(tmp_path / "new.db", "pragma integrity_check") == [(b"ok",)]
    for table in ("notes", "events", "words", "tags", "keys"):
        assert of(found, table).saved >= 0.9 * sum(want[table].values())


def test_an_inner_page_that_is_gone_loses_no_row_of_the_pages_below_it(tmp_path, whole, raw, want):
    spoiled, root = bytearray(raw), root_of(whole, "notes")
    spoiled[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    found = recover(spoil(tmp_path / "app.db", bytes(spoiled)))
    assert content(tmp_path / "new.db")["notes"] == want["notes"]
    assert (of(found, "notes").whole, codes(found)) == (True, set())  # its index tells that none is missing


def test_deleted_rows_stay_deleted(tmp_path, whole, raw, want):
    spoiled, root = bytearray(raw), root_of(whole, "events")
    spoiled[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    recover(spoil(tmp_path / "app.db", bytes(spoiled)))
    got = content(tmp_path / "new.db")["events"]
    assert got
    assert not got - want["events"]


def test_where_the_list_of_free_pages_is_damaged_no_page_is_taken_for_a_lost_one(tmp_path, whole, raw, want):
    spoiled, root = bytearray(raw), root_of(whole, "events")
    spoiled[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    spoiled[36:40] = b"\0\0\0\1"  # fewer free pages than there are
    found = recover(spoil(tmp_path / "app.db", bytes(spoiled)))
    assert of(found, "events").saved == 0
    assert "unlinked" in codes(found)
    kept = set(ask(found.aside, "select recovered_rowid, field2, field3, field4 from rows_of_no_table"))
    assert {(row[0], *row[2:]) for row in want["events"]} <= kept  # and with them some that were deleted


def test_a_table_and_its_index_that_disagree_are_told(tmp_path, whole, raw):
    number = ask(whole, "select min(id) from notes where who = 'notes7'")[0][0]
    spoiled = bytearray(raw)
    at = raw.index(b"notes7notes", PAGE)  # in the table; in the index the text stands alone
    spoiled[at + 5] ^= 1
    found = recover(spoil(tmp_path / "app.db", bytes(spoiled)))
    told = next(one.message for one in found.concerns if one.code == "values-differ")
    assert "notes_who" in told
    assert number


def test_rows_that_the_new_file_may_not_take_stay_aside_with_the_reason(tmp_path):
    path = made(
        tmp_path / "app.db",
        "create table t (id integer primary key, u text, n int)",
        "insert into t values (1, 'a', 1), (2, 'a', 2), (3, 'b', null), (4, 'c', 9)",
        "pragma writable_schema = on",
        "update sqlite_master set sql = 'create table t (id integer primary key, u text, n int not null check (n < 5))'",
    )
    found = recover(path, anyway=True)
    assert (of(found, "t").saved, of(found, "t").aside) == (2, 2)
    kept = ask(found.aside, "select recovered_why, recovered_rowid, id, u, n from t order by id")
    assert kept == [
        (b"NOT NULL constraint failed: t.n", 3, 3, b"b", None),
        (b"CHECK constraint failed: n < 5", 4, 4, b"c", 9),
    ]
    assert found.aside.name == "new.aside.db"


def test_a_unique_index_over_rows_that_are_not_unique_is_not_made_and_told(tmp_path):
    path = made(
        tmp_path / "app.db",
        "create table t (u text)",
        "create index i on t (u)",
        "insert into t values ('a'), ('a')",
        "pragma writable_schema = on",
        "update sqlite_master set sql = 'create unique index i on t (u)' where name = 'i'",
    )
    found = recover(path)
    assert (of(found, "t").saved, codes(found)) == (2, {"not-made"})


def test_rows_that_point_to_nothing_stay_and_are_told(tmp_path):
    path = made(
        tmp_path / "app.db",
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p int references p)",
        "insert into p values (1)",
        "insert into c values (1, 1), (2, 7)",
    )
    found = recover(path, anyway=True)
    assert (of(found, "c").saved, codes(found), codes(found, "warning")) == (
        2,
        set(),
        {"foreign-key-orphans"},
    )


# Its first page -----------------------------------------------------------------------------------------------------


def test_a_lost_first_page_comes_from_a_sound_copy(tmp_path, whole, raw, want):
    path = spoil(tmp_path / "app.db", bytes(PAGE) + raw[PAGE:])
    with pytest.raises(RecoverHopelessError) as failure:
        recover(path)
    assert "--like" in failure.value.hint
    assert list(tmp_path.iterdir()) == [path]
    found = recover(path, like=whole)
    assert content(tmp_path / "new.db") == want
    assert {"schema"} == codes(found) - {"unlinked"}


def test_a_table_that_begins_elsewhere_than_in_the_sound_copy_is_known_by_its_rows(tmp_path):
    """A restore or VACUUM moves tables; one of the same shape in the old place must not be taken for it."""
    fill = [
        "insert into {0} with recursive n(i) as (select 1 union all select i + 1 from n where i < 300) select i, '{0}' || i from n"
    ]
    tables = ("red", "blue", "green")
    for name, order in (("like.db", tables), ("app.db", tables[::-1])):
        make = [f"create table {one} (id integer primary key, v text)" for one in (*order, "none")]
        made(tmp_path / name, *make, *(fill[0].format(one) for one in order))
    path = tmp_path / "app.db"
    want = content(path, tables)
    spoil(path, bytes(4096) + path.read_bytes()[4096:])
    found = recover(path, like=tmp_path / "like.db")
    assert content(tmp_path / "new.db", tables) == want
    assert "table-unknown" in codes(found)  # the one without a row in either
    assert [one.table for one in found.tables if not one.whole] == ["none"]


def test_while_a_table_is_unknown_its_pages_do_not_pass_for_lost_ones_of_another(tmp_path):
    padding = ", ".join(f"column_{number} text" for number in range(60))
    path = made(
        tmp_path / "app.db",
        "pragma page_size = 1024",
        *(f"create table {one} (id integer primary key, v text, {padding})" for one in ("red", "blue")),
        *(
            f"insert into {one} (id, v) with recursive n(i) as (select 1 union all select i + 1 from n where i < 300) select i, '{one}' from n"
            for one in ("red", "blue")
        ),
    )
    raw, root = bytearray(path.read_bytes()), root_of(path, "red")
    listed = raw.rindex(b"column_40 text") // 1024  # a page behind the line of the second table
    assert listed > 0
    at = (root - 1) * 1024
    cell = at + int.from_bytes(raw[at + 12 : at + 14], "big")
    first = int.from_bytes(raw[cell : cell + 4], "big")  # the page of the first rows
    for number in (listed, root - 1, first - 1):
        raw[number * 1024 : (number + 1) * 1024] = bytes(1024)
    found = recover(spoil(path, bytes(raw)))
    assert "schema" in codes(found)
    assert ask(tmp_path / "new.db", "select count(*) from red where v <> 'red'") == [(0,)]


def test_a_file_without_its_magic_is_read_at_the_size_that_its_pages_have(tmp_path, raw, want):
    path = spoil(tmp_path / "app.db", bytes(100) + raw[100:])
    found = recover(path)
    assert content(tmp_path / "new.db") == want
    assert "header" in codes(found, "warning")


@pytest.mark.parametrize("size", [size for size in (512, 1024, 2048, 8192, 16384, 1) if size != PAGE])
@pytest.mark.parametrize("appended", [b"", b"x" * 100])
def test_a_wrong_page_size_in_the_header_loses_no_row(tmp_path, raw, want, size, appended):
    path = spoil(tmp_path / "app.db", raw[:16] + size.to_bytes(2, "big") + raw[18:] + appended)
    found = recover(path)
    assert content(tmp_path / "new.db") == want
    assert "header" in codes(found, "warning")
    assert "file-cut" not in codes(found, "warning")


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (b"TABLE notes", b"TABLE other", "notes"),  # the declaration
        (b"notesnotes", b"nopesnotes", "notes"),  # the entry: type, name, tbl_name follow each other
    ],
)
def test_a_table_whose_entry_and_declaration_differ_in_its_name_keeps_its_rows(tmp_path, old, new, name):
    path = made(
        tmp_path / "app.db",
        "create table before (a)",
        "CREATE TABLE notes (id integer primary key, body text)",
        "create table later (a)",
        "insert into notes (body) values ('one'), ('two')",
        "insert into later values (3)",
    )
    raw = path.read_bytes()
    assert raw.count(old) == 1
    found = recover(spoil(path, raw.replace(old, new)))
    assert ask(tmp_path / "new.db", f"select body from {name}") == [(b"one",), (b"two",)]
    assert ask(tmp_path / "new.db", "select a from later") == [(3,)]
    assert "name-differs" in codes(found)


@pytest.mark.parametrize(
    ("held", "failure"),
    [
        (b"", RecoverHopelessError),
        (b"x", RecoverHopelessError),
        (b"garbage" * 1000, RecoverHopelessError),
        (damaged_files.chance(1).randbytes(50_000), RecoverHopelessError),
        (b"SQLite format 3\0" + b"\xff" * 9000, RecoverHopelessError),
    ],
)
def test_what_is_no_database_gives_nothing_back(tmp_path, held, failure):
    path = spoil(tmp_path / "app.db", held)
    with pytest.raises(failure):
        recover(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("held", "failure"), [(b"x" * 5000, NotADatabaseError), (None, CorruptError)])
def test_a_sample_that_is_not_sound_is_refused(tmp_path, raw, held, failure):
    path = spoil(tmp_path / "app.db", raw)
    spoil(tmp_path / "like.db", held or raw[:100] + bytes(PAGE) + raw[PAGE + 100 :])
    with pytest.raises(failure):
        recover(path, like=tmp_path / "like.db")


# What stands beside it ----------------------------------------------------------------------------------------------


def walled(folder):
    """Return a database whose last ten commits stand in its ``-wal``, as one that was killed leaves it."""
    folder.mkdir()
    path = folder / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma wal_autocheckpoint = 0")
        db.execute("create table t (id integer primary key, body text)")
        db.execute("pragma wal_checkpoint(truncate)")
        for number in range(10):
            db.execute("insert into t values (?, ?)", [number, "x" * 100])
        left = {one: (folder / one).read_bytes() for one in ("app.db", "app.db-wal")}
    for name, held in left.items():
        (folder / name).write_bytes(held)
    return path


def test_what_was_committed_beside_the_file_comes_back_and_nothing_there_changes(tmp_path):
    path = walled(tmp_path / "a")
    before = states(path.parent)
    recover(path, anyway=True)
    assert ask(path.with_name("new.db"), "select count(*) from t") == [(10,)]
    assert ask(path.with_name("new.db"), "pragma journal_mode") == [(b"wal",)]
    assert {name: told for name, told in states(path.parent).items() if name in before} == before


def test_of_a_damaged_wal_the_commits_before_the_damage_come_back_and_the_others_are_told(tmp_path):
    path = walled(tmp_path / "a")
    wal = path.with_name("app.db-wal")
    held = bytearray(wal.read_bytes())
    held[32 + 5 * (24 + 4096) + 200] ^= 1  # in the sixth frame, and each commit here is one
    wal.write_bytes(held)
    found = recover(path, anyway=True)
    assert ask(path.with_name("new.db"), "select count(*) from t") == [(5,)]
    assert codes(found) == {"commits-lost"}
    assert any("5 commits" in one.message for one in found.concerns)


def test_a_write_that_was_cut_off_is_taken_back_in_the_copy_alone(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma cache_size = 5")
        db.execute("create table t (id integer primary key, body text)")
        db.executemany("insert into t (body) values (?)", (["x" * 500] for _ in range(200)))
        db.execute("begin")
        db.execute("update t set body = 'half'")
        left = {one: (tmp_path / one).read_bytes() for one in ("app.db", "app.db-journal")}
        db.execute("rollback")
    for name, held in left.items():
        (tmp_path / name).write_bytes(held)
    before = states(tmp_path)
    assert b"half" in left["app.db"]
    recover(path, anyway=True)
    assert ask(tmp_path / "new.db", "select count(*) from t where body = 'half'") == [(0,)]
    assert {name: told for name, told in states(tmp_path).items() if name in before} == before


def states(folder):
    return {
        one.name: (hashlib.sha256(one.read_bytes()).hexdigest(), one.stat().st_mtime_ns, one.stat().st_ino)
        for one in folder.iterdir()
    }


# The new file -------------------------------------------------------------------------------------------------------


def test_the_new_file_has_the_mode_and_the_owner_of_the_old_one(tmp_path, raw):
    path = spoil(tmp_path / "app.db", raw)
    path.chmod(0o640)
    if not os.geteuid():
        os.chown(path, 1234, 1234)
    recover(path, anyway=True)
    told, old = (tmp_path / "new.db").stat(), path.stat()
    assert stat.S_IMODE(told.st_mode) == 0o640
    assert (told.st_uid, told.st_gid) == (old.st_uid, old.st_gid)


@pytest.mark.parametrize("name", ["new.db", "new.aside.db"])
def test_what_stands_at_its_place_is_never_replaced(tmp_path, raw, name):
    path = spoil(tmp_path / "app.db", raw)
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(FileExistsAlreadyError):
        recover(path, anyway=True)
    assert (tmp_path / name).is_symlink()


def test_what_a_killed_recovery_left_goes_with_the_next_one(tmp_path, raw, monkeypatch):
    path = spoil(tmp_path / "app.db", raw)
    monkeypatch.setattr(shutil, "rmtree", lambda *_words, **_more: None)
    recover(path, anyway=True)
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.undo()
    recover(path, anyway=True, name="second.db")
    assert {one.name for one in tmp_path.iterdir()} == {"app.db", "new.db", "second.db"}


def test_a_file_that_is_missing_a_directory_or_may_not_be_read_is_told(tmp_path):
    with pytest.raises(DatabaseMissingError):
        recover(tmp_path / "none.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreachableError):
        recover(tmp_path / "folder")


def test_too_little_room_is_known_before_anything_is_written(tmp_path, raw, monkeypatch):
    path = spoil(tmp_path / "app.db", raw)
    told = os.statvfs(tmp_path)
    little = os.statvfs_result([*told[:4], 1, *told[5:]])
    monkeypatch.setattr(os, "statvfs", lambda _place: little)
    with pytest.raises(RoomMissingError):
        recover(path)
    assert list(tmp_path.iterdir()) == [path]


# Records ------------------------------------------------------------------------------------------------------------


def test_numbers_of_any_length_are_read_and_a_cut_one_is_no_number():
    assert varint(b"\x7f", 0) == (127, 1)
    assert varint(b"\x81\x00", 0) == (128, 2)
    assert varint(b"\xff" * 9, 0) == (-1, 9)
    assert varint(b"\xbf" + b"\xff" * 8, 0) == (2**63 - 1 - 2**62 + 2**62, 9)
    with pytest.raises(IndexError):
        varint(b"\xff\xff", 0)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\2\1", b"\2\1\0\0", b"\2\x0a", b"\5\1\1", b"\x81"])
def test_bytes_that_do_not_add_up_are_no_record(payload):
    with pytest.raises(RecordError):
        Decoder("utf-8").decoded(payload)


def test_the_longest_rising_part_leaves_out_what_stands_wrong():
    assert rising([1, 2, 900, 3, 4]) == {0, 1, 3, 4}
    assert rising([]) == set()
    assert rising([5, 5]) in ({0}, {1})
