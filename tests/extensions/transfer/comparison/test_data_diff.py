"""``data diff`` on every engine, and between engines."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.extensions.transfer import compare
from dbctl.url import parse_url
from tests import servers
from tests.databases import empty_database
from tests.extensions.transfer.conftest import create_source

ENGINES = ["sqlite", "postgresql", "mysql"]
CHANGES = [
    "insert into room values (101, 'new room', 1, null)",
    "update person set mail = 'else@example.org', note = null where id = 'p0001'",
    "update person set photo = x'00' where id = 'p0009'",
    "delete from member where person = 'p0005' and room = 7",
    "insert into event values ('2026-03-03 00:00:00', 'a second')",
    "delete from event where rowid = 1",
]


def run(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for sql in statements:
            db.execute(sql)
    return path


def compare_files(answer, left, right, *words, status=0):
    return answer("data", "diff", str(left), str(right), *words, status=status)["data"]


def counts(result):
    """Return the counts of tables that differ."""
    return {
        table["table"]: (table["only_a"], table["only_b"], table["changed"])
        for table in result["tables"]
        if not table["equal"]
    }


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return create_source(tmp_path / "source.db")


@pytest.fixture
def copy(answer, source, tmp_path, request):
    """Return a function that copies the source into a database of an engine, and returns its address."""

    def create(engine):
        if engine == "postgresql":
            context = servers.postgresql_schema()
        elif engine == "mysql":
            context = servers.mysql_database()
        else:
            return str(shutil.copy(source, tmp_path / "copy.db"))  # a transfer changes the form of times
        url = servers.text(context.__enter__())
        request.addfinalizer(lambda: context.__exit__(None, None, None))
        answer("--url", str(source), "transfer", "run", "--to", url)
        return url

    return create


@pytest.mark.parametrize("engine", ENGINES)
def test_changed_rows_are_reported_with_both_values(answer, source, copy, engine):
    other = copy(engine)
    tables = [word for name in ("room", "person", "member", "event") for word in ("--table", name)]
    assert compare_files(answer, source, other, *tables)["equal"] is True
    run(source, *CHANGES)
    result = compare_files(answer, source, other, *tables)
    assert counts(result) == {"room": (1, 0, 0), "person": (0, 0, 2), "member": (0, 1, 0), "event": (1, 1, 0)}
    rows = {table["table"]: table["rows"] for table in result["tables"]}
    assert rows["room"][0]["key"] == {"id": 101}
    assert rows["room"][0]["a"]["name"] == "new room"
    assert rows["room"][0]["b"] is None
    person = rows["person"][0]
    assert (person["change"], person["key"]) == ("changed", {"id": "p0001"})
    assert person["a"] == {"mail": "else@example.org", "note": None}
    assert person["b"] == {"mail": "p1@example.org", "note": "tab\there"}
    assert rows["person"][1]["a"] == {"photo": "\\x00"}
    assert rows["member"][0]["key"] == {"person": "p0005", "room": 7}
    assert {row["change"] for row in rows["event"]} == {"only a", "only b"}
    answer("data", "diff", str(source), other, *tables, "--check", status=4)


@pytest.mark.slow
def test_two_servers_are_compared(answer, source, copy):
    first, second = copy("postgresql"), copy("mysql")
    assert counts(compare_files(answer, first, second)) == {}
    with closing(servers.connection(parse_url(first))) as connection:
        connection.execute("update person set height = height + 1 where id = 'p0002'")
    assert counts(compare_files(answer, first, second)) == {"person": (0, 0, 1)}


# Keys ------------------------------------------------------------------------------------------------------------

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 40)
ROWS = st.dictionaries(INTEGERS, st.sampled_from(["x", "y", "tab\t"]), max_size=40)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(left=ROWS, right=ROWS, data=st.data())
def test_ranges_of_integer_keys_are_exact(answer, monkeypatch, pairs, engine, left, right, data):
    # few rows must exercise the limits for many
    monkeypatch.setattr(compare, "MAX_PARTS", data.draw(st.integers(2, 5)))
    width = data.draw(st.integers(0, 3))
    monkeypatch.setattr(compare, "_FIRST_WIDTH", width)
    monkeypatch.setattr(compare, "MAX_ROWS", 1 << width)
    right = {**left, **right} if data.draw(st.booleans()) else right
    first, second = pairs(engine, left, right)
    result = compare_files(answer, first, second, "--limit", "100")
    expected = (
        len(left.keys() - right.keys()),
        len(right.keys() - left.keys()),
        sum(right.get(key, value) != value for key, value in left.items()),
    )
    assert counts(result) == ({"t": expected} if any(expected) else {})
    keys = {row["key"]["id"] for table in result["tables"] for row in table["rows"]}
    assert keys == {key for key in left.keys() | right.keys() if left.get(key) != right.get(key)}


@pytest.fixture
def pairs(request, tmp_path):
    """Return a function that writes rows into the table of two databases of an engine, and returns their addresses."""
    connections = {}

    def connect(engine, side):
        if engine == "sqlite":
            path = tmp_path / f"{side}.db"
            connection = sqlite3.connect(path)
            return connection, str(path)
        context = servers.postgresql_schema() if engine == "postgresql" else servers.mysql_database()
        url = context.__enter__()
        request.addfinalizer(lambda: context.__exit__(None, None, None))
        connection = servers.connection(url) if engine == "postgresql" else servers.mysql_connection(url)
        return connection, servers.text(url)

    def write(engine, *sides):
        for side, rows in enumerate(sides):
            if (engine, side) not in connections:
                connection, _ = connections[engine, side] = connect(engine, side)
                request.addfinalizer(connection.close)
                cursor = connection.cursor()
                kind = "integer" if engine == "sqlite" else "bigint"
                cursor.execute(f"create table t (id {kind} primary key, value varchar(9))")
            connection, _ = connections[engine, side]
            cursor = connection.cursor()
            cursor.execute("delete from t")
            mark = "?" if engine == "sqlite" else "%s"
            if rows:
                cursor.executemany(f"insert into t values ({mark}, {mark})", list(rows.items()))
            connection.commit()
        return [connections[engine, side][1] for side in range(2)]

    return write


# Exact values ----------------------------------------------------------------------------------------------------

#: Values of one column in both databases, which the engine itself distinguishes.
FORMS = {
    "sqlite": [
        ("numeric", "1", "'1x'"),
        ("blob", "1", "'1'"),
        ("blob", "'1'", "x'31'"),
        ("decimal(10,2)", "0.1", "0.10000000000000002"),
        ("boolean", "1", "'true'"),
        ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
        ("uuid", "'AB0e8400-e29b-41d4-a716-446655440000'", "'ab0e8400-e29b-41d4-a716-446655440000'"),
    ],
    "postgresql": [
        ("numeric", "1.1", "1.10"),
        ("double precision", "0", "'-0'"),
        ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
        ("text", "'a'", "'a '"),
        ("numeric[]", "'{1.1}'", "'{1.10}'"),
    ],
    "mysql": [
        ("double", "0.1", "0.10000000000000002"),
        ("float", "0.1", "0.10000002"),
        ("text", "'a'", "'a '"),
        ("longtext", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_values_that_differ_only_in_their_form_differ(answer, tmp_path, engine):
    with (
        empty_database(engine, tmp_path / "a.db") as first,
        empty_database(engine, tmp_path / "b.db") as second,
    ):
        forms = FORMS[engine]
        columns = ", ".join(f"c{n} {form[0]}" for n, form in enumerate(forms))
        for side, database in ((1, first), (2, second)):
            values = ", ".join(form[side] for form in forms)
            database.run(
                f"create table sums (id integer primary key, {columns})",
                f"insert into sums values (1, {values})",
            )
        result = compare_files(answer, first.url, second.url)
        (table,) = result["tables"]
        assert list(table["rows"][0]["a"]) == [f"c{n}" for n in range(len(forms))]
