"""What is exported and imported again is what was there, on every engine and in every form."""

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

from dbctl.config import Selection
from dbctl.services.app import app as app_service
from dbctl.services.data.csv_jsonl import Form
from dbctl.services.data.import_export import export_table, import_rows
from tests import servers

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
) | st.sampled_from(["", "NULL", "\\N", "\\.", "\\x41", "1e5", "007", '"', "a,b", "\r\n", " "])
WHOLE = st.integers(-(1 << 63), (1 << 63) - 1)
DAYS = st.dates(date(1000, 1, 1), date(9999, 12, 31)).map(str)
MOMENTS = st.builds("{} {}".format, DAYS, st.times())
FRACTIONS = st.decimals(-(10**14), 10**14, places=10).map(str)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
).map(json.dumps)
BYTES = st.binary(max_size=6)
ANY = st.none() | WHOLE | FLOATS | TEXTS | BYTES


class Lite:
    """A SQLite table whose columns accept any value."""

    create = "create table things (id integer primary key, t text, n integer, r real, x, b blob, w datetime, twice as (id * 2))"
    empty = "delete from things"
    columns = ("t", "n", "r", "x", "b", "w")
    values: Sequence[st.SearchStrategy] = (ANY, ANY, ANY, ANY, ANY, ANY)

    @contextmanager
    def opened(self, folder) -> Iterator[str]:
        path = folder / "things.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as self.own:
            self.own.execute(self.create)
            yield str(path)

    def run(self, sql, row=()):
        return self.own.execute(sql.replace("%s", "?"), row).fetchall()

    def state(self):
        shown = ", ".join(f"typeof({column}), {column}" for column in self.columns)
        return self.run(f"select id, {shown} from things order by id")


class Postgres(Lite):
    create = """create table things (id serial primary key, t text, v varchar(12), n integer, i bigint, d numeric, m numeric(30, 10),
      f double precision, e real, ok boolean, u uuid, k mood, at timestamptz, w timestamp, day date, b bytea, j json, jb jsonb,
      a text[], ai integer[], iv interval, twice integer generated always as (id * 2) stored)"""
    #: After row-by-row deletion a table returns new rows in any order.
    empty = "truncate things"
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
        WHOLE,
        FRACTIONS | st.just("NaN"),
        FRACTIONS,
        FLOATS | st.sampled_from(["NaN", "Infinity", "-Infinity"]),
        st.floats(width=32, allow_nan=False),
        st.booleans(),
        st.uuids(),
        st.sampled_from(["so so", 'it\'s "fine"']),
        MOMENTS | st.sampled_from(["infinity", "-infinity", "0044-03-15 12:00:00 BC", "12345-01-01"]),
        MOMENTS,
        DAYS,
        BYTES,
        JSON,
        JSON.filter(lambda text: "\\u0000" not in text),
        st.lists(TEXTS | st.none(), max_size=3),
        st.lists(st.integers(0, 9) | st.none(), max_size=3),
        st.timedeltas(),
    )

    @contextmanager
    def opened(self, _folder):
        with servers.postgresql_schema() as url, closing(servers.connection(url)) as self.own:
            self.run("create type mood as enum ('so so', 'it''s \"fine\"')")
            self.run(self.create)
            yield servers.text(url)

    def run(self, sql, row=()):
        done = self.own.execute(sql, row)
        return done.fetchall() if done.description else []

    def state(self):
        return self.run("select things::text from things order by id")


class Maria(Lite):
    create = """create table things (id integer auto_increment primary key, t text, v varchar(12), n int, u bigint unsigned, d decimal(30, 10),
      f double, e float, ok tinyint(1), k enum ('so so', 'it''s "fine"'), s set ('a', 'b'), at datetime(6), day date, b blob, j json,
      bt bit(5), twice integer as (n div 2)) character set utf8mb4"""
    columns = ("t", "v", "n", "u", "d", "f", "e", "ok", "k", "s", "at", "day", "b", "j", "bt")
    values = (
        TEXTS,
        TEXTS,
        st.integers(-(1 << 31), (1 << 31) - 1),
        st.integers(0, (1 << 64) - 1),
        FRACTIONS,
        FLOATS,
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.sampled_from(["so so", 'it\'s "fine"']),
        st.sampled_from(["", "a", "a,b"]),
        MOMENTS,
        DAYS,
        BYTES,
        JSON,
        st.integers(0, 31),
    )

    @contextmanager
    def opened(self, _folder):
        with servers.mysql_database() as url, closing(servers.mysql_connection(url)) as self.own:
            self.run("set sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'")
            self.run(self.create)
            yield str(url)

    def run(self, sql, row=()):
        with self.own.cursor() as cursor:
            cursor.execute(sql, row)
            return list(cursor.fetchall()) if cursor.description else []

    def state(self):
        shown = ", ".join(
            "e + 0e0" if column == "e" else f"hex({column})" if column in "bt" else column
            for column in self.columns
        )
        return self.run(f"select id, {shown} from things order by id")


@pytest.fixture(params=[Lite, Postgres, Maria])
def place(request, tmp_path):
    table = request.param()
    with table.opened(tmp_path) as url:
        table.url = url
        yield table


def exported(url: str, form: Form, **more: object) -> bytes:
    parts: list[bytes] = []
    with app_service.open_app(Selection(urls=[f"main={url}"]), timeout=5) as app:
        done = export_table(app, "things", parts.append, file="-", form=form, **more)
    text = b"".join(bytes(part) for part in parts)
    assert done.bytes == len(text)
    return text


def imported(url: str, form: Form, text: bytes) -> int:
    with app_service.open_app(Selection(urls=[f"main={url}"]), timeout=5) as app:
        return import_rows(app, "things", io.BytesIO(text), file="f", form=form).apply().added


@pytest.mark.parametrize("form", list(Form))
def test_an_import_brings_back_what_was_exported(place, form):
    # without shrinking: every try opens several connections
    @settings(max_examples=8, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(
        rows=st.lists(st.tuples(*(st.none() | values for values in place.values)), min_size=1, max_size=20)
    )
    def comes_back(rows):
        place.run(place.empty)
        marks = ", ".join(["%s"] * (len(place.columns) + 1))
        for number, row in enumerate(rows, 1):
            place.run(f"insert into things (id, {', '.join(place.columns)}) values ({marks})", (number, *row))
        before = place.state()
        text = exported(place.url, form)
        place.run(place.empty)
        assert imported(place.url, form, text) == len(rows)
        assert place.state() == before
        assert exported(place.url, form) == text

    comes_back()
