"""JSON between engines: the text where both sides keep it, all digits where the destination has them, and a list of what changes."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing

import pytest

from dbctl.engines.sqlite.database import SQLiteReader
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    LineColumn,
    LogicalType,
    RowSource,
    exchange_kind,
    require,
)
from dbctl.extensions.transfer.tables import TransferTable
from dbctl.extensions.transfer.values.unstorable import find_json_changes
from dbctl.url import parse_url
from tests import servers

PI = '{"pi": 3.14159265358979323846264338327950288}'
LONG = "[1" + "0" * 43 + ".5, 1.10, 123456789012345678901234567890]"
REPEATED = '{"a":1,  "b": [true, null], "a":2}'
LARGE = '{"n": 1e400, "s": "\\u00e9 \\\\ 1. \\\\u0000"}'
TEXTS = [PI, LONG, REPEATED, LARGE, "-0.0", '"x"', "[]"]
#: MySQL stores no text of JSON but its values, with floats, and refuses larger numbers; MariaDB stores the text.
MYSQL_TEXTS = [text for text in TEXTS if text != LARGE]


def connect(text):
    url = parse_url(text)
    if url.engine == "sqlite":
        return closing(sqlite3.connect(url.path))
    return closing(servers.connection(url) if url.engine == "postgresql" else servers.mysql_connection(url))


def run_sql(text, *statements):
    """Run statements with the client of a database; return the rows of the last one."""
    with connect(text) as db:
        cursor = db.cursor()
        for sql in statements:
            cursor.execute(*sql) if isinstance(sql, tuple) else cursor.execute(sql)
        rows = cursor.fetchall() if cursor.description else []
        db.commit()
    return list(rows)


@pytest.fixture
def create_source(tmp_path, databases):
    """Return a function that creates a database with a table of JSON."""

    def create(engine, declared, texts=TEXTS):
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        url = databases(engine, folder)
        mark = "?" if engine == "sqlite" else "%s"
        check = " check (json_valid(doc))" if engine == "sqlite" else ""
        run_sql(
            url,
            f"create table t (id int primary key, doc {declared}{check})",
            *((f"insert into t values ({number}, {mark})", (text,)) for number, text in enumerate(texts)),
        )
        return url

    return create


def stores_values(engine):
    """Return whether columns of JSON of an engine have values in place of text, of those that the tests call ``mysql``."""
    return engine == "mysql" and not servers.mysql_server().is_mariadb


def read_texts(url):
    cast = {"postgresql": "doc::text"}.get(parse_url(url).engine, "doc")
    return [
        text.decode() if isinstance(text, bytes) else text
        for (text,) in run_sql(url, f"select {cast} from t order by id")
    ]


def copy(answer, source, destination):
    """Plan, copy and compare; return the plan."""
    words = ("--url", f"main={source}", "transfer")
    plan = answer(*words, "plan", "--to", destination)["data"]
    assert plan["problems"] == []
    answer(*words, "run", "--to", destination)
    assert answer(*words, "verify", "--to", destination)["data"]["equal"] is True
    answer(*words, "switch", "--to", destination, "--yes")
    return {change["change"]: change["rows"] for change in plan["changes"]}


@pytest.mark.parametrize(
    ("engine", "declared", "to"),
    [
        pytest.param("sqlite", "text", "mysql", marks=pytest.mark.mariadb),
        ("mysql", "json", "sqlite"),
        ("postgresql", "json", "sqlite"),
        pytest.param("postgresql", "json", "mysql", marks=[pytest.mark.mariadb, pytest.mark.slow]),
        pytest.param("postgresql", "jsonb", "mysql", marks=pytest.mark.mariadb),
        ("postgresql", "jsonb", "sqlite"),
    ],
)
def test_text_of_json_passes_unchanged(answer, create_source, databases, tmp_path, engine, declared, to):
    texts = MYSQL_TEXTS if stores_values(engine) else TEXTS
    source, destination = create_source(engine, declared, texts), databases(to, tmp_path)
    expected = read_texts(source)
    assert expected == texts or declared == "jsonb" or stores_values(engine)
    assert copy(answer, source, destination) == {}
    assert read_texts(destination) == expected


@pytest.mark.parametrize(
    ("engine", "declared"), [("sqlite", "text"), ("postgresql", "jsonb"), ("mysql", "json")]
)
def test_floats_of_json_arrive_with_each_bit(answer, create_source, databases, tmp_path, engine, declared):
    generator = random.Random(7)  # noqa: S311 - no secrets
    floats = [generator.uniform(-180, 180) for _ in range(200)] + [1e-300, -5e-324, 2.2250738585072014e-308]
    texts = [json.dumps({"it's \\ \u00e9": [number, True, None, {'\t"': 2**62}]}) for number in floats]
    texts += [json.dumps(floats), "0.30000000000000004", '"0.30000000000000004"', "[]"]
    source, destination = create_source(engine, declared, texts), databases("mysql", tmp_path)
    expected = [*map(json.loads, read_texts(source))]
    assert copy(answer, source, destination) == {}
    assert [*map(json.loads, read_texts(destination))] == expected


@pytest.mark.parametrize(
    ("engine", "declared"), [("sqlite", "text"), ("postgresql", "json"), ("postgresql", "jsonb")]
)
def test_mysql_has_the_values_and_the_plan_counts_what_it_changes(
    answer, create_source, databases, tmp_path, engine, declared
):
    if not stores_values("mysql"):
        pytest.skip("MariaDB stores JSON as text")
    source, destination = create_source(engine, declared), databases("mysql", tmp_path)
    words = ("--url", f"main={source}", "transfer", "plan", "--to", destination)
    (problem,) = answer(*words, status=4)["data"]["problems"]
    assert (problem["column"], problem["keys"], problem["reason"]) == (
        "doc", [{"id": str(TEXTS.index(LARGE))}], "a number with more digits than the column stores",
    )  # fmt: skip
    run_sql(source, f"delete from t where id = {TEXTS.index(LARGE)}")
    removed = {"repeated keys are removed, except for the last": 1, "the sign of zero is removed": 1}
    assert copy(answer, source, destination) == {
        "digits of numbers are removed": 2,
        **(removed if declared != "jsonb" else {}),
    }
    for number, text in enumerate(TEXTS):
        if text not in (LARGE, LONG):  # of more than 15 digits the server reads an inexact float
            sql = f"select doc = cast(%s as json) from t where id = {number}"
            assert run_sql(destination, (sql, (text,))) == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "declared"), [("sqlite", "text"), ("mysql", "json")])
def test_jsonb_has_all_digits_and_the_plan_counts_what_it_removes(
    answer, create_source, databases, tmp_path, engine, declared
):
    texts = MYSQL_TEXTS if stores_values(engine) else TEXTS
    source, destination = create_source(engine, declared, texts), databases("postgresql", tmp_path)
    texts = read_texts(source)
    repeated = {} if stores_values(engine) else {"repeated keys are removed, except for the last": 1}
    assert copy(answer, source, destination) == {**repeated, "the sign of zero is removed": 1}
    values = ", ".join(f"('{text}'::jsonb)" for text in texts)
    assert read_texts(destination) == [
        text for (text,) in run_sql(destination, f"select v::text from (values {values}) x(v)")
    ]


@pytest.mark.parametrize(
    ("engine", "declared"), [("sqlite", "text"), pytest.param("mysql", "json", marks=pytest.mark.mariadb)]
)
@pytest.mark.parametrize("text", ["1e200000", '{"a": [1, -2E-17000]}'])
def test_numbers_that_jsonb_cannot_store_are_problems(
    answer, create_source, databases, tmp_path, engine, declared, text
):
    source = create_source(engine, declared, [text, "1"])
    words = ("--url", f"main={source}", "transfer", "plan", "--to", databases("postgresql", tmp_path))
    (problem,) = answer(*words, status=4)["data"]["problems"]
    assert (problem["column"], problem["keys"], problem["reason"]) == (
        "doc", [{"id": "0"}], "a number with more digits than the column stores",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "[-Infinity, 1]"])
def test_constants_that_are_no_json_are_problems(answer, databases, tmp_path, text):
    source = databases("sqlite", tmp_path)
    run_sql(
        source,
        "create table t (id int primary key, doc json)",
        ("insert into t values (0, ?), (1, '{}')", (text,)),
    )
    words = ("--url", f"main={source}", "transfer", "plan", "--to", databases("postgresql", tmp_path))
    (problem,) = answer(*words, status=4)["data"]["problems"]
    assert (problem["column"], problem["keys"], problem["reason"]) == (
        "doc", [{"id": "0"}], "not valid JSON",
    )  # fmt: skip


def read_as_floats(path, texts):
    """Return the changes of texts in a type that keeps floats, with their counts, and the lines for it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("create table t (doc text)")
        db.executemany("insert into t values (?)", [(text,) for text in texts])
        db.commit()
    pair = ColumnPair(
        table="t",
        column="doc",
        source="text",
        destination="json",
        source_type=LogicalType(kind="json"),
        destination_type=LogicalType(kind="json", json_form="float"),
    )
    table = TransferTable(name="t", columns=[LineColumn(name="doc", kind="text")], key_width=0, pairs=[pair])
    with closing(SQLiteReader(path, "app/main")) as reader:
        changes = {
            change.change: change.rows for change in find_json_changes(require(reader, RowSource), table)
        }
        kind = exchange_kind(pair)
        with require(reader, RowSource).stream_lines("t", [LineColumn(name="doc", kind=kind)]) as batches:
            return changes, [line for batch in batches for line in batch.lines]


