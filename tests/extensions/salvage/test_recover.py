"""Recovery of damaged SQLite files: all intact rows, no wrong rows, and a report of the others."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sqlite3
import stat
from contextlib import closing

import pytest

from dbctl.engines.sqlite.files import read_varint
from dbctl.errors.backup import UnrecoverableError
from dbctl.errors.connection import (
    CorruptError,
    DatabaseMissingError,
    FileExistsAlreadyError,
    InsufficientSpaceError,
    NotADatabaseError,
    UnreachableError,
)
from dbctl.extensions.salvage.contract import SalvageRequest
from dbctl.extensions.salvage.sqlite import recover as recovering
from dbctl.extensions.salvage.sqlite.records import Decoder, RecordError, longest_increasing
from tests.engines.sqlite import damaged_files
from tests.engines.sqlite.damaged_files import PAGE, TABLES, damage, read_rows


@pytest.fixture(scope="module")
def intact_file(tmp_path_factory):
    return damaged_files.build(tmp_path_factory.mktemp("whole") / "app.db")


@pytest.fixture(scope="module")
def raw(intact_file):
    return intact_file.read_bytes()


@pytest.fixture(scope="module")
def expected_rows(intact_file):
    return read_rows(intact_file)


def run_recover(path, *, name="new.db", **options):
    request = SalvageRequest(source=path, destination=path.with_name(name), **options)
    return recovering.recover(request, "app/db", lambda _share: None)


def write_bytes(path, raw):
    path.write_bytes(raw)
    return path


def create_database(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
    return path


def query(path, sql, *values):
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        return db.execute(sql, values).fetchall()


def find_table(result, table):
    return next(entry for entry in result.tables if entry.table == table)


def list_incomplete(result):
    """Return the tables with rows that are lost, not read or rejected."""
    return [entry.table for entry in result.tables if entry.lost or entry.unread_ranges or entry.rejected]


def finding_codes(result, severity="error"):
    return {finding.code for finding in result.findings if finding.severity == severity}


def find_root(path, table):
    return query(path, "select rootpage from sqlite_master where name = ?", table)[0][0]


# Valid files ------------------------------------------------------------------------------------------------------


def test_valid_database_is_not_recovered(intact_file):
    result = run_recover(intact_file)
    assert (result.created, list(intact_file.parent.iterdir())) == (False, [intact_file])


def test_forced_recovery_of_a_valid_database_is_complete(tmp_path, raw, expected_rows):
    result = run_recover(write_bytes(tmp_path / "app.db", raw), force=True)
    assert read_rows(tmp_path / "new.db") == expected_rows
    assert list_incomplete(result) == []
    assert all(table.saved == sum(expected_rows[table.table].values()) for table in result.tables)
    assert (result.findings, result.rejected_rows) == ([], None)
    sequence_sql = "select seq from sqlite_sequence where name = 'events'"
    assert query(tmp_path / "new.db", sequence_sql) == query(tmp_path / "app.db", sequence_sql)


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
def test_every_value_is_recovered_unchanged(tmp_path, encoding, mode):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for pragma in (f"encoding = '{encoding}'", f"auto_vacuum = {mode}", "user_version = -7"):
            db.execute(f"pragma {pragma}")
        db.execute("pragma application_id = 4242")
        db.execute("create table v (a, b text, c real, d integer, e blob)")
        db.executemany("insert into v values (?1, ?1, ?1, ?1, ?1)", ([value] for value in VALUES))
        db.execute(
            "insert into v (b) values (cast(x'61ff62d8' as text))"
        )  # text that is valid in no encoding
    run_recover(path, force=True)
    for sql in (
        "select rowid, typeof(a), hex(a), a, typeof(b), hex(b), typeof(c), c, typeof(d), hex(d), e from v",
        "select * from pragma_encoding, pragma_auto_vacuum, pragma_user_version, pragma_application_id",
    ):
        original_rows = [repr(row) for row in query(path, sql.replace(" a, ", " quote(a), "))]
        assert original_rows == [
            repr(row) for row in query(tmp_path / "new.db", sql.replace(" a, ", " quote(a), "))
        ]


def test_generated_added_and_triggered_objects_are_recovered(tmp_path):
    path = create_database(
        tmp_path / "app.db",
        "create table t (a int, v int as (a * 2) virtual, s text as ('s' || a) stored, b text not null)",
        "insert into t (a, b) values (1, 'one'), (2, 'two')",
        "alter table t add column c text default 'later'",
        "alter table t add column d int default (-5)",
        "alter table t add column e text default later",
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
    result = run_recover(path, force=True)
    assert (finding_codes(result), finding_codes(result, "warning")) == (set(), set())
    for sql in (
        "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite_stat%' order by 2",
        "select *, rowid from t",
        "select * from seen",
        "select * from log",
        "select * from own",
        'select * from "a""b]; \n"',
        "select tbl, idx from sqlite_stat1 order by 1, 2",
    ):
        assert query(path, sql) == query(tmp_path / "new.db", sql)


@pytest.mark.parametrize("damage", [False, True])
def test_text_indexes_find_recovered_rows(tmp_path, damage):
    path = create_database(
        tmp_path / "app.db",
        "create table notes (id integer primary key, body text)",
        "create virtual table found using fts5 (body, content='notes', content_rowid='id')",
        "create virtual table own using fts5 (body)",
        "insert into notes values (1, 'a red fox'), (2, 'a blue whale')",
        "insert into found (rowid, body) select id, body from notes",
        "insert into own (rowid, body) select id, body from notes",
    )
    if damage:
        root = find_root(path, "found_data")
        raw = bytearray(path.read_bytes())
        raw[(root - 1) * 4096 : root * 4096] = bytes(4096)
        path.write_bytes(raw)
    result = run_recover(path, force=True)
    for table in ("found", "own"):
        sql = f"select rowid from {table} where {table} match 'whale'"
        assert query(tmp_path / "new.db", sql) == [(2,)]
    assert ("text-index-rebuilt" in finding_codes(result, "info")) is damage
    assert query(tmp_path / "new.db", "pragma integrity_check") == [(b"ok",)]


# Damaged files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zeroed", "swapped", "overwritten", "noise", "cut"])
@pytest.mark.parametrize("seed", range(4))
def test_recovery_creates_no_wrong_rows_and_reports_every_lost_row(tmp_path, raw, expected_rows, kind, seed):
    rng = damaged_files.create_rng(f"{kind} {seed}")
    path = write_bytes(tmp_path / "app.db", damage(raw, kind, rng))
    result = run_recover(path)
    if not result.created:
        assert read_rows(path) == expected_rows  # a page was replaced by itself, or was free
        return
    actual = read_rows(tmp_path / "new.db")
    uncertain_codes = finding_codes(result) & {"zeroed-pages"} or finding_codes(result, "warning") & {
        "corrupt"
    }
    for table in TABLES:
        table_result, missing, unexpected = (
            find_table(result, table),
            expected_rows[table] - actual[table],
            actual[table] - expected_rows[table],
        )
        assert table_result.saved == sum(actual[table].values())
        # Overflow pages have no keys: only SQLite's own check detects swapped ones.
        assert not unexpected or (table == "files" and uncertain_codes)
        assert (
            sum(missing.values()) <= table_result.lost + table_result.rejected + sum(unexpected.values())
            or table_result.unread_ranges
        )
        assert table_result.lost <= sum(missing.values())
    assert "corrupt-after-rebuild" not in finding_codes(result)


@pytest.mark.parametrize(("pages", "min_share"), [(1, 0.98), (10, 0.9), (50, 0.6)])
def test_minimum_share_of_rows_survives_zeroed_pages(tmp_path, raw, expected_rows, pages, min_share):
    """Measured: of 12,500 rows 12,489 survived one zeroed page, and 11,971 survived 50 of 1,160 pages."""
    rng, damaged_bytes = damaged_files.create_rng(pages), bytearray(raw)
    for number in rng.sample(range(damaged_files.FIRST_DATA_PAGE, len(raw) // PAGE), pages):
        damaged_bytes[number * PAGE : (number + 1) * PAGE] = bytes(PAGE)
    run_recover(write_bytes(tmp_path / "app.db", bytes(damaged_bytes)))
    actual = read_rows(tmp_path / "new.db")
    recovered_count = sum(
        sum((actual[table] & expected_rows[table]).values()) for table in ("notes", "events")
    )
    assert recovered_count >= min_share * sum(
        sum(expected_rows[table].values()) for table in ("notes", "events")
    )


def test_truncated_file_keeps_rows_of_its_pages(tmp_path, raw, expected_rows):
    path = write_bytes(tmp_path / "app.db", raw[: len(raw) // 2])
    result = run_recover(path)
    assert "file-truncated" in finding_codes(result, "warning")
    actual = read_rows(tmp_path / "new.db")
    assert not any(actual[table] - expected_rows[table] for table in TABLES)
    assert find_table(result, "notes").saved > 0.9 * sum(expected_rows["notes"].values())


def test_flipped_bits_lose_few_rows(tmp_path, raw, expected_rows):
    result = run_recover(
        write_bytes(tmp_path / "app.db", damage(raw, "flipped", damaged_files.create_rng(1)))
    )
    assert "corrupt" in finding_codes(result, "warning")
    assert query(tmp_path / "new.db", "pragma integrity_check") == [(b"ok",)]
    for table in ("notes", "events", "words", "tags", "keys"):
        assert find_table(result, table).saved >= 0.9 * sum(expected_rows[table].values())


def test_lost_interior_page_loses_no_rows(tmp_path, intact_file, raw, expected_rows):
    damaged_bytes, root = bytearray(raw), find_root(intact_file, "notes")
    damaged_bytes[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    result = run_recover(write_bytes(tmp_path / "app.db", bytes(damaged_bytes)))
    assert read_rows(tmp_path / "new.db")["notes"] == expected_rows["notes"]
    assert "notes" not in list_incomplete(result)  # its index shows that no row is missing
    assert finding_codes(result) == set()


@pytest.mark.parametrize("table", ["events", "words"])
def test_rows_of_a_lost_pointer_are_placed_or_reported(tmp_path, intact_file, raw, expected_rows, table):
    """The children without a pointer are recovered by their rowids, or their loss is reported."""
    damaged_bytes, root = bytearray(raw), find_root(intact_file, table)
    pointer = (root - 1) * PAGE + 12  # that of the first cell of an interior page
    damaged_bytes[pointer] = 0xFF
    result = run_recover(write_bytes(tmp_path / "app.db", bytes(damaged_bytes)))
    actual = read_rows(tmp_path / "new.db")[table]
    assert not actual - expected_rows[table]
    if table == "events":
        assert actual == expected_rows[table]
    else:
        assert sum((expected_rows[table] - actual).values()) > find_table(result, table).lost
    assert find_table(result, table).unread_ranges == 1
    assert "rows-unread" in finding_codes(result)


def test_deleted_rows_stay_deleted(tmp_path, intact_file, raw, expected_rows):
    damaged_bytes, root = bytearray(raw), find_root(intact_file, "events")
    damaged_bytes[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    run_recover(write_bytes(tmp_path / "app.db", bytes(damaged_bytes)))
    actual = read_rows(tmp_path / "new.db")["events"]
    assert actual
    assert not actual - expected_rows["events"]


def test_damaged_free_list_prevents_use_of_unlinked_pages(tmp_path, intact_file, raw, expected_rows):
    damaged_bytes, root = bytearray(raw), find_root(intact_file, "events")
    damaged_bytes[(root - 1) * PAGE : root * PAGE] = bytes(PAGE)
    damaged_bytes[36:40] = b"\0\0\0\1"  # fewer free pages than in the list
    result = run_recover(write_bytes(tmp_path / "app.db", bytes(damaged_bytes)))
    assert find_table(result, "events").saved == 0
    assert "unlinked" in finding_codes(result)
    rejected = set(
        query(result.rejected_rows, "select recovered_rowid, field2, field3, field4 from rows_of_no_table")
    )
    assert {(row[0], *row[2:]) for row in expected_rows["events"]} <= rejected  # and some deleted rows


def test_different_values_in_index_are_reported(tmp_path, intact_file, raw):
    row_id = query(intact_file, "select min(id) from notes where who = 'notes7'")[0][0]
    damaged_bytes = bytearray(raw)
    offset = raw.index(b"notes7notes", PAGE)  # in the table; in the index no text follows
    damaged_bytes[offset + 5] ^= 1
    result = run_recover(write_bytes(tmp_path / "app.db", bytes(damaged_bytes)))
    message = next(finding.message for finding in result.findings if finding.code == "values-differ")
    assert "notes_who" in message
    assert row_id


def test_several_indexes_have_text_that_is_invalid(tmp_path):
    path = create_database(
        tmp_path / "app.db",
        "create table people (id integer primary key, name text, city text, note text)",
        "create index people_name on people (name)",
        "create index people_city on people (city, name)",
        "insert into people values (1, cast(x'61ff' as text), cast(x'ff62' as text), 'a'), (2, 'b', 'c', 'd')",
    )
    result = run_recover(path, force=True)
    assert (find_table(result, "people").saved, finding_codes(result)) == (2, set())
    rows = query(tmp_path / "new.db", "select * from people")
    assert rows == [(1, b"a\xff", b"\xffb", b"a"), (2, b"b", b"c", b"d")]


def test_zeroed_page_of_an_index_loses_no_row(tmp_path):
    """The rowid is at the end of an entry, so it is in the last overflow page of a long one."""
    path = create_database(
        tmp_path / "app.db",
        "pragma page_size = 512",
        "create table notes (id integer primary key, body text)",
        "insert into notes values (1, 'short'), (2, 'long' || printf('%.600c', 'x'))",
        "create index notes_body on notes (body)",
    )
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"xxxx")  # the last overflow page is that of the index
    page = entry - entry % 512
    raw[page : page + 512] = bytes(512)
    result = run_recover(write_bytes(path, bytes(raw)))
    assert "notes" not in list_incomplete(result)
    assert finding_codes(result) == set()
    assert [len(body) for _, body in query(tmp_path / "new.db", "select * from notes order by 1")] == [5, 604]


def test_refused_rows_are_rejected_with_reason(tmp_path):
    path = create_database(
        tmp_path / "app.db",
        "create table t (id integer primary key, u text, n int)",
        "insert into t values (1, 'a', 1), (2, 'a', 2), (3, 'b', null), (4, 'c', 9)",
        "pragma writable_schema = on",
        "update sqlite_master set sql = 'create table t (id integer primary key, u text, n int not null check (n < 5))'",
    )
    result = run_recover(path, force=True)
    assert (find_table(result, "t").saved, find_table(result, "t").rejected) == (2, 2)
    rejected = query(
        result.rejected_rows, "select recovered_reason, recovered_rowid, id, u, n from t order by id"
    )
    assert rejected == [
        (b"NOT NULL constraint failed: t.n", 3, 3, b"b", None),
        (b"CHECK constraint failed: n < 5", 4, 4, b"c", 9),
    ]
    assert result.rejected_rows.name == "new.rejected.db"


def test_unique_index_over_duplicates_is_reported(tmp_path):
    path = create_database(
        tmp_path / "app.db",
        "create table t (u text)",
        "create index i on t (u)",
        "insert into t values ('a'), ('a')",
        "pragma writable_schema = on",
        "update sqlite_master set sql = 'create unique index i on t (u)' where name = 'i'",
    )
    result = run_recover(path)
    assert (find_table(result, "t").saved, finding_codes(result)) == (2, {"not-created"})


def test_orphaned_rows_are_recovered_and_reported(tmp_path):
    path = create_database(
        tmp_path / "app.db",
        "create table p (id integer primary key)",
        "create table c (id integer primary key, p int references p)",
        "insert into p values (1)",
        "insert into c values (1, 1), (2, 7)",
    )
    result = run_recover(path, force=True)
    assert (find_table(result, "c").saved, finding_codes(result), finding_codes(result, "warning")) == (
        2,
        set(),
        {"foreign-key-orphans"},
    )


# Damaged first page -------------------------------------------------------------------------------------------------


def test_lost_first_page_is_replaced_by_that_of_the_reference(tmp_path, intact_file, raw, expected_rows):
    path = write_bytes(tmp_path / "app.db", bytes(PAGE) + raw[PAGE:])
    with pytest.raises(UnrecoverableError) as failure:
        run_recover(path)
    assert "--reference" in failure.value.hint
    assert list(tmp_path.iterdir()) == [path]
    result = run_recover(path, reference=intact_file)
    assert read_rows(tmp_path / "new.db") == expected_rows
    assert {"catalog-damaged"} == finding_codes(result) - {"unlinked"}


def test_moved_table_is_matched_by_its_rows(tmp_path):
    """A restore or VACUUM moves tables; another table with the same columns must not be matched by its root page."""
    fill_statements = [
        "insert into {0} with recursive n(i) as (select 1 union all select i + 1 from n where i < 300) select i, '{0}' || i from n"
    ]
    tables = ("red", "blue", "green")
    for name, order in (("like.db", tables), ("app.db", tables[::-1])):
        create_statements = [
            f"create table {table} (id integer primary key, v text)" for table in (*order, "none")
        ]
        create_database(
            tmp_path / name, *create_statements, *(fill_statements[0].format(table) for table in order)
        )
    path = tmp_path / "app.db"
    expected_rows = read_rows(path, tables)
    write_bytes(path, bytes(4096) + path.read_bytes()[4096:])
    result = run_recover(path, reference=tmp_path / "like.db")
    assert read_rows(tmp_path / "new.db", tables) == expected_rows
    assert "table-unknown" in finding_codes(result)  # the table without rows
    assert list_incomplete(result) == ["none"]


def test_pages_of_unknown_tables_are_not_assigned(tmp_path):
    padding = ", ".join(f"column_{number} text" for number in range(60))
    path = create_database(
        tmp_path / "app.db",
        "pragma page_size = 1024",
        *(f"create table {table} (id integer primary key, v text, {padding})" for table in ("red", "blue")),
        *(
            f"insert into {table} (id, v) with recursive n(i) as (select 1 union all select i + 1 from n where i < 300) select i, '{table}' from n"
            for table in ("red", "blue")
        ),
    )
    raw, root = bytearray(path.read_bytes()), find_root(path, "red")
    catalog_page = raw.rindex(b"column_40 text") // 1024  # an overflow page of the second table's catalog row
    assert catalog_page > 0
    root_offset = (root - 1) * 1024
    cell = root_offset + int.from_bytes(raw[root_offset + 12 : root_offset + 14], "big")
    first_leaf = int.from_bytes(raw[cell : cell + 4], "big")
    for number in (catalog_page, root - 1, first_leaf - 1):
        raw[number * 1024 : (number + 1) * 1024] = bytes(1024)
    result = run_recover(write_bytes(path, bytes(raw)))
    assert "catalog-damaged" in finding_codes(result)
    assert query(tmp_path / "new.db", "select count(*) from red where v <> 'red'") == [(0,)]


def test_file_without_header_is_read_with_guessed_page_size(tmp_path, raw, expected_rows):
    path = write_bytes(tmp_path / "app.db", bytes(100) + raw[100:])
    result = run_recover(path)
    assert read_rows(tmp_path / "new.db") == expected_rows
    assert "header-damaged" in finding_codes(result, "warning")


@pytest.mark.parametrize("size", [size for size in (512, 1024, 2048, 8192, 16384, 1) if size != PAGE])
@pytest.mark.parametrize("appended", [b"", b"x" * 100])
def test_wrong_page_size_in_header_loses_no_rows(tmp_path, raw, expected_rows, size, appended):
    path = write_bytes(tmp_path / "app.db", raw[:16] + size.to_bytes(2, "big") + raw[18:] + appended)
    result = run_recover(path)
    assert read_rows(tmp_path / "new.db") == expected_rows
    assert "header-damaged" in finding_codes(result, "warning")
    assert "file-truncated" not in finding_codes(result, "warning")


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (b"TABLE notes", b"TABLE other", "notes"),  # the declaration
        (b"notesnotes", b"nopesnotes", "notes"),  # the entry: type, name, tbl_name follow each other
    ],
)
def test_table_with_two_names_keeps_its_rows(tmp_path, old, new, name):
    path = create_database(
        tmp_path / "app.db",
        "create table before (a)",
        "CREATE TABLE notes (id integer primary key, body text)",
        "create table later (a)",
        "insert into notes (body) values ('one'), ('two')",
        "insert into later values (3)",
    )
    raw = path.read_bytes()
    assert raw.count(old) == 1
    result = run_recover(write_bytes(path, raw.replace(old, new)))
    assert query(tmp_path / "new.db", f"select body from {name}") == [(b"one",), (b"two",)]
    assert query(tmp_path / "new.db", "select a from later") == [(3,)]
    assert "name-differs" in finding_codes(result)


@pytest.mark.parametrize(
    ("content_bytes", "failure"),
    [
        (b"", UnrecoverableError),
        (b"x", UnrecoverableError),
        (b"garbage" * 1000, UnrecoverableError),
        (damaged_files.create_rng(1).randbytes(50_000), UnrecoverableError),
        (b"SQLite format 3\0" + b"\xff" * 9000, UnrecoverableError),
    ],
)
def test_invalid_file_is_unrecoverable(tmp_path, content_bytes, failure):
    path = write_bytes(tmp_path / "app.db", content_bytes)
    with pytest.raises(failure):
        run_recover(path)
    assert list(tmp_path.iterdir()) == [path]


def test_compressed_file_is_refused(tmp_path, raw):
    """With a reference, all rows of the new file were lost."""
    write_bytes(tmp_path / "like.db", raw)
    path = write_bytes(tmp_path / "app.db.gz", gzip.compress(raw)[:-9])
    with pytest.raises(UnrecoverableError, match="compressed"):
        run_recover(path, reference=tmp_path / "like.db")
    assert {*tmp_path.iterdir()} == {path, tmp_path / "like.db"}


@pytest.mark.parametrize(
    ("content_bytes", "failure"), [(b"x" * 5000, NotADatabaseError), (None, CorruptError)]
)
def test_invalid_reference_is_refused(tmp_path, raw, content_bytes, failure):
    path = write_bytes(tmp_path / "app.db", raw)
    write_bytes(tmp_path / "like.db", content_bytes or raw[:100] + bytes(PAGE) + raw[PAGE + 100 :])
    with pytest.raises(failure):
        run_recover(path, reference=tmp_path / "like.db")


# Side files ---------------------------------------------------------------------------------------------------------


def create_with_wal(folder):
    """Create a database with ten commits in its ``-wal``, as after a killed process."""
    folder.mkdir()
    path = folder / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma wal_autocheckpoint = 0")
        db.execute("create table t (id integer primary key, body text)")
        db.execute("pragma wal_checkpoint(truncate)")
        for number in range(10):
            db.execute("insert into t values (?, ?)", [number, "x" * 100])
        files = {name: (folder / name).read_bytes() for name in ("app.db", "app.db-wal")}
    for name, content_bytes in files.items():
        (folder / name).write_bytes(content_bytes)
    return path


def test_wal_is_recovered_and_not_changed(tmp_path):
    path = create_with_wal(tmp_path / "a")
    initial = read_states(path.parent)
    run_recover(path, force=True)
    assert query(path.with_name("new.db"), "select count(*) from t") == [(10,)]
    assert query(path.with_name("new.db"), "pragma journal_mode") == [(b"wal",)]
    assert {name: state for name, state in read_states(path.parent).items() if name in initial} == initial


def test_damaged_wal_loses_later_commits_only(tmp_path):
    path = create_with_wal(tmp_path / "a")
    wal = path.with_name("app.db-wal")
    content_bytes = bytearray(wal.read_bytes())
    content_bytes[32 + 5 * (24 + 4096) + 200] ^= 1  # in the sixth frame; each commit has one frame
    wal.write_bytes(content_bytes)
    result = run_recover(path)
    assert query(path.with_name("new.db"), "select count(*) from t") == [(5,)]
    assert finding_codes(result) == {"commits-lost"}
    assert any("5 commits" in finding.message for finding in result.findings)


def test_interrupted_write_is_rolled_back_in_the_copy_only(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma cache_size = 5")
        db.execute("create table t (id integer primary key, body text)")
        db.executemany("insert into t (body) values (?)", (["x" * 500] for _ in range(200)))
        db.execute("begin")
        db.execute("update t set body = 'half'")
        files = {name: (tmp_path / name).read_bytes() for name in ("app.db", "app.db-journal")}
        db.execute("rollback")
    for name, content_bytes in files.items():
        (tmp_path / name).write_bytes(content_bytes)
    initial = read_states(tmp_path)
    assert b"half" in files["app.db"]
    run_recover(path, force=True)
    assert query(tmp_path / "new.db", "select count(*) from t where body = 'half'") == [(0,)]
    assert {name: state for name, state in read_states(tmp_path).items() if name in initial} == initial


def read_states(folder):
    return {
        path.name: (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
            path.stat().st_ino,
        )
        for path in folder.iterdir()
    }


# The new file -------------------------------------------------------------------------------------------------------


def test_new_file_has_mode_and_owner_of_the_damaged_file(tmp_path, raw):
    path = write_bytes(tmp_path / "app.db", raw)
    path.chmod(0o640)
    if not os.geteuid():
        os.chown(path, 1234, 1234)
    run_recover(path, force=True)
    new_status, old_status = (tmp_path / "new.db").stat(), path.stat()
    assert stat.S_IMODE(new_status.st_mode) == 0o640
    assert (new_status.st_uid, new_status.st_gid) == (old_status.st_uid, old_status.st_gid)


@pytest.mark.parametrize("name", ["new.db", "new.rejected.db"])
def test_existing_file_is_never_replaced(tmp_path, raw, name):
    path = write_bytes(tmp_path / "app.db", raw)
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(FileExistsAlreadyError):
        run_recover(path, force=True)
    assert (tmp_path / name).is_symlink()


def test_leftovers_of_a_killed_recovery_are_removed(tmp_path, raw, monkeypatch):
    path = write_bytes(tmp_path / "app.db", raw)
    monkeypatch.setattr(shutil, "rmtree", lambda *_arguments, **_options: None)
    run_recover(path, force=True)
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.undo()
    run_recover(path, force=True, name="second.db")
    assert {path.name for path in tmp_path.iterdir()} == {"app.db", "new.db", "second.db"}


def test_missing_file_and_directory_are_reported(tmp_path):
    with pytest.raises(DatabaseMissingError):
        run_recover(tmp_path / "none.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreachableError):
        run_recover(tmp_path / "folder")


def test_too_little_space_is_refused_before_writing(tmp_path, raw, monkeypatch):
    path = write_bytes(tmp_path / "app.db", raw)
    status = os.statvfs(tmp_path)
    nearly_full = os.statvfs_result([*status[:4], 1, *status[5:]])
    monkeypatch.setattr(os, "statvfs", lambda _path: nearly_full)
    with pytest.raises(InsufficientSpaceError):
        run_recover(path)
    assert list(tmp_path.iterdir()) == [path]


# Records ------------------------------------------------------------------------------------------------------------


def test_varints_of_any_length_are_read():
    assert read_varint(b"\x7f", 0) == (127, 1)
    assert read_varint(b"\x81\x00", 0) == (128, 2)
    assert read_varint(b"\xff" * 9, 0) == (-1, 9)
    assert read_varint(b"\xbf" + b"\xff" * 8, 0) == (2**63 - 1 - 2**62 + 2**62, 9)
    with pytest.raises(IndexError):
        read_varint(b"\xff\xff", 0)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\2\1", b"\2\1\0\0", b"\2\x0a", b"\5\1\1", b"\x81"])
def test_inconsistent_bytes_are_not_a_record(payload):
    with pytest.raises(RecordError):
        Decoder("utf-8").decode(payload)


def test_longest_increasing_subsequence():
    assert longest_increasing(dict(enumerate([1, 2, 900, 3, 4]))) == {0, 1, 3, 4}
    assert longest_increasing({}) == set()
    assert longest_increasing(dict(enumerate([5, 5]))) in ({0}, {1})
