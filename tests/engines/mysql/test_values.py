"""Values of MySQL and MariaDB: reading, comparing, and rejected values of each type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from dbctl.engines.mysql.values import format_literal
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, QueryFailedError
from dbctl.errors.usage import NotSupportedError, SchemaMismatchError, ValueInvalidError

UUID = "6f1d9d8e-0000-4000-8000-000000000001"
TIMESTAMP = datetime(2024, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)
EPOCH_MS = round(TIMESTAMP.timestamp() * 1000)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_literal_of_a_decimal_that_is_no_number_is_refused(text):
    with pytest.raises(ValueInvalidError):
        format_literal(Decimal(text))


def test_rows_are_found_by_the_largest_and_the_smallest_numbers(mysql):
    mysql.execute("create table extremes (id integer primary key, d double)")
    numbers = [1e305, -1.7e308, 1e-305, 2.3e-308, 0.0]
    for key, number in enumerate(numbers):
        mysql.execute(f"insert into extremes values ({key}, {number!r})")
    reader = mysql.reader()
    for key, number in enumerate(numbers):
        for value in (number, repr(number), Decimal(repr(number))):
            assert reader.select("extremes", ["id"], [Condition("d", "=", value)]) == [(key,)]
    for text in ("1e400", "-1e400", "1e-400"):
        assert reader.select("extremes", ["id"], [Condition("d", "=", text)]) == []


VALUES_BY_TYPE = {
    "enum('happy', 'sad', 'MEH')": ("sad", "sad"),
    "set('a', 'b')": ("a,b", "a,b"),
    "json": ('{"a": [1, null]}', '{"a": [1, null]}'),
    "decimal(10, 2)": ("10.00", Decimal("10.00")),
    "decimal(30)": ("123456789012345678901234567890", Decimal(123456789012345678901234567890)),
    "decimal(9, 2)": (2.5, Decimal("2.50")),
    "datetime(6)": ("2024-03-01T14:30:15.25+02:00", TIMESTAMP),
    "timestamp(3) null": (TIMESTAMP, TIMESTAMP),
    "datetime": (TIMESTAMP, TIMESTAMP.replace(microsecond=0)),
    "date": (TIMESTAMP, "2024-03-01"),
    "time": ("12:30", "12:30:00"),
    "year": (2024, 2024),
    "tinyint(1)": (True, 1),
    "bit(1)": (True, 1),
    "bit(12)": (2049, 2049),
    "bigint unsigned": (7, 7),
    "varbinary(20)": (b"\x00\xff\\'", b"\x00\xff\\'"),
    "binary(16)": (bytes(range(16)), bytes(range(16))),
    "blob": (b"", b""),
    "char(3)": ("a", "a"),
    "varchar(9)": ("Zoë 🍲", "Zoë 🍲"),
    "varchar(9) character set latin1": ("Zoë", "Zoë"),
    "longtext": ("a\\b'c\"d\n\t%_`e\0f", "a\\b'c\"d\n\t%_`e\0f"),
    "double": (1.5, 1.5),
}


@pytest.fixture
def typed(mysql):
    """Create a table with a column of every type, with a row of values and a row of NULLs."""
    columns = ", ".join(f"c{index} {kind}" for index, kind in enumerate(VALUES_BY_TYPE))
    mysql.execute(f"create table t (id integer primary key, {columns})")
    writer = mysql.writer()
    with writer.transaction():
        writer.insert(
            "t", {"id": 1, **{f"c{index}": value for index, (value, _) in enumerate(VALUES_BY_TYPE.values())}}
        )
        writer.insert("t", {"id": 2})
    return mysql


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


@pytest.mark.parametrize("kind", VALUES_BY_TYPE)
def test_each_type_can_be_found_counted_and_sorted(typed, kind):
    column = f"c{list(VALUES_BY_TYPE).index(kind)}"
    _, expected = VALUES_BY_TYPE[kind]
    reader = typed.reader()
    order = [
        Order([column]),
        Order([column], nocase=True),
        Order([column], time=True),
        Order([column, column]),
    ]
    assert [row[0] for row in reader.select("t", ["id"], order_by=order)] == [1, 2]
    assert sorted(reader.count_by("t", column).values()) == [1, 1]
    assert reader.count_by("t", column) == {expected: 1, None: 1}
    assert reader.count("t", [Condition(column, "contains", "")]) == 1
    for op in ("=", "in"):
        assert reader.count("t", [Condition(column, op, expected if op == "=" else [expected])]) == 1, op
    link = InSubquery(["id"], "t", ["id"], [Condition("id", "=", 1)])
    assert reader.select("t", ["id"], order_by=[Order([column], through=link)])[0] == (1,)
    assert reader.select("t", ["id"], [InSubquery([column], "t", [column])]) == [(1,)]


@pytest.mark.parametrize(
    "value", ["nope", "", "20.5.1", "a\0b", "\u0661", "λ🍲", "\\", b"\xff", 3.75, "1e999999999", -(2**63)]
)
def test_impossible_values_match_no_row(typed, value):
    reader = typed.reader()
    for index, (kind, (_, stored)) in enumerate(VALUES_BY_TYPE.items()):
        if stored == str(value).encode():  # text is compared with the bytes of a column
            continue
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
        if kind.startswith(("char", "varchar", "longtext")):
            continue
        invalid = "nope" if not kind.startswith(("varbinary", "binary", "blob")) else b"x" * 99_999
        with pytest.raises((ValueInvalidError, ConstraintError)), writer.transaction():
            writer.update("t", {f"c{index}": invalid}, [])
        with pytest.raises((ValueInvalidError, ConstraintError)), writer.transaction():
            writer.insert_many("t", ["id", f"c{index}"], [(9, invalid)])
    for name, invalid in (("varchar(9)", "0123456789"), ("varchar(9) character set latin1", "λ")):
        with pytest.raises((ValueInvalidError, ConstraintError)), writer.transaction():
            writer.update("t", {f"c{list(VALUES_BY_TYPE).index(name)}": invalid}, [])
    assert writer.count("t") == 2


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        "collate utf8mb4_turkish_ci",
        "character set latin1",
        "collate utf8mb4_bin",
        "character set utf8mb3",
    ],
)
def test_text_comparison_ignores_the_collation(mysql, attributes):
    mysql.execute(f"create table t (id integer primary key, a varchar(20) {attributes}, key (a))")
    texts = [
        "admin",
        "Admin",
        "ADMIN",
        "ádmin",
        "admin ",
        "ADMİN".replace("İ", "I"),
        "admın".replace("ı", "i"),
    ]
    mysql.execute("insert into t values (%s, %s)", *enumerate(texts))
    reader = mysql.reader()
    for value in ("admin", "ádmin", "admin "):
        expected = [index for index, text in enumerate(texts) if text == value]
        for where in (Condition("a", "=", value), Condition("a", "in", [value])):
            assert [row[0] for row in reader.select("t", ["id"], [where])] == expected
        assert reader.count("t", [Condition("a", "!=", value)]) == len(texts) - len(expected)
    same = [index for index, text in enumerate(texts) if text.lower() == "admin"]
    assert [row[0] for row in reader.select("t", ["id"], [Condition("a", "same", "aDMIN")])] == same
    assert reader.count_by("t", "a") == {text: texts.count(text) for text in texts}
    ordered = [row[0] for row in reader.select("t", ["a"], order_by=[Order(["a"])])]
    assert ordered == sorted(texts, key=str.encode)


def test_text_comparison_uses_the_index(mysql):
    mysql.execute("create table t (id integer primary key, a varchar(40), at datetime, key (a), key (at))")
    mysql.execute(
        "insert into t values "
        + ", ".join(f"({n}, 'user {n}', now() - interval {n} second)" for n in range(1, 5001))
    )
    mysql.execute("analyze table t")
    reader = mysql.reader()
    for op, value in (("=", "user 7"), ("in", ["user 7", "user 8"]), ("same", "USER 7")):
        assert reader.explainer.explain(Query("t", ["id"], [Condition("a", op, value)])).full_scans == [], op
    assert not reader.explainer.explain(
        Query("t", ["id"], [Condition("at", "<", datetime(2020, 1, 1, tzinfo=UTC))])
    ).full_scans
    assert reader.explainer.explain(Query("t", ["id"], [Condition("a", "contains", "7")])).full_scans == ["t"]


ODD_LABEL = "a\\b\\\\\nc'"


def test_enum_has_labels_and_sorts_by_text(mysql):
    mysql.execute(
        "create table t (id integer primary key, m enum('happy', 'sad', 'MEH', 'it''s', 'a,b', x'615c625c5c0a6327') not null)"
    )
    mysql.execute("insert into t values (1, 'sad'), (2, 'happy'), (3, 'MEH')")
    mysql.execute("set sql_mode = ''")
    mysql.execute("insert into t values (4, 'none of them')")
    column = mysql.reader().tables()["t"].columns["m"]
    assert (column.native, list(column.labels)) == ("enum", ["happy", "sad", "MEH", "it's", "a,b", ODD_LABEL])
    reader = mysql.reader()
    assert [row[0] for row in reader.select("t", ["m"], order_by=[Order(["m"])])] == [
        "",
        "MEH",
        "happy",
        "sad",
    ]
    assert reader.count("t", [Condition("m", "same", "SAD")]) == 1
    assert reader.count("t", [Condition("m", "=", "SAD")]) == 0
    assert reader.count("t", [Condition("m", "in", ["sad", "angry", "MEH"])]) == 2
    assert reader.count("t", [Condition("m", "!=", "angry")]) == 4
    with pytest.raises((ValueInvalidError, ConstraintError)), (writer := mysql.writer()).transaction():
        writer.insert("t", {"id": 9, "m": "angry"})


def test_invalid_date_is_read_as_text(mysql):
    mysql.execute("create table t (id integer primary key, a datetime, b timestamp null, c date)")
    mysql.execute("set sql_mode = ''")
    mysql.execute(
        "insert into t values (1, '0000-00-00', 0, '0000-00-00'), (2, '2024-00-00', null, '2024-02-00')"
    )
    writer = mysql.writer()
    first, second = writer.select("t", ["a", "b", "c"])
    assert first == ("0000-00-00 00:00:00", "0000-00-00 00:00:00", "0000-00-00")
    assert second == ("2024-00-00 00:00:00", None, "2024-02-00")
    assert (
        len(writer.select("t", ["id"], order_by=[Order(["a", "b"], time=True), Order(["c"], time=True)])) == 2
    )
    assert writer.count("t", [Condition("a", ">", TIMESTAMP)]) == 0
    with writer.transaction():
        assert writer.update("t", {"c": None}, [Condition("id", "=", 1)]) == 1
    with writer.transaction():
        writer.update("t", {"a": "0000-00-00"}, [])  # an exported value can be imported
    with pytest.raises(ValueInvalidError), writer.transaction():
        writer.update("t", {"a": "2024-02-30"}, [])


def test_zero_date_is_not_null(mysql):
    """``IS NULL`` of the server finds it in a column that is NOT NULL."""
    mysql.execute("create table t (id integer primary key, a datetime not null, b date not null, c datetime)")
    mysql.execute("set sql_mode = ''")
    mysql.execute("insert into t values (1, '0000-00-00', '0000-00-00', '0000-00-00')")
    mysql.execute("insert into t values (2, '2024-01-01', '2024-01-01', null)")
    assert mysql.rows("select id from t where a is null") == [(1,)]
    reader = mysql.reader()
    for column, without in (("a", []), ("b", []), ("c", [(2,)])):
        assert reader.select("t", ["id"], [Condition(column, "=", None)]) == without
        others = reader.select("t", ["id"], [Condition(column, "!=", None)])
        assert sorted([*others, *without]) == [(1,), (2,)]


@pytest.mark.parametrize("kind", ["datetime(6)", "timestamp(6)"])
@pytest.mark.parametrize(
    ("shift", "op", "is_match"),
    [(0, "=", True), (-1, "=", False), (1, "=", False), (0, "!=", False), (1, "!=", True), (0, ">=", True),
     (1, ">=", False), (0, ">", False), (-1, ">", True), (0, "<", False), (1, "<", True), (0, "<=", True), (-1, "<=", False)],
)  # fmt: skip
def test_native_times_compare_by_microsecond(mysql, kind, shift, op, is_match):
    mysql.execute(f"create table t (at {kind})")
    mysql.execute("set time_zone = '+00:00'")
    mysql.execute("insert into t values ('2024-03-01 12:30:15.250789')")
    where = Condition("at", op, TIMESTAMP + timedelta(microseconds=789 + shift))
    assert mysql.reader().count("t", [where]) == is_match


def test_sessions_use_utc(mysql):
    mysql.execute("create table t (at timestamp null, made datetime default now())")
    mysql.execute("set time_zone = '+05:00'")
    mysql.execute("insert into t (at) values ('2024-03-01 17:30:15')")
    ((at, _),) = mysql.reader().select("t", ["at", "made"])
    assert at == TIMESTAMP.replace(microsecond=0)


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


def test_text_times_are_parsed_and_garbage_is_null(mysql):
    mysql.execute("create table t (id integer primary key, at text)")
    mysql.execute("insert into t values (%s, %s)", *enumerate([*FORMS.values(), *GARBAGE, None]))
    reader = mysql.reader()
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
    ("text", "timestamp"),
    [
        ("2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01+02:00", datetime(2023, 12, 31, 22, tzinfo=UTC)),
        ("2023-02-31 10:00", datetime(2023, 3, 3, 10, tzinfo=UTC)),
        (" 2024-01-01  24:00 ", datetime(2024, 1, 2, tzinfo=UTC)),
        ("1969-12-31T23:59:59.001Z", datetime(1969, 12, 31, 23, 59, 59, 1000, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_unusual_dates_are_parsed(mysql, text, timestamp):
    mysql.execute("create table t (at text)")
    mysql.execute("insert into t values (%s)", (text,))
    assert mysql.reader().count("t", [Condition("at", "=", timestamp)]) == 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [("bigint", EPOCH_MS), ("double", EPOCH_MS / 1000), ("decimal(20, 4)", EPOCH_MS / 1000)],
)
def test_numbers_are_parsed_as_times_within_range(mysql, kind, value):
    mysql.execute(f"create table t (id integer primary key, at {kind})")
    extreme = {"bigint": [2**63 - 1, -(2**63)], "double": [1e300, -1e300]}.get(kind, [])
    mysql.execute("insert into t values (%s, %s)", *enumerate([value, *extreme], 1))
    reader = mysql.reader()
    assert reader.select("t", ["id"], [Condition("at", "=", TIMESTAMP)]) == [(1,)]
    assert len(reader.select("t", ["id"], order_by=[Order(["at"], time=True)])) == 1 + len(extreme)


@pytest.mark.parametrize(
    ("source", "target", "form", "expected"),
    [
        ("datetime(3)", "timestamp(3) null", "iso-ms", datetime(2024, 3, 1, 16, 30, 15, 250000, tzinfo=UTC)),
        ("timestamp(3) null", "datetime(3)", "iso-ms", datetime(2024, 3, 1, 16, 30, 15, 250000, tzinfo=UTC)),
        ("text", "datetime(3)", "iso-ms", datetime(2024, 3, 1, 16, 30, 15, 250000, tzinfo=UTC)),
        ("datetime(3)", "bigint", "epoch-ms", EPOCH_MS + 4 * 3_600_000),
        ("datetime(3)", "bigint", "epoch-s", EPOCH_MS // 1000 + 4 * 3_600),
        ("datetime(3)", "text", "sqlite-time", "2024-03-01 16:30:15"),
    ],
)  # fmt: skip
def test_shifted_time_converts_between_types(mysql, source, target, form, expected):
    mysql.execute(f"create table t (a {source}, b {target})")
    writer = mysql.writer()
    with writer.transaction():
        writer.insert("t", {"a": "2024-03-01T12:30:15.250Z"})
        writer.update("t", {"b": ShiftedTime("a", timedelta(hours=4), form)}, [])
    assert writer.select("t", ["b"]) == [(expected,)]


def test_shifted_time_uses_the_old_value(mysql):
    mysql.execute("create table t (a bigint, b bigint)")
    mysql.execute(f"insert into t values ({EPOCH_MS}, 0)")
    writer = mysql.writer()
    with writer.transaction():
        writer.update("t", {"a": 0, "b": ShiftedTime("a", timedelta(0), "epoch-ms")}, [])
    assert writer.select("t", ["a", "b"]) == [(0, EPOCH_MS)]


def test_links_between_types_compare_as_text(mysql):
    mysql.execute("create table a (id char(36) character set latin1 primary key)")
    mysql.execute("create table b (a text collate utf8mb4_unicode_ci, n integer)")
    mysql.execute(f"insert into a values ('{UUID}'), (uuid())")
    mysql.execute(f"insert into b values ('{UUID}', 1), ('nope', 2)")
    reader = mysql.reader()
    assert reader.select("a", ["id"], [InSubquery(["id"], "b", ["a"])]) == [(UUID,)]
    assert reader.select("a", ["id"], [ReferenceCount("id", "b", "a", "=", 1)]) == [(UUID,)]
    assert reader.select("a", ["id"], order_by=[Order(["n"], through=InSubquery(["id"], "b", ["a"]))])[0] == (
        UUID,
    )


@pytest.mark.mariadb
def test_mariadb_uuid_is_native(mysql):
    mysql.execute("create table t (id uuid primary key, n integer)")
    writer = mysql.writer()
    assert writer.tables()["t"].columns["id"].native == "uuid"
    with writer.transaction():
        writer.insert("t", {"id": UUID, "n": 1})
        writer.insert("t", {"id": "00000000-0000-4000-8000-000000000009", "n": 2})
    for value in (UUID, UUID.upper()):
        assert writer.select("t", ["n"], [Condition("id", "=", value)]) == [(1,)]
    assert writer.count("t", [Condition("id", "in", ["nope", UUID])]) == 1
    assert [row[0] for row in writer.select("t", ["n"])] == [2, 1]


def test_largest_unsigned_number_round_trips(mysql):
    mysql.execute("create table t (id bigint unsigned primary key)")
    mysql.execute(f"insert into t values ({2**64 - 1}), (1)")
    reader = mysql.reader()
    assert reader.select("t", ["id"], [Condition("id", "=", 2**64 - 1)]) == [(2**64 - 1,)]
    assert reader.count("t", [Condition("id", ">", 2**63 - 1)]) == 1
    assert reader.select("t", ["id"], order_by=[Order(["id"], time=True)]) == [(1,), (2**64 - 1,)]


# Literals ------------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("mode", ["", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"])
def test_text_literals_are_valid_in_every_sql_mode(mysql, mode, text):
    mysql.execute(f"set sql_mode = '{mode}'")
    assert mysql.rows(f"select {format_literal(text)}, {format_literal(text.encode())}") == [
        (text, text.encode())
    ]


def test_negative_zero_is_stored_as_by_the_server(mysql):
    """MySQL stores the sign of a zero, MariaDB does not."""
    mysql.execute("create table t (d double, f float)")
    mysql.execute("insert into t values (-0e0, -0e0)")
    writer = mysql.writer()
    with writer.transaction():
        writer.insert_many("t", ["d", "f"], [[-0.0, -0.0]])
    by_server, by_dbctl = mysql.rows("select concat(d), concat(f) from t")
    assert by_dbctl == by_server


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("select '100%:x', \"a:y%\", `a:y%` from t", {}, ("100%:x", 1, 1)),
        ("select :x -- :no 'nor this\n", {"x": "a"}, ("a",)),
        ("select /* :no ' */ ':no' # :no '\n, 1", {}, (":no", 1)),
        ("select 1--:x", {"x": 1}, (2,)),
        ("select '\\', :x", {"x": "'"}, ("\\", "'")),
        ('select "a:y%" from t where "a:y%" in :set', {"set": [1, 2]}, (1,)),
        ('select count(*) from t where "a:y%" not  IN :set', {"set": [1, 2]}, (0,)),
        ("select count(*) from t where u in :set and (:u = '' or u = :u)", {"set": [UUID], "u": UUID}, (1,)),
        ("select count(*) from t where u not in :set", {"set": []}, (1,)),
        ("select 'a' || :x, 7 % 4", {"x": "b"}, ("ab", 3)),
        ("select :n is null", {"n": None}, (1,)),
    ],
)  # fmt: skip
def test_percent_signs_and_colons_are_unchanged(mysql, sql, parameters, expected):
    mysql.execute('create table t ("a:y%" integer, u char(36))')
    mysql.execute(f"insert into t values (1, '{UUID}')")
    assert mysql.reader().query(sql, parameters) == [expected]


@pytest.mark.parametrize(
    "sql",
    ["select 1; select 2", "select 1; drop table t", "select '\0'", "select :missing", "nonsense", "", "select nosuch", 'select "nosuch" from t'],
)  # fmt: skip
def test_invalid_and_multiple_statements_are_rejected(mysql, sql):
    mysql.execute("create table t (id integer)")
    reader = mysql.reader()
    with pytest.raises(QueryFailedError):
        reader.query(sql)
    assert reader.count("t") == 0


# Writing -------------------------------------------------------------------------------------------------------------


def test_merge_converts_text_without_truncation(mysql):
    mysql.execute(
        "create table t (id char(36) primary key, m enum('happy', 'sad'), s varchar(3), at datetime(3))"
    )
    writer = mysql.writer()
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


def test_merge_does_not_update_by_other_unique_key(mysql):
    mysql.execute("create table t (id integer primary key, mail varchar(20) unique, n integer)")
    mysql.execute("insert into t values (1, 'a@x', 5)")
    writer = mysql.writer()
    with pytest.raises(ConstraintError), writer.transaction():
        writer.merge(
            Merge(
                table="t",
                select="select 2, 'a@x', 9",
                parameters={},
                key=["id"],
                columns={"mail": "replace", "n": "replace"},
            )
        )
    assert writer.select("t", ["id", "mail", "n"]) == [(1, "a@x", 5)]


def test_conditions_may_read_the_table_that_is_written(mysql):
    mysql.execute(
        "create table t (a integer, b integer, boss integer, n integer default 0, primary key (a, b))"
    )
    mysql.execute("insert into t values (1, 1, null, 0), (1, 2, 1, 0), (2, 1, 1, 0), (3, 1, 2, 0)")
    writer = mysql.writer()
    is_no_boss = Not(InSubquery(["a"], "t", ["boss"]))
    with writer.transaction():
        assert writer.update("t", {"n": 7}, [InSubquery(["boss"], "t", ["a"], [Condition("b", "=", 2)])]) == 2
        assert writer.update("t", {"n": 7}, [ReferenceCount("a", "t", "boss", ">=", 2)]) == 2
        assert writer.delete("t", [is_no_boss]) == 1
    assert [row[0] for row in writer.select("t", ["n"])] == [7, 7, 7]


def test_insert_returns_generated_values(mysql):
    mysql.execute("create table t (id bigint unsigned auto_increment primary key, a text default ('x'))")
    mysql.execute("create table u (id char(36) default (uuid()) primary key, a integer)")
    writer = mysql.writer()
    with writer.transaction():
        assert writer.insert("t", {}, returning="a") == "x"
        assert writer.insert("t", {"a": "b"}, returning="id") == 2
        assert writer.insert("t", {"id": 0}, returning="id") == 0
        assert writer.insert("u", {"id": UUID, "a": 1}, returning="a") == 1
    with pytest.raises(NotSupportedError), writer.transaction():
        writer.insert("u", {"a": 1}, returning="id")
    assert writer.count("u") == 1


def test_large_inserts_are_split(mysql):
    mysql.execute("create table t (id integer primary key, a longblob)")
    writer = mysql.writer()
    with writer.transaction():
        assert writer.insert_many("t", ["id", "a"], ((n, bytes([n]) * 300_000) for n in range(20))) == 20
    assert writer.query("select count(*), sum(length(a)) from t") == [(20, 6_000_000)]


def test_oversized_value_is_rejected(mysql):
    mysql.execute("create table t (id integer primary key, a longblob)")
    ((max_packet,),) = mysql.rows("select @@max_allowed_packet")
    writer = mysql.writer()
    for write in (
        lambda value: writer.insert("t", {"id": 1, "a": value}),
        lambda value: writer.insert_many("t", ["id", "a"], [(2, b"short"), (1, value)]),
    ):
        with pytest.raises(ValueInvalidError, match="max_allowed_packet") as failure, writer.transaction():
            write(b"x" * (max_packet // 2))
        assert "SET GLOBAL max_allowed_packet" in failure.value.hint
        with writer.transaction():
            write(b"x" * (max_packet // 2 - 100))
            assert writer.query("select max(length(a)) from t") == [(max_packet // 2 - 100,)]
            writer.delete("t", [])
    assert writer.count("t") == 0


@pytest.mark.parametrize("engine", ["MyISAM", pytest.param("Aria", marks=pytest.mark.mariadb), "MEMORY"])
def test_non_transactional_table_is_not_written(mysql, engine, answer):
    mysql.execute(f"create table t (id integer primary key, a varchar(5)) engine = {engine}")
    mysql.execute("insert into t values (1, 'x')")
    writer = mysql.writer()
    assert writer.select("t", ["a"]) == [("x",)]
    for write in (
        lambda: writer.insert("t", {"id": 2}),
        lambda: writer.insert_many("t", ["id"], [(2,)]),
        lambda: writer.update("t", {"a": "y"}, []),
        lambda: writer.delete("t", []),
        lambda: writer.merge(
            Merge(table="t", select="select 1, 'y'", parameters={}, key=["id"], columns={"a": "replace"})
        ),
    ):
        with pytest.raises(NotSupportedError, match=engine) as caught, writer.transaction():
            write()
        assert "ALTER TABLE `t` ENGINE=InnoDB;" in caught.value.hint
    words = ("data", "set", "t", "1", "a=y", "--dry-run", "--url", f"main={mysql.url}")
    assert answer(*words, status=2)["error"]["code"] == "not-supported"
    assert writer.select("t", ["id", "a"]) == [(1, "x")]


def test_names_are_case_sensitive(mysql):
    mysql.execute('create table "User" (id integer primary key, "userName" text)')
    mysql.execute("insert into \"User\" values (1, 'a'), (2, 'b')")
    writer = mysql.writer()
    assert writer.select("User", ["userName"], [Condition("userName", "=", "b")]) == [("b",)]
    for query in (lambda: writer.count("user"), lambda: writer.select("User", ["username"])):
        with pytest.raises(SchemaMismatchError):
            query()
