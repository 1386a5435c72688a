"""Values of PostgreSQL: reading, comparing, and rejected values of each type."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from dbctl.engines.contract.database import (
    Condition,
    InSubquery,
    Merge,
    Not,
    Order,
    Query,
    ReferenceCount,
    ShiftedTime,
)
from dbctl.engines.postgresql.database import PostgreSQLReader
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, QueryFailedError
from dbctl.errors.usage import SchemaMismatchError, ValueInvalidError
from tests import servers

UUID = "6f1d9d8e-0000-4000-8000-000000000001"
TIMESTAMP = datetime(2024, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)
EPOCH_MS = round(TIMESTAMP.timestamp() * 1000)

VALUES_BY_TYPE = {
    "uuid": (UUID, UUID),
    "mood": ("sad", "sad"),
    "jsonb": ('{"a":[1,null]}', '{"a": [1, null]}'),
    "json": ('{"a":1}', '{"a":1}'),
    "text[]": (["a", 'b"c', None, "d,e\\"], ["a", 'b"c', None, "d,e\\"]),
    "uuid[]": ([UUID], [UUID]),
    "int[]": ([1, 2], [1, 2]),
    "numeric": ("10.00", Decimal("10.00")),
    "numeric(30)": ("123456789012345678901234567890", Decimal(123456789012345678901234567890)),
    "numeric(9, 2)": (2.5, Decimal("2.50")),
    "timestamptz": ("2024-03-01 14:30:15.25+02", TIMESTAMP),
    "timestamp": (TIMESTAMP, TIMESTAMP),
    "date": (TIMESTAMP, "2024-03-01"),
    "time": ("12:30", "12:30:00"),
    "interval": ("36 hours", "36:00:00"),
    "inet": ("10.0.0.1", "10.0.0.1"),
    "bytea": (b"\x00\xff", b"\x00\xff"),
    "boolean": (True, True),
    "char(3)": ("a", "a  "),
    "varchar(9)": ("Zoë", "Zoë"),
    "double precision": (1.5, 1.5),
    "int4range": ("[1,3)", "[1,3)"),
}


@pytest.fixture
def typed(postgresql):
    """Create a table with a column of every type, with a row of values and a row of NULLs."""
    postgresql.execute("create type mood as enum ('happy', 'sad', 'MEH')")
    columns = ", ".join(f"c{index} {kind}" for index, kind in enumerate(VALUES_BY_TYPE))
    postgresql.execute(f"create table t (id integer primary key, {columns})")
    writer = postgresql.writer()
    with writer.transaction():
        writer.insert(
            "t", {"id": 1, **{f"c{index}": value for index, (value, _) in enumerate(VALUES_BY_TYPE.values())}}
        )
        writer.insert("t", {"id": 2})
    return postgresql


def test_stored_values_are_read_as_plain_values(typed):
    columns = [f"c{index}" for index in range(len(VALUES_BY_TYPE))]
    (row, _) = typed.reader().select("t", columns)
    assert dict(zip(VALUES_BY_TYPE, row, strict=True)) == {
        kind: expected for kind, (_, expected) in VALUES_BY_TYPE.items()
    }
    assert [type(value) for value in row] == [type(expected) for _, expected in VALUES_BY_TYPE.values()]


def test_bulk_insert_stores_the_same_values(typed):
    writer = typed.writer()
    columns = [f"c{index}" for index in range(len(VALUES_BY_TYPE))]
    with writer.transaction():
        assert (
            writer.insert_many("t", ["id", *columns], [[3, *(value for value, _ in VALUES_BY_TYPE.values())]])
            == 1
        )
    first, _, third = typed.reader().select("t", columns)
    assert first == third


@pytest.mark.parametrize("index", range(len(VALUES_BY_TYPE)))
def test_each_type_can_be_found_counted_and_sorted(typed, index):
    value, _ = list(VALUES_BY_TYPE.values())[index]
    reader, column = typed.reader(), f"c{index}"
    order = [
        Order([column]),
        Order([column], nocase=True),
        Order([column], time=True),
        Order([column, column]),
    ]
    assert [row[0] for row in reader.select("t", ["id"], order_by=order)] == [1, 2]
    assert sorted(reader.count_by("t", column).values()) == [1, 1]
    assert reader.count("t", [Condition(column, "contains", "")]) == 1
    if not isinstance(value, list | datetime):
        stored = reader.query(f"select {column}::text from t where id = 1")[0][0] if index != 16 else value
        for op in ("=", "in"):
            assert reader.count("t", [Condition(column, op, stored if op == "=" else [stored])]) == 1, op
    link = InSubquery(["id"], "t", ["id"], [Condition("id", "=", 1)])
    assert reader.select("t", ["id"], order_by=[Order([column], through=link)])[0] == (1,)


@pytest.mark.parametrize(
    "value", ["nope", "", "20.5.1", "a\0b", "\u0661", b"\xff", 3.75, "1e999999999", -(2**63)]
)
def test_impossible_values_match_no_row(typed, value):
    reader = typed.reader()
    for index, kind in enumerate(VALUES_BY_TYPE):
        column = f"c{index}"
        for op in ("=", "in", "<", ">="):
            where = Condition(column, op, [value] if op == "in" else value)
            assert reader.count("t", [where]) in ({0} if op in ("=", "in") else {0, 1}), (kind, op)
        assert reader.count("t", [Condition(column, "!=", value)]) == 1, kind
        assert reader.count("t", [Not(Condition(column, "=", value))]) == 2, kind
        for op in ("same", "contains", "starts", "element"):
            reader.count("t", [Condition(column, op, value)])
        reader.count("t", [Condition(column, ">", TIMESTAMP)])


def test_invalid_values_are_rejected_on_write(typed):
    writer = typed.writer()
    for index, kind in enumerate(VALUES_BY_TYPE):
        if kind in ("text[]", "varchar(9)", "char(3)", "bytea"):
            continue
        with pytest.raises((ValueInvalidError, ConstraintError)), writer.transaction():
            writer.update("t", {f"c{index}": "nope"}, [])
        with pytest.raises((ValueInvalidError, ConstraintError)), writer.transaction():
            writer.insert_many("t", ["id", f"c{index}"], [(9, "nope")])
    with pytest.raises(ValueInvalidError, match="too long"), writer.transaction():
        writer.update("t", {f"c{list(VALUES_BY_TYPE).index('varchar(9)')}": "0123456789"}, [])
    assert writer.count("t") == 2


def test_enum_has_labels_and_sorts_by_text(typed):
    column = typed.reader().tables()["t"].columns["c1"]
    assert (column.native, list(column.labels)) == ("enum", ["happy", "sad", "MEH"])
    writer = typed.writer()
    with writer.transaction():
        writer.insert_many("t", ["id", "c1"], [(3, "happy"), (4, "MEH")])
    assert [row[0] for row in writer.select("t", ["c1"], order_by=[Order(["c1"])])] == [
        "MEH",
        "happy",
        "sad",
        None,
    ]
    assert writer.count("t", [Condition("c1", "same", "SAD")]) == 1
    assert writer.count("t", [Condition("c1", "in", ["sad", "angry", "MEH"])]) == 2


def test_times_outside_the_range_of_python_are_read_as_text(postgresql):
    postgresql.execute("create table t (id integer, a timestamptz, b timestamp, c date)")
    postgresql.execute(
        "insert into t values (1, 'infinity', '-infinity', 'infinity'), (2, '0044-03-15 BC', '20000-01-01', null)"
    )
    reader = postgresql.reader()
    first, second = reader.select("t", ["a", "b", "c"], order_by=[Order(["id"])])
    assert first == ("infinity", "-infinity", "infinity")
    assert second == ("0044-03-15 00:00:00+00 BC", "20000-01-01 00:00:00", None)
    assert reader.select("t", ["id"], [Condition("a", ">", TIMESTAMP)]) == [(1,)]
    assert len(reader.select("t", ["id"], order_by=[Order(["a", "b"], time=True)])) == 2


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize(
    ("shift", "op", "is_match"),
    [
        (0, "=", True),
        (-1, "=", False),
        (1, "=", False),
        (0, "!=", False),
        (1, "!=", True),
        (0, ">=", True),
        (1, ">=", False),
        (0, ">", False),
        (-1, ">", True),
        (0, "<", False),
        (1, "<", True),
        (0, "<=", True),
        (-1, "<=", False),
    ],
)
def test_native_times_compare_by_microsecond(postgresql, kind, shift, op, is_match):
    postgresql.execute(f"create table t (at {kind})")
    postgresql.execute("insert into t values ('2024-03-01 12:30:15.250789')")
    where = Condition("at", op, TIMESTAMP + timedelta(microseconds=789 + shift))
    assert postgresql.reader().count("t", [where]) == is_match


def test_native_time_comparison_uses_the_index(postgresql):
    postgresql.execute("create table t (at timestamptz, n integer)")
    postgresql.execute("create index t_at on t (at)")
    postgresql.execute(
        "insert into t select now() - make_interval(secs => n), n from generate_series(1, 5000) n"
    )
    postgresql.execute("analyze t")
    explanation = postgresql.reader().explainer.explain(
        Query("t", ["n"], [Condition("at", "<", datetime(2020, 1, 1, tzinfo=UTC))])
    )
    assert explanation.full_scans == []


FORMS = {
    "iso": "2024-03-01T12:30:15.250Z",
    "space": "2024-03-01 12:30:15.250",
    "offset": "2024-03-01T14:30:15.250+02:00",
    "server": "2024-03-01 12:30:15.25+00",
    "west": "2024-03-01T07:00:15.250-0530",
    "milliseconds": str(EPOCH_MS),
}
GARBAGE = [
    "",
    "never",
    "2004",
    "now",
    "2024-13-01",
    "0000-01-01",
    "2024-02-32",
    "99:99",
    "infinity",
    "1e9",
    "2024-01-01T25:00",
]


def test_text_times_are_parsed_and_garbage_is_null(postgresql):
    postgresql.execute("create table t (id integer primary key, at text)")
    postgresql.execute("insert into t values (%s, %s)", *enumerate([*FORMS.values(), *GARBAGE, None]))
    reader = postgresql.reader()
    for shift, op, is_match in (
        (0, "=", True),
        (1, "=", False),
        (-1, ">", True),
        (0, ">", False),
        (1, "<", True),
    ):
        rows = reader.select("t", ["id"], [Condition("at", op, TIMESTAMP + timedelta(milliseconds=shift))])
        assert [row[0] for row in rows] == (list(range(len(FORMS))) if is_match else [])
    ordered = [row[0] for row in reader.select("t", ["id"], order_by=[Order(["at"], time=True)])]
    assert ordered == list(range(len(FORMS) + len(GARBAGE) + 1))


@pytest.mark.parametrize(
    ("kind", "value"),
    [("bigint", EPOCH_MS), ("double precision", EPOCH_MS / 1000), ("numeric", EPOCH_MS / 1000)],
)
def test_numbers_are_parsed_as_times_within_range(postgresql, kind, value):
    postgresql.execute(f"create table t (id integer primary key, at {kind})")
    extreme = [(2, 2**63 - 1), (3, -(2**63))] if kind == "bigint" else [(2, "Infinity"), (3, "NaN")]
    postgresql.execute("insert into t values (%s, %s)", (1, value), *extreme)
    reader = postgresql.reader()
    assert reader.select("t", ["id"], [Condition("at", "=", TIMESTAMP)]) == [(1,)]
    assert len(reader.select("t", ["id"], order_by=[Order(["at"], time=True)])) == 3


@pytest.mark.parametrize(
    ("source", "target", "form", "expected"),
    [
        ("timestamptz", "timestamptz", "iso-ms", datetime(2024, 3, 1, 16, 30, 15, 250000, tzinfo=UTC)),
        ("timestamp", "timestamp", "iso-ms", datetime(2024, 3, 1, 16, 30, 15, 250000, tzinfo=UTC)),
        ("text", "timestamptz", "iso-ms", datetime(2024, 3, 1, 16, 30, 15, 250000, tzinfo=UTC)),
        ("timestamptz", "bigint", "epoch-ms", EPOCH_MS + 4 * 3_600_000),
        ("timestamptz", "text", "sqlite-time", "2024-03-01 16:30:15"),
    ],
)  # fmt: skip
def test_shifted_time_converts_between_types(postgresql, source, target, form, expected):
    postgresql.execute(f"create table t (a {source}, b {target})")
    postgresql.execute("insert into t values ('2024-03-01 12:30:15.250Z')")
    writer = postgresql.writer()
    with writer.transaction():
        writer.update("t", {"b": ShiftedTime("a", timedelta(hours=4), form)}, [])
    assert writer.select("t", ["b"]) == [(expected,)]


def test_links_between_types_compare_as_text(postgresql):
    postgresql.execute("create table a (id uuid primary key)")
    postgresql.execute("create table b (a text, n integer)")
    postgresql.execute(f"insert into a values ('{UUID}'), (gen_random_uuid())")
    postgresql.execute(f"insert into b values ('{UUID}', 1), ('nope', 2)")
    reader = postgresql.reader()
    assert reader.select("a", ["id"], [InSubquery(["id"], "b", ["a"])]) == [(UUID,)]
    assert reader.select("a", ["id"], [ReferenceCount("id", "b", "a", "=", 1)]) == [(UUID,)]
    order = [Order(["n"], through=InSubquery(["id"], "b", ["a"]))]
    assert reader.select("a", ["id"], order_by=order)[0] == (UUID,)


# Statements of a profile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("select '100%:x', \"a:y%\" from t", {}, ("100%:x", 1)),
        ("select :x::text -- :no 'nor this\n", {"x": "a"}, ("a",)),
        ("select /* :no /* ' */ :no */ E'\\':no', $f$ :no '' $f$, $$:no$$", {}, ("':no", " :no '' ", ":no")),
        ('select "a:y%" from t where "a:y%" in :set', {"set": [1, 2]}, (1,)),
        ('select count(*) from t where "a:y%" not  IN :set', {"set": [1, 2]}, (0,)),
        ("select count(*) from t where u in :set and (:u = '' or u = :u)", {"set": [UUID], "u": UUID}, (1,)),
        ("select (array[1,2,3])[1:2], 7 % 4", {}, ([1, 2], 3)),
        ("select :n / 1000", {"n": EPOCH_MS}, (EPOCH_MS // 1000,)),
        ("select :no is null", {"no": None}, (True,)),
    ],
)  # fmt: skip
def test_percent_signs_and_colons_are_unchanged(postgresql, sql, parameters, expected):
    postgresql.execute('create table t ("a:y%" integer, u uuid)')
    postgresql.execute(f"insert into t values (1, '{UUID}')")
    assert postgresql.reader().query(sql, parameters) == [expected]


def test_table_named_user_is_quoted(postgresql):
    postgresql.execute('create table "User" (id integer primary key, "userName" text)')
    postgresql.execute("insert into \"User\" values (1, 'a'), (2, 'b'), (3, 'c')")
    writer = postgresql.writer()
    assert writer.count("User") == 3
    assert writer.select("User", ["userName"], [Condition("userName", "=", "b")]) == [("b",)]
    with pytest.raises(SchemaMismatchError):
        writer.count("user")


@pytest.mark.parametrize(
    "sql",
    ["select 1; select 2", "select 1; drop table t", "select '\0'", "select :missing", "nonsense", "", "select 1/0", "select nosuch"],
)  # fmt: skip
def test_invalid_and_multiple_statements_are_rejected(postgresql, sql):
    postgresql.execute("create table t (id integer)")
    reader = postgresql.reader()
    with pytest.raises(QueryFailedError):
        reader.query(sql)
    assert reader.count("t") == 0


def test_merge_converts_text_without_truncation(postgresql):
    postgresql.execute("create type mood as enum ('happy', 'sad')")
    postgresql.execute("create table t (id uuid primary key, m mood, s varchar(3), at timestamptz)")
    writer = postgresql.writer()
    select, columns = "select :id, :m, :s, :at", {"m": "replace", "s": "replace", "at": "keep"}
    values = {"id": UUID, "m": "sad", "s": "abc", "at": "2024-03-01T12:30:15.250Z"}
    for mood in ("sad", "happy"):
        with writer.transaction():
            assert (
                writer.merge(
                    Merge(
                        table="t", select=select, parameters=values | {"m": mood}, key=["id"], columns=columns
                    )
                )
                == 1
            )
    assert writer.select("t", ["id", "m", "s", "at"]) == [(UUID, "happy", "abc", TIMESTAMP)]
    with pytest.raises(DbctlError, match="too long"), writer.transaction():
        writer.merge(
            Merge(table="t", select=select, parameters=values | {"s": "abcd"}, key=["id"], columns=columns)
        )


def test_insert_without_values_uses_defaults(postgresql):
    postgresql.execute("create table t (id serial primary key, a text default 'x')")
    writer = postgresql.writer()
    with writer.transaction():
        assert writer.insert("t", {}, returning="a") == "x"


def test_invalid_utf8_is_read_with_its_bytes():
    with servers.postgresql_database(encoding="SQL_ASCII") as url:
        with closing(servers.connection(url)) as connection:
            connection.execute("create table t (id integer, a text)")
            connection.execute(rb"insert into t values (1, 'fine'), (2, E'a\xffb'), (3, E'Zo\xc3\xab')")
        with closing(PostgreSQLReader(url, "app/user", timeout=1)) as reader:
            assert reader.select("t", ["a"], order_by=[Order(["id"])]) == [("fine",), ("a\udcffb",), ("Zoë",)]
            with reader.streams.stream("t", ["id", "a"]) as stream:
                rows = [tuple(row) for batch in stream.batches for row in batch]
            assert sorted(rows) == [(1, "fine"), (2, "a\udcffb"), (3, "Zoë")]
            session = reader.connection.session
            assert (session.schema, session.database) == ("public", url.path)


def test_padded_texts_compare_without_the_spaces_at_their_end(postgresql):
    postgresql.execute("create table t (code char(5) primary key)")
    postgresql.execute("insert into t values (%s)", ("ab",), ("abcde",), ("",))
    reader = postgresql.reader()
    assert [code for (code,) in reader.select("t", ["code"])] == [" " * 5, "ab   ", "abcde"]
    for code in ("ab", "ab   ", "ab         "):
        counts = [
            reader.count("t", [Condition("code", op, code)]) for op in ("=", "!=", "<", "<=", ">", ">=")
        ]
        assert counts == [1, 2, 1, 2, 1, 2], code
        assert reader.count("t", [Condition("code", "in", [code, "abcde", "x"])]) == 2
    assert reader.count("t", [Condition("code", "=", " ab")]) == 0
