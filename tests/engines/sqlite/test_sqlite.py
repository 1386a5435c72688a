"""The engine contract on SQLite, and its time forms, odd values and odd schemas."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbctl.engines.contract.database import Condition, Order, Query, after_key
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.errors.connection import ConstraintError, QueryFailedError, ReadOnlyError
from tests.conformance.contract import EngineContract
from tests.conformance.streaming import run_query


class SQLiteFixture:
    """A database file with its open readers and writers."""

    key = "integer primary key"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[SQLiteReader | SQLiteWriter] = []

    def execute(self, sql: str, *rows: tuple[object, ...]) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("pragma synchronous = off")
            if rows:
                connection.executemany(sql, rows)
            else:
                connection.execute(sql)

    def reader(self) -> SQLiteReader:
        self.opened.append(SQLiteReader(self.path, "app/user", timeout=0.3))
        return self.opened[-1]

    def writer(self) -> SQLiteWriter:
        self.opened.append(
            SQLiteWriter(self.path, "app/user", OpenOptions(timeout=0.3, pragmas={"synchronous": "0"}))
        )
        return self.opened[-1]


@pytest.fixture(params=["wal", "delete"])
def fresh(request, tmp_path):
    fixture = SQLiteFixture(tmp_path / "app.db")
    fixture.execute(f"pragma journal_mode = {request.param}")
    yield fixture
    for connection in fixture.opened:
        connection.close()


class TestSQLite(EngineContract):
    @pytest.fixture
    def fresh(self, fresh):
        return fresh


TIMESTAMP = datetime(2024, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)
EPOCH_MS = round(TIMESTAMP.timestamp() * 1000)
FORMS = {
    "iso": "2024-03-01T12:30:15.250Z",
    "space": "2024-03-01 12:30:15.250",
    "offset": "2024-03-01T14:30:15.250+02:00",
    "milliseconds": EPOCH_MS,
    "seconds": EPOCH_MS / 1000,
    "milliseconds as text": str(EPOCH_MS),
}


@pytest.fixture
def times(fresh):
    fresh.execute("create table t (id integer primary key, at)")
    odd = ["", "never", "2004", "now", b"2024", None, -(2**63), float("inf")]
    rows = [*FORMS.values(), *odd]
    fresh.execute("insert into t values (?, ?)", *enumerate(rows))
    return fresh.reader()


@pytest.mark.parametrize(
    ("shift", "op", "matches"),
    [
        (0, "=", True),
        (-1, "=", False),
        (1, "=", False),
        (0, ">=", True),
        (1, ">=", False),
        (0, "<", False),
        (1, "<", True),
    ],
)
def test_every_form_of_a_time_compares_to_the_millisecond(times, shift, op, matches):
    where = [Condition("at", op, TIMESTAMP + timedelta(milliseconds=shift)), Condition("id", "<", len(FORMS))]
    assert [row[0] for row in times.select("t", ["id"], where)] == (
        list(range(len(FORMS))) if matches else []
    )


def test_invalid_times_are_null(times):
    ordered = [row[0] for row in times.select("t", ["id"], order_by=[Order(["at"], time=True)])]
    ends = [len(FORMS) + 6, len(FORMS) + 7]
    assert ordered == [ends[0], *range(len(FORMS)), ends[1], *range(len(FORMS), len(FORMS) + 6)]


def test_times_of_all_forms_sort_together(fresh):
    fresh.execute("create table t (id integer primary key, at)")
    rows = [(1, "2024-01-03 00:00:00"), (2, 1704067200), (3, "2024-01-02T00:00:00Z"), (4, 1704412800000)]
    fresh.execute("insert into t values (?, ?)", *rows)
    matches = fresh.reader().select("t", ["id"], order_by=[Order(["at"], time=True)])
    assert [row[0] for row in matches] == [2, 3, 1, 4]


def test_keyset_cursor_uses_the_index(fresh):
    fresh.execute("create table one (id integer primary key, a text)")
    fresh.execute("create table two (a integer, b text, primary key (a, b))")
    reader = fresh.reader()
    for table, key, values in (("one", ["id"], [5]), ("two", ["a", "b"], [5, "x"])):
        explanation = reader.explainer.explain(Query(table, key, [after_key(key, values)], limit=10))
        assert (explanation.full_scans, "TEMP B-TREE" in " ".join(explanation.plan)) == ([], False), table


# Odd values ------------------------------------------------------------------------------------------------------


def test_invalid_utf8_is_returned_with_surrogates(fresh):
    fresh.execute("create table t (id integer primary key, a text)")
    fresh.execute("insert into t values (1, 'fine'), (2, cast(x'61ff62' as text)), (3, x'00ff')")
    rows = fresh.reader().select("t", ["a"])
    assert rows == [("fine",), ("a\udcffb",), (b"\x00\xff",)]
    assert rows[1][0].encode(errors="surrogateescape") == b"a\xffb"


def test_nul_in_text_does_not_end_comparison(fresh):
    fresh.execute("create table t (id integer primary key, a text)")
    fresh.execute("insert into t values (?, ?)", (1, "a\0b"), (2, "A\0c"), (3, "a"))
    reader = fresh.reader()
    assert reader.select("t", ["a"], [Condition("id", "=", 1)]) == [("a\0b",)]
    for op, text, expected in (
        ("same", "A\0B", [1]),
        ("starts", "A\0", [1, 2]),
        ("contains", "\0C", [2]),
        ("in", ["a\0b"], [1]),
    ):
        rows = reader.select("t", ["id"], [Condition("a", op, text)])
        assert [row[0] for row in rows] == expected, op


def test_word_after_a_nul_is_scanned(fresh):
    fresh.execute("create table t (id integer primary key, a text)")
    fresh.execute("insert into t values (?, ?)", (1, "a\0 Needle"), (2, "é\0needl"), (3, b"a\0needle"))
    matches = fresh.reader().text_scanner.scan_text(
        "t", ["a"], "needle", limit=9, timeout=timedelta(seconds=9)
    )
    assert [match.key for match in matches] == [(1,)]


def test_overlong_search_word_is_refused(fresh):
    fresh.execute("create table t (a text)")
    fresh.execute("insert into t values ('x')")
    with pytest.raises(QueryFailedError, match="too complex"):
        fresh.reader().select("t", ["a"], [Condition("a", "contains", "x" * 60_000)])


def test_invalid_statements_raise_query_failed_error(fresh):
    reader = fresh.reader()
    for sql in (
        "select 1; select 2",
        "select '\0'",
        "select :missing",
        "nonsense",
        "select sum(9223372036854775807) from (select 1 union all select 2)",
    ):
        with pytest.raises(QueryFailedError):
            reader.query(sql)


def test_insert_without_values_uses_every_default(fresh):
    fresh.execute("create table t (id integer primary key, a text default 'x')")
    writer = fresh.writer()
    with writer.transaction():
        assert writer.insert("t", {}, returning="a") == "x"


def test_nothing_is_written_after_an_ended_transaction(fresh):
    fresh.execute("create table t (a unique on conflict rollback)")
    writer = fresh.writer()
    with pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        writer.insert("t", {"a": 1})
        with pytest.raises(ConstraintError), writer.transaction():
            writer.insert("t", {"a": 1})
        writer.insert("t", {"a": 2})
    assert writer.count("t") == 0


def test_refused_commit_is_rolled_back(fresh):
    fresh.execute("create table p (id integer primary key)")
    fresh.execute("create table k (p integer references p (id) deferrable initially deferred)")
    writer = fresh.writer()
    with pytest.raises(ConstraintError), writer.transaction():
        writer.insert("k", {"p": 9})
    assert writer.count("k") == 0
    with writer.transaction():
        writer.insert("k", {"p": None})
    assert fresh.reader().count("k") == 1


# Odd schemas -----------------------------------------------------------------------------------------------------


def test_unreadable_tables_and_views_are_ignored(fresh):
    fresh.execute("create table t (a)")
    fresh.execute("create view gone as select nosuch from nowhere")
    fresh.execute("create view fine as select a from t")
    with closing(sqlite3.connect(fresh.path, isolation_level=None)) as connection:
        connection.execute("pragma writable_schema = on")
        odd = "insert into sqlite_master values ('table', ?, ?, 0, ?)"
        connection.execute(
            odd, ("foreign", "foreign", 'create virtual table "foreign" using nosuchmodule(x)')
        )
    assert list(fresh.reader().tables()) == ["t", "fine"]


def test_generated_columns_are_listed_and_hidden_ones_are_not(fresh):
    fresh.execute("create table t (a integer primary key, b text not null, c text not null as (b || 'x'))")
    fresh.execute("create virtual table words using fts5(body)")
    tables = fresh.reader().tables()
    assert [(name, column.required) for name, column in tables["t"].columns.items()] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert list(tables["words"].columns) == ["body"]


def test_foreign_key_uses_primary_key_and_spelling_of_table(fresh):
    fresh.execute("create table Parent (Id integer primary key)")
    fresh.execute(
        "create table child (pid integer references parent on delete restrict, p2 references PARENT (ID))"
    )
    fresh.execute("create table lost (x references nowhere (y))")
    references = {
        key.columns[0]: (list(key.to), key.on_delete) for key in fresh.reader().references("Parent")
    }
    assert references == {"pid": (["Id"], "RESTRICT"), "p2": (["Id"], "NO ACTION")}


def test_full_text_tables_can_be_read_and_searched(fresh):
    fresh.execute("create virtual table words using fts5(body)")
    fresh.execute("insert into words values ('hello world')")
    assert fresh.reader().query("select body from words where words match :word", {"word": '"world"'}) == [
        ("hello world",)
    ]


# Writes by readers and queries ----------------------------------------------------------------------------------


def test_reader_refuses_every_write(fresh, tmp_path):
    fresh.execute("create table t (a)")
    reader = fresh.reader()
    initial = sorted(tmp_path.iterdir()), fresh.path.read_bytes()
    other_path = tmp_path / "elsewhere.db"
    for sql in (
        "insert into t values (1)",
        "drop table t",
        "create table u (a)",
        "pragma user_version = 3",
        "pragma query_only = 0",
        f"attach '{other_path}' as other",
        f"vacuum into '{other_path}'",
    ):
        with pytest.raises((ReadOnlyError, QueryFailedError)):
            reader.query(sql)
    reader.query("pragma journal_mode = off")
    reader.close()
    assert (sorted(tmp_path.iterdir()), fresh.path.read_bytes()) == initial


def test_reader_refuses_other_files_after_it_opened_the_file_again(fresh, tmp_path):
    fresh.execute("create table t (a)")
    reader, other_path = fresh.reader(), tmp_path / "elsewhere.db"
    fresh.execute("insert into t values (1)")
    with pytest.raises(QueryFailedError):
        reader.query(f"vacuum into '{other_path}'")
    reader.close()
    assert not other_path.exists()


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select word from words where words match 'pond'", "a pond"),
        ("select highlight(words, 0, '<', '>') from words('pond')", "a <pond>"),
        ("select value from json_each('[7]')", 7),
        ("select name from pragma_table_info('words')", "word"),
        ("pragma synchronous", 2),
    ],
)
def test_query_may_use_read_only_modules(fresh, sql, expected):
    fresh.execute("create virtual table words using fts5(word)")
    fresh.execute("insert into words values ('a pond')")
    assert run_query(fresh.reader(), sql)[1] == [(expected,)]


@pytest.mark.parametrize(
    "sql",
    [
        "insert into words(words) values ('optimize')",
        "select * from pragma_journal_mode",
        "pragma journal_mode = wal",
        "pragma wal_checkpoint",
        "create temp table x (a)",
        "vacuum",
        "attach ':memory:' as x",
        "delete from words returning *",
        "select load_extension('x')",
    ],
)
def test_query_with_side_effects_is_refused(fresh, sql):
    fresh.execute("create virtual table words using fts5(word)")
    for connection in (fresh.reader(), fresh.writer()):
        with pytest.raises(QueryFailedError):
            run_query(connection, sql)
