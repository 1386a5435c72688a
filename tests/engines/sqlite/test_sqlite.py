"""SQLite keeps the contract, and what is its own beside it: forms of a time, odd values, odd schemas."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbctl.engines.contract import Behind, Condition, Order
from dbctl.engines.sqlite.reader import SQLiteReader
from dbctl.engines.sqlite.writer import SQLiteWriter
from dbctl.errors import ConstraintError, QueryFailedError, ReadOnlyError
from tests.conformance.contract import EngineContract
from tests.conformance.streaming import asked


class Made:
    """A database in a file, and what was opened on it."""

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
        self.opened.append(SQLiteWriter(self.path, "app/user", timeout=0.3, pragmas={"synchronous": "0"}))
        return self.opened[-1]


@pytest.fixture(params=["wal", "delete"])
def fresh(request, tmp_path):
    made = Made(tmp_path / "app.db")
    made.execute(f"pragma journal_mode = {request.param}")
    yield made
    for opened in made.opened:
        opened.close()


class TestSQLite(EngineContract):
    @pytest.fixture
    def fresh(self, fresh):
        return fresh


MOMENT = datetime(2024, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)
EPOCH_MS = round(MOMENT.timestamp() * 1000)
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
    ("shift", "op", "found"),
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
def test_every_form_of_a_time_compares_to_the_millisecond(times, shift, op, found):
    where = [Condition("at", op, MOMENT + timedelta(milliseconds=shift)), Condition("id", "<", len(FORMS))]
    assert [row[0] for row in times.select("t", ["id"], where)] == (list(range(len(FORMS))) if found else [])


def test_what_is_no_time_is_as_if_it_were_null(times):
    ordered = [row[0] for row in times.select("t", ["id"], order_by=[Order(["at"], time=True)])]
    ends = [len(FORMS) + 6, len(FORMS) + 7]
    assert ordered == [ends[0], *range(len(FORMS)), ends[1], *range(len(FORMS), len(FORMS) + 6)]


def test_a_sort_key_of_a_time_is_the_same_whatever_form_it_has(fresh):
    fresh.execute("create table t (id integer primary key, at)")
    rows = [(1, "2024-01-03 00:00:00"), (2, 1704067200), (3, "2024-01-02T00:00:00Z"), (4, 1704412800000)]
    fresh.execute("insert into t values (?, ?)", *rows)
    found = fresh.reader().select("t", ["id"], order_by=[Order(["at"], time=True)])
    assert [row[0] for row in found] == [2, 3, 1, 4]


def test_where_the_rows_behind_a_key_begin_is_found_by_its_index(fresh):
    fresh.execute("create table one (id integer primary key, a text)")
    fresh.execute("create table two (a integer, b text, primary key (a, b))")
    reader = fresh.reader()
    for table, behind in {"one": Behind(["id"], [5]), "two": Behind(["a", "b"], [5, "x"])}.items():
        told = reader.explain(table, behind.key, [behind], limit=10)
        assert (told.full_scans, "TEMP B-TREE" in " ".join(told.plan)) == ([], False), table


# Odd values ------------------------------------------------------------------------------------------------------


def test_text_that_is_no_utf8_comes_with_its_bytes_and_spoils_no_other_row(fresh):
    fresh.execute("create table t (id integer primary key, a text)")
    fresh.execute("insert into t values (1, 'fine'), (2, cast(x'61ff62' as text)), (3, x'00ff')")
    rows = fresh.reader().select("t", ["a"])
    assert rows == [("fine",), ("a\udcffb",), (b"\x00\xff",)]
    assert rows[1][0].encode(errors="surrogateescape") == b"a\xffb"


def test_a_nul_inside_text_comes_whole_and_is_no_end_of_what_is_sought(fresh):
    fresh.execute("create table t (id integer primary key, a text)")
    fresh.execute("insert into t values (?, ?)", (1, "a\0b"), (2, "A\0c"), (3, "a"))
    reader = fresh.reader()
    assert reader.select("t", ["a"], [Condition("id", "=", 1)]) == [("a\0b",)]
    for op, sought, found in (
        ("same", "A\0B", [1]),
        ("starts", "A\0", [1, 2]),
        ("contains", "\0C", [2]),
        ("in", ["a\0b"], [1]),
    ):
        rows = reader.select("t", ["id"], [Condition("a", op, sought)])
        assert [row[0] for row in rows] == found, op


def test_a_word_longer_than_a_pattern_may_be_is_refused_in_our_words(fresh):
    fresh.execute("create table t (a text)")
    fresh.execute("insert into t values ('x')")
    with pytest.raises(QueryFailedError, match="too complex"):
        fresh.reader().select("t", ["a"], [Condition("a", "contains", "x" * 60_000)])


def test_statements_that_are_several_or_hold_a_nul_are_refused_in_our_words(fresh):
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


def test_insert_without_values_takes_every_default(fresh):
    fresh.execute("create table t (id integer primary key, a text default 'x')")
    writer = fresh.writer()
    with writer.transaction():
        assert writer.insert("t", {}, returning="a") == "x"


def test_after_a_failure_that_ended_the_transaction_nothing_more_is_written(fresh):
    fresh.execute("create table t (a unique on conflict rollback)")
    writer = fresh.writer()
    with pytest.raises(QueryFailedError, match="ended"), writer.transaction():
        writer.insert("t", {"a": 1})
        with pytest.raises(ConstraintError), writer.transaction():
            writer.insert("t", {"a": 1})
        writer.insert("t", {"a": 2})
    assert writer.count("t") == 0


def test_a_commit_that_is_refused_rolls_everything_back(fresh):
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


def test_what_nobody_can_read_here_is_as_if_it_were_not_there(fresh):
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


def test_generated_columns_are_told_but_never_required_and_hidden_ones_are_not_told(fresh):
    fresh.execute("create table t (a integer primary key, b text not null, c text not null as (b || 'x'))")
    fresh.execute("create virtual table words using fts5(body)")
    told = fresh.reader().tables()
    assert [(name, column.required) for name, column in told["t"].columns.items()] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert list(told["words"].columns) == ["body"]


def test_a_foreign_key_without_columns_means_the_key_and_cases_are_those_of_the_table(fresh):
    fresh.execute("create table Parent (Id integer primary key)")
    fresh.execute(
        "create table child (pid integer references parent on delete restrict, p2 references PARENT (ID))"
    )
    fresh.execute("create table lost (x references nowhere (y))")
    told = {key.columns[0]: (list(key.to), key.on_delete) for key in fresh.reader().references("Parent")}
    assert told == {"pid": (["Id"], "RESTRICT"), "p2": (["Id"], "NO ACTION")}


def test_full_text_tables_can_be_read_and_searched(fresh):
    fresh.execute("create virtual table words using fts5(body)")
    fresh.execute("insert into words values ('hello world')")
    assert fresh.reader().query("select body from words where words match :word", {"word": '"world"'}) == [
        ("hello world",)
    ]


# A reader reaches nothing else -----------------------------------------------------------------------------------


def test_no_statement_through_a_reader_writes_anything_anywhere(fresh, tmp_path):
    fresh.execute("create table t (a)")
    reader = fresh.reader()
    before = sorted(tmp_path.iterdir()), fresh.path.read_bytes()
    elsewhere = tmp_path / "elsewhere.db"
    for sql in (
        "insert into t values (1)",
        "drop table t",
        "create table u (a)",
        "pragma user_version = 3",
        "pragma query_only = 0",
        f"attach '{elsewhere}' as other",
        f"vacuum into '{elsewhere}'",
    ):
        with pytest.raises((ReadOnlyError, QueryFailedError)):
            reader.query(sql)
    reader.query("pragma journal_mode = off")
    reader.close()
    assert (sorted(tmp_path.iterdir()), fresh.path.read_bytes()) == before


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("select word from words where words match 'pond'", "a pond"),
        ("select highlight(words, 0, '<', '>') from words('pond')", "a <pond>"),
        ("select value from json_each('[7]')", 7),
        ("select name from pragma_table_info('words')", "word"),
        ("pragma synchronous", 2),
    ],
)
def test_a_question_may_ask_modules_that_only_read(fresh, sql, answer):
    fresh.execute("create virtual table words using fts5(word)")
    fresh.execute("insert into words values ('a pond')")
    assert asked(fresh.reader(), sql)[1] == [(answer,)]


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
def test_a_module_that_does_more_is_no_question(fresh, sql):
    fresh.execute("create virtual table words using fts5(word)")
    for opened in (fresh.reader(), fresh.writer()):
        with pytest.raises(QueryFailedError):
            asked(opened, sql)
