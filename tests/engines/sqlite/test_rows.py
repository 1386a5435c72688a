"""Rows that sqlite-utils writes: the statements of each call, and the key of a new row in every kind of table."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import dbctl
from dbctl.engines.contract.engine import OpenOptions
from dbctl.engines.sqlite.database import SQLiteReader, SQLiteWriter
from dbctl.engines.sqlite.rows import KnownTable
from dbctl.errors.connection import ConstraintError, QueryFailedError, RowSkippedError
from dbctl.sqlite_library import Database, Table

PAGE = Path(dbctl.__file__).parents[1] / "docs/design/sqlite.md"
#: Statements of each call as sqlite-utils ships it, and in dbctl, by call, from the page.
COUNTS = {
    call: (int(shipped), int(guarded))
    for call, shipped, guarded in re.findall(
        r"^\| `(.+?)` \| (\d+) \| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
}
CALLS = {
    "insert(row)": lambda table: table.insert({"a": "x"}),
    "insert_all(rows)": lambda table: table.insert_all([{"a": "x"}, {"a": "y"}]),
    "insert({})": lambda table: table.insert({}),
    "delete_where(condition)": lambda table: table.delete_where("id = ?", [1]),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "create table t (id integer primary key, a text); insert into t values (1, 'a');"
        )
    return path


def run_sql(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)


def trace(connection):
    """Return a list that receives the statements of a connection."""
    statements = list[str]()
    connection.set_trace_callback(statements.append)
    return statements


@pytest.mark.parametrize("call", CALLS)
def test_statements_of_a_call_are_those_of_the_page(path, call):
    assert COUNTS.keys() == CALLS.keys()
    with closing(Database(path)) as database:
        shipped = trace(database.conn)
        CALLS[call](Table(database, "t"))
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        table = KnownTable(writer.connection.database, "t")
        guarded = trace(writer.connection.driver)
        CALLS[call](table)
        writer.connection.driver.set_trace_callback(None)
    assert (len(shipped), len(guarded)) == COUNTS[call], (shipped, guarded)


def test_upsert_creates_no_table_to_try_it(path):
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        statements = trace(writer.connection.driver)
        KnownTable(writer.connection.database, "t").upsert({"id": 1, "a": "z"}, pk="id")
        assert [text for text in statements if "create" in text.lower() or "savepoint" in text.lower()] == []
        assert writer.select("t", ["a"]) == [("z",)]


@pytest.mark.parametrize("write", [
    lambda writer: writer.insert("t", {"a": "x"}),
    lambda writer: writer.insert("t", {"a": "x"}, returning="id"),
    lambda writer: writer.insert_many("t", ["a"], [("x",), ("y",)]),
    lambda writer: writer.update("t", {"a": "x"}, []),
    lambda writer: writer.delete("t", []),
])  # fmt: skip
def test_write_is_one_statement_of_a_transaction(path, write):
    with closing(SQLiteWriter(path, "app/user")) as writer:
        with pytest.raises(RuntimeError):
            write(writer)
        writer.tables(), writer.references("t")
        with writer.transaction():
            statements = trace(writer.connection.driver)
            write(writer)
            assert len(statements) == 1
            writer.connection.driver.set_trace_callback(None)


#: Tables ``t`` with the key ``id`` and the column ``a``, and further statements, by how a new row gets its key.
TABLES = {
    "rowid": "create table t (id integer primary key, a text)",
    "autoincrement": "create table t (id integer primary key autoincrement, a text)",
    "quoted and constrained": 'create table t ("id" INTEGER constraint k not null primary key, a text)',
    "table constraint": "create table t (id integer, a text, primary key (id desc))",
    "descending key": "create table t (id integer primary key desc default 7, a text)",
    "without rowid": "create table t (id integer primary key default 7, a text) without rowid",
    "default of text": "create table t (id text primary key default (lower(hex(randomblob(8)))), a text)",
    "generated key": "create table t (a text, id text generated always as (a || '!') stored)",
    "trigger that inserts": """create table log (id integer primary key, a text);
        insert into log values (900, 'x'); create table t (id integer primary key, a text);
        create trigger after_t after insert on t begin insert into log (a) values (new.a); end""",
    "full-text index": """create table t (id integer primary key, a text); create virtual table f using fts5(a);
        create trigger after_t after insert on t begin insert into f (rowid, a) values (new.id + 500, new.a); end""",
}


@pytest.mark.parametrize("table", TABLES)
def test_returned_key_is_that_of_the_new_row(tmp_path, table):
    path = tmp_path / "app.db"
    run_sql(path, TABLES[table])
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        key = writer.insert("t", {"a": "new"}, returning="id")
        assert key is not None
        assert writer.select("t", ["id", "a"]) == [(key, "new")]


@pytest.mark.parametrize("trigger", [
    "create trigger odd before insert on t when new.a = 'odd' begin select raise(ignore); end",
    "create unique index once on t (a); drop table t; create table t (id integer primary key, a text unique on conflict ignore); insert into t values (5, 'odd')",
])  # fmt: skip
def test_ignored_row_is_refused(path, trigger):
    run_sql(path, trigger)
    with closing(SQLiteWriter(path, "app/user")) as writer, writer.transaction():
        before = writer.count("t")
        assert writer.insert("t", {"a": "even"}, returning="id") is not None
        for returning in (None, "id", "a"):
            with pytest.raises(RowSkippedError):
                writer.insert("t", {"a": "odd"}, returning=returning)
        assert writer.insert_many("t", ["a"], [("odd",), ("third",), ("odd",)]) == 1
        assert writer.count("t") == before + 2


def test_error_of_a_batch_names_its_row_and_other_rows_of_the_batch_are_not_written(path):
    run_sql(path, "create unique index once on t (a)")
    rows = [(str(number),) for number in range(150)] + [("7",)]
    with closing(SQLiteWriter(path, "app/user")) as writer:
        with pytest.raises(ConstraintError) as caught, writer.transaction():
            writer.insert_many("t", ["a"], rows)
        assert caught.value.context["row"] == 151
        assert writer.count("t") == 1


def test_write_after_an_error_that_ended_the_transaction_is_refused(path):
    run_sql(
        path,
        "create trigger odd before insert on t when new.a = 'odd' begin select raise(rollback, 'no'); end",
    )
    with closing(SQLiteWriter(path, "app/user")) as writer:
        with pytest.raises(QueryFailedError, match="an earlier error"), writer.transaction():
            with pytest.raises(ConstraintError):
                writer.insert("t", {"a": "odd"})
            writer.insert("t", {"a": "even"})
        assert writer.count("t") == 1


def test_writer_keeps_the_catalog_of_the_reader_of_an_unchanged_schema(path, tmp_path):
    reader = SQLiteReader(path, "app/user")
    tables = reader.tables()
    reader.close()
    with closing(SQLiteWriter(path, "app/user", OpenOptions(reader=reader))) as writer:
        assert writer.tables() is tables
    run_sql(path, "alter table t add b text")
    with closing(SQLiteWriter(path, "app/user", OpenOptions(reader=reader))) as writer:
        assert "b" in writer.tables()["t"].columns


def test_writer_reads_the_catalog_of_another_file_with_the_same_version(path, tmp_path):
    reader = SQLiteReader(path, "app/user")
    assert "id" in reader.tables()["t"].columns
    reader.close()
    run_sql(tmp_path / "other.db", "create table t (other text)")
    (tmp_path / "other.db").replace(path)
    with closing(SQLiteWriter(path, "app/user", OpenOptions(reader=reader))) as writer:
        assert list(writer.tables()["t"].columns) == ["other"]


def test_catalog_is_one_statement_with_kinds_and_the_order_of_keys(path):
    run_sql(
        path,
        """create table w (b int, a int, primary key (a, b)) without rowid;
        create virtual table f using fts5(x); create view v as select * from t;
        create table g (a int, b int as (a + 1), c text default (datetime('now')) not null)""",
    )
    with closing(SQLiteReader(path, "app/user")) as reader:
        statements = trace(reader.connection.driver)
        tables = reader.tables()
        assert [text for text in statements if not text.startswith("-- ")] == statements[:1]
    assert {name: table.kind for name, table in tables.items() if table.kind != "shadow"} == {
        "t": "table", "w": "table", "f": "virtual", "v": "view", "g": "table",
    }  # fmt: skip
    assert (tables["t"].rowid, tables["w"].rowid) == ("id", "")
    assert tables["w"].key == ["a", "b"]
    assert tables["g"].columns["b"].is_generated
    assert tables["g"].columns["c"].has_time_default
    assert not tables["g"].columns["c"].required


def test_unreadable_view_is_treated_as_missing_and_other_tables_are_read(path):
    run_sql(path, "create table gone (x); create view v as select x from gone; drop table gone")
    with closing(SQLiteReader(path, "app/user")) as reader:
        assert list(reader.tables()) == ["t"]
        assert reader.tables()["t"].rowid == "id"