def test_changes_of_a_type_that_keeps_floats(tmp_path):
    texts = [
        PI,
        REPEATED,
        "-0.0",
        "1.5",
        "18446744073709551615",
        "[1e30, 1.10]",
        "12345678901234567890123",
        '"0.1"',
    ]
    changes, lines = read_as_floats(tmp_path / "app.db", texts)
    assert changes == {
        "digits of numbers are removed": 2,
        "repeated keys are removed, except for the last": 1,
        "the sign of zero is removed": 1,
    }
    assert lines == [
        b'{"pi":3.141592653589793}', b'{"a":2,"b":[true,null]}', b"0", b"1.5", b"18446744073709551615",
        b"[1e+30,1.1]", b"1.2345678901234568e+22", b'"0.1"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "is_changed"),
    [
        ("-9223372036854775807", False),
        ("-9223372036854775809", True),
        ("18446744073709551613", False),
        ("18446744073709551617", True),
        ("36893488147419103231", True),
        ("9007199254740993.0", True),
    ],
)
def test_whole_numbers_of_64_bits_keep_their_digits_among_floats(tmp_path, text, is_changed):
    changes, _ = read_as_floats(tmp_path / "app.db", [text])
    assert changes == ({"digits of numbers are removed": 1} if is_changed else {})


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_numbers_that_a_column_of_sqlite_converts_are_problems(answer, create_source, tmp_path, engine):
    """A column with the declared type JSON, as in migrations of apps, has the affinity NUMERIC."""
    exact = ["5", "-17", "0", "1.5", "-0.25", "9223372036854775807", '"1.50"', "[1.50, 1e400]", "null", PI]
    changed = [
        "1.50",
        "-0",
        "0.0",
        "1e5",
        "3.14159265358979323846",
        "9223372036854775808",
        " 5",
        "0.00001",
        "1e400",
    ]
    if stores_values(engine):
        texts = [text for text in (*exact, *changed) if "1e400" not in text]
        source = create_source(engine, "json", texts)
        texts = read_texts(source)
        changed = ["0.0", "100000.0", "3.141592653589793", "9223372036854775808", "0.00001"]
        exact = [text for text in texts if text not in changed]
    else:
        texts = [*exact, *changed]
        source = create_source(engine, "json", texts)
    destination = tmp_path / "copy.db"
    with closing(sqlite3.connect(destination)) as db:
        db.execute("create table t (id int primary key, doc JSON)")
        # what SQLite itself shows
        for text in texts:
            db.execute("insert into t (doc) values (?)", (text,))
        shown = [str(text) for (text,) in db.execute("select cast(doc as text) from t order by rowid")]
        db.execute("delete from t")
        db.commit()
    assert [text for text, stored in zip(texts, shown, strict=True) if text != stored] == changed
    words = ("--url", f"main={source}", "transfer")
    (problem,) = answer(*words, "plan", "--to", str(destination), status=4)["data"]["problems"]
    assert (problem["column"], problem["rows"]) == ("doc", len(changed))
    assert answer(*words, "run", "--to", str(destination), status=6)["error"]["code"] == "values-unstorable"
    run_sql(source, *(f"delete from t where id = {texts.index(text)}" for text in changed))
    copy(answer, source, str(destination))
    assert read_texts(f"sqlite:///{destination}")[:3] == [5, -17, 0]
