"""Exported rows are imported unchanged, on each engine and in each format."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dbctl.config.sections import Selection
from dbctl.errors.databases import ImportInvalidError
from dbctl.services.data.csv_jsonl import Form
from dbctl.services.data.export import ExportTarget, export_table
from dbctl.services.data.row_import import RowFile, import_rows
from tests import servers

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
) | st.sampled_from(["", "NULL", "\\N", "\\.", "\\x41", "1e5", "007", '"', "a,b", "\r\n", " "])
INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
DATES = st.dates(date(1000, 1, 1), date(9999, 12, 31)).map(str)
TIMESTAMPS = st.builds("{} {}".format, DATES, st.times())
DECIMALS = st.decimals(-(10**14), 10**14, places=10).map(str)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
).map(json.dumps)
BYTES = st.binary(max_size=6)
ANY_VALUES = st.none() | INTEGERS | FLOATS | TEXTS | BYTES


class SQLiteTable:
    """A SQLite table whose columns accept any value."""

    create_sql = "create table things (id integer primary key, t text, n integer, r real, x, b blob, w datetime, twice as (id * 2))"
    empty_sql = "delete from things"
    columns = ("t", "n", "r", "x", "b", "w")
    values: Sequence[st.SearchStrategy] = (ANY_VALUES,) * 6

    @contextmanager
    def open_database(self, folder) -> Iterator[str]:
        path = folder / "things.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as self.connection:
            self.connection.execute(self.create_sql)
            yield str(path)

    def run(self, sql, row=()):
        return self.connection.execute(sql.replace("%s", "?"), row).fetchall()

    def read_state(self):
        expressions = ", ".join(f"typeof({column}), {column}" for column in self.columns)
        return self.run(f"select id, {expressions} from things order by id")


class PostgreSQLTable(SQLiteTable):
    create_sql = """create table things (id serial primary key, t text, v varchar(12), n integer, i bigint, d numeric, m numeric(30, 10),
      f double precision, e real, ok boolean, u uuid, k mood, at timestamptz, w timestamp, day date, b bytea, j json, jb jsonb,
      a text[], ai integer[], iv interval, twice integer generated always as (id * 2) stored)"""
    #: After row-by-row deletion a table returns new rows in any order.
    empty_sql = "truncate things"
    columns = (
        "t",
        "v",
        "n",
        "i",
        "d",
        "m",
        "f",
        "e",
        "ok",
        "u",
        "k",
        "at",
        "w",
        "day",
        "b",
        "j",
        "jb",
        "a",
        "ai",
        "iv",
    )
    values = (
        TEXTS,
        TEXTS,
        st.integers(-(1 << 31), (1 << 31) - 1),
        INTEGERS,
        DECIMALS | st.just("NaN"),
        DECIMALS,
        FLOATS | st.sampled_from(["NaN", "Infinity", "-Infinity"]),
        st.floats(width=32, allow_nan=False),
        st.booleans(),
        st.uuids(),
        st.sampled_from(["so so", 'it\'s "fine"']),
        TIMESTAMPS | st.sampled_from(["infinity", "-infinity", "0044-03-15 12:00:00 BC", "12345-01-01"]),
        TIMESTAMPS,
        DATES,
        BYTES,
        JSON,
        JSON.filter(lambda text: "\\u0000" not in text),
        st.lists(TEXTS | st.none(), max_size=3),
        st.lists(st.integers(0, 9) | st.none(), max_size=3),
        st.timedeltas(),
    )

    @contextmanager
    def open_database(self, _folder):
        with servers.postgresql_schema() as url, closing(servers.connection(url)) as self.connection:
            self.run("create type mood as enum ('so so', 'it''s \"fine\"')")
            self.run(self.create_sql)
            yield servers.text(url)

    def run(self, sql, row=()):
        cursor = self.connection.execute(sql, row)
        return cursor.fetchall() if cursor.description else []

    def read_state(self):
        return self.run("select things::text from things order by id")


class MySQLTable(SQLiteTable):
    create_sql = """create table things (id integer auto_increment primary key, t text, v varchar(12), n int, u bigint unsigned, d decimal(30, 10),
      f double, e float, ok tinyint(1), k enum ('so so', 'it''s "fine"'), s set ('a', 'b'), at datetime(6), day date, b blob, j json,
      bt bit(5), twice integer as (n div 2)) character set utf8mb4"""
    columns = ("t", "v", "n", "u", "d", "f", "e", "ok", "k", "s", "at", "day", "b", "j", "bt")
    values = (
        TEXTS,
        TEXTS,
        st.integers(-(1 << 31), (1 << 31) - 1),
        st.integers(0, (1 << 64) - 1),
        DECIMALS,
        FLOATS,
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.sampled_from(["so so", 'it\'s "fine"']),
        st.sampled_from(["", "a", "a,b"]),
        TIMESTAMPS,
        DATES,
        BYTES,
        JSON,
        st.integers(0, 31),
    )

    @contextmanager
    def open_database(self, _folder):
        with servers.mysql_database() as url, closing(servers.mysql_connection(url)) as self.connection:
            self.run("set sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'")
            self.run(self.create_sql)
            yield str(url)

    def run(self, sql, row=()):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, row)
            return list(cursor.fetchall()) if cursor.description else []

    def read_state(self):
        expressions = ", ".join(
            "e + 0e0" if column == "e" else f"hex({column})" if column in "bt" else column
            for column in self.columns
        )
        return self.run(f"select id, {expressions} from things order by id")


@pytest.fixture(params=[SQLiteTable, PostgreSQLTable, MySQLTable])
def table(request, tmp_path):
    table = request.param()
    with table.open_database(tmp_path) as url:
        table.url = url
        yield table


def export_bytes(url: str, form: Form, **options: object) -> bytes:
    from dbctl.services.app.session import open_app

    parts: list[bytes] = []
    with open_app(Selection(urls=[f"main={url}"]), timeout=5) as app:
        result = export_table(app, "things", ExportTarget(write=parts.append, file="-", form=form, **options))
    text = b"".join(bytes(part) for part in parts)
    assert result.bytes == len(text)
    return text


def import_bytes(url: str, form: Form, text: bytes) -> int:
    from dbctl.services.app.session import open_app

    with open_app(Selection(urls=[f"main={url}"]), timeout=5) as app:
        file = RowFile(source=io.BytesIO(text), name="f", form=form, table="things")
        return import_rows(app, file).apply().added


@pytest.mark.parametrize("form", list(Form))
def test_exported_rows_are_imported_unchanged(table, form):
    # no shrinking: each example opens several connections
    @settings(max_examples=8, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(
        rows=st.lists(st.tuples(*(st.none() | values for values in table.values)), min_size=1, max_size=20)
    )
    def assert_round_trip(rows):
        table.run(table.empty_sql)
        placeholders = ", ".join(["%s"] * (len(table.columns) + 1))
        for number, row in enumerate(rows, 1):
            table.run(
                f"insert into things (id, {', '.join(table.columns)}) values ({placeholders})", (number, *row)
            )
        before = table.read_state()
        text = export_bytes(table.url, form)
        table.run(table.empty_sql)
        assert import_bytes(table.url, form, text) == len(rows)
        assert table.read_state() == before
        assert export_bytes(table.url, form) == text

    assert_round_trip()


@pytest.mark.parametrize("declared", ["", "text", "integer", "blob", "numeric"])
def test_text_that_is_not_utf8_is_imported_into_column_of_any_type(tmp_path, declared):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"create table things (id integer primary key, v {declared})")
        connection.execute("insert into things values (1, cast(x'ff41' as text)), (2, '12')")
        connection.commit()
        query = "select id, typeof(v), hex(v) from things order by id"
        before = connection.execute(query).fetchall()
        text = export_bytes(str(path), Form.CSV)
        connection.execute("delete from things")
        connection.commit()
        assert import_bytes(str(path), Form.CSV, text) == len(before)
        assert connection.execute(query).fetchall() == before


def test_json_of_another_program_is_imported(tmp_path):
    """JSON lines that dbctl did not write: lists and objects of arrays, numbers of texts, floats."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table things (id integer primary key, v)")
    for value in ("[1]", '{"a": 1}', "9223372036854775808"):
        with pytest.raises(ImportInvalidError) as raised:
            import_bytes(str(path), Form.JSONL, f'{{"id": 1, "v": {value}}}\n'.encode())
        assert any("64 bits" in line or "write JSON as a text" in line for line in raised.value.details)
    assert import_bytes(str(path), Form.JSONL, b'{"id": 1, "v": 1.5}\n{"id": 2, "v": true}\n') == 2
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select v, typeof(v) from things order by id").fetchall() == [
            (1.5, "real"),
            (1, "integer"),
        ]
    table = PostgreSQLTable()
    with table.open_database(tmp_path) as url:
        table.run("alter table things add docs jsonb[], add square integer[]")
        line = b'{"id": 1, "ai": [1, null], "a": ["x"], "docs": [{"b": 2, "a": "it\'s"}, null], "square": [[1, 2], [3, 4]], "ok": true}\n'
        assert import_bytes(url, Form.JSONL, line) == 1
        assert table.run("select ai, a, docs[1]->>'a', docs[2] is null, square, ok from things") == [
            ([1, None], ["x"], "it's", True, [[1, 2], [3, 4]], True)
        ]
