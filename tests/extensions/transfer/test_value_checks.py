"""Values that a column of the destination cannot store, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dbctl.extensions.transfer.engines.mysql.schema import MySQLPortableSchemas
from dbctl.extensions.transfer.engines.postgresql.schema import PostgreSQLPortableSchemas
from dbctl.extensions.transfer.engines.sqlite.schema import SQLitePortableSchemas
from dbctl.extensions.transfer.engines.sqlite.values import value_parser
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    LineColumn,
    LogicalKind,
    LogicalType,
    StorageLimits,
)
from dbctl.extensions.transfer.values.checks import create_check
from dbctl.model import TimeForm

POSTGRESQL, MYSQL, SQLITE = (
    PostgreSQLPortableSchemas.limits,
    MySQLPortableSchemas.limits,
    SQLitePortableSchemas.limits,
)
TEXT = LogicalType(kind="text")


def find_reasons(
    logical: LogicalType, limits: StorageLimits, values: Sequence[bytes | None], *, is_nullable: bool = True
) -> dict[int, str]:
    pair = ColumnPair(
        table="note",
        column="value",
        source="",
        destination="",
        source_type=TEXT,
        destination_type=logical,
        is_nullable=is_nullable,
    )
    check = create_check(pair, limits)
    return {index: reason for index, value in enumerate(values) if check and (reason := check(value))}


def find_each_reason(
    logical: LogicalType, limits: StorageLimits, values: Sequence[bytes]
) -> dict[bytes, str]:
    """Return the reasons by value."""
    reasons = find_reasons(logical, limits, [*values, None])
    return {values[index]: reason for index, reason in reasons.items()}


SMALL, BYTE = "not between -32768 and 32767", "not between 0 and 255"
LARGE = "not between -9223372036854775808 and 9223372036854775807"
SINGLE = "more digits than a number of 4 bytes has"
DIGITS = "a number with more digits than the column stores"


@pytest.mark.parametrize(
    ("logical", "stored", "refused"),
    [
        (
            LogicalType(kind="integer", bits=16),
            [b"-32768", b"32767", b"0"],
            {
                **dict.fromkeys([b"32768", b"-32769", b"100000", b"1" * 5000], SMALL),
                **dict.fromkeys([b"", b"1-2", b"1.5", b"abc", b"1_0"], "not an integer"),
            },
        ),
        (LogicalType(kind="integer", bits=8, is_unsigned=True), [b"0", b"255"], {b"256": BYTE, b"-1": BYTE}),
        (
            LogicalType(kind="integer"),
            [b"9223372036854775807", b"-9223372036854775808"],
            {b"9223372036854775808": LARGE, b"-9223372036854775809": LARGE},
        ),
        (LogicalType(kind="boolean"), [b"0", b"1"], dict.fromkeys([b"2", b"yes", b""], "neither true nor false")),
        (
            LogicalType(kind="decimal", digits=5, scale=2),
            [b"999.99", b"-999.99", b"-1", b"0.01", b"007"],
            {
                b"1000": "more than 3 digits before the point",
                b"0.001": "more than 2 digits after the point",
                **dict.fromkeys([b"x", b"1e5", b"Infinity"], "not a number"),
            },
        ),
        (LogicalType(kind="decimal"), [b"9" * 100, b"0." + b"9" * 100, b"NaN"], {b"": "not a number"}),
        (
            LogicalType(kind="real"),
            [b"1e308", b"-0.0", b"0.1234567890123", b"NaN", b"Infinity", b"-Infinity"],
            dict.fromkeys([b"x", b"", b"1_0", b"inf"], "not a number"),
        ),
        (
            LogicalType(kind="real", bits=32),
            [b"0.1", b"1.5", b"3.4028235e+38", b"16777216", b"1.0000001", b"0.0"],
            # the column shows the last three as 0.1, 0.1 and 0
            dict.fromkeys([b"0.12345678901", b"1e300", b"16777217", b"0.100000001", b"0.1000000015", b"1e-50"], SINGLE),
        ),
        (
            LogicalType(kind="text", length=3),
            ["äöü".encode(), b"abc", b"", b"a "],
            {b"abcd": "more than 3 characters", b"a\0": "NUL characters", b"\xff": "not valid UTF-8"},
        ),
        (
            LogicalType(kind="text", length=3, is_fixed=True),
            [b"abc", b" ab", b"a b"],
            {b"a ": "a space at the end, which the column removes"},
        ),
        *(
            (
                LogicalType(kind="text", charset=charset),
                [b"", b"abc", "é\uffff".encode()],
                dict.fromkeys(["😀".encode(), "a😀".encode()], f"characters that {charset} lacks"),
            )
            for charset in ("utf8mb3", "utf8")
        ),
        (
            LogicalType(kind="text", charset="latin1"),
            [b"abc", "é€".encode()],
            {"ł".encode(): "characters that latin1 lacks", b"\xff": "not valid UTF-8"},
        ),
        (LogicalType(kind="text", charset="latin2"), ["ł".encode()], {"€".encode(): "characters that latin2 lacks"}),
        (LogicalType(kind="text", max_bytes=4), [b"abcd", "éé".encode()], {"ééé".encode(): "more than 4 bytes"}),
        (
            LogicalType(kind="text", length=2, max_bytes=4),
            [b"ab"],
            {b"abc": "more than 2 characters", "漢字".encode(): "more than 4 bytes"},
        ),
        (LogicalType(kind="bytes", length=2), [rb"\x0011", rb"\x"], {rb"\x001122": "more than 2 bytes"}),
        (LogicalType(kind="bytes"), [rb"\x0011"], {}),
        (LogicalType(kind="enum", labels=["a", "b"]), [b"a", b"b"], dict.fromkeys([b"c", b"", b"a,b"], "not a label of the enum")),
        (LogicalType(kind="set", labels=["a", "b"]), [b"", b"a,b", b"b"], {b"a,c": "not labels of the set"}),
        (
            LogicalType(kind="json"),
            [b"{}", b"1e999999", b'"x"', rb'"\u0000"', rb'"\ud83d\ude00"'],
            dict.fromkeys([b"", b"{x", b"NaN", rb'"\ud800"'], "not valid JSON"),
        ),
        (
            LogicalType(kind="json", json_form="exact"),
            [b"{}", b"1e131071", b"1e-16383", b"1" * 6000, rb'"\\u0000"', rb'"\\\\u0000"'],
            {
                **dict.fromkeys([b"{x", rb'"\ud800"'], "not valid JSON"),
                **dict.fromkeys([b"1e131072", b"[1e-16384]"], DIGITS),
                **dict.fromkeys([rb'"\u0000"', rb'"a\u0000"', rb'"\\\u0000"'], "NUL characters"),
            },
        ),
        (
            LogicalType(kind="json", json_form="float"),
            [b"1e308", b"1e-999", b"1" * 300],
            dict.fromkeys([b"1e309", b"-1e400", b"1" * 310], DIGITS),
        ),
        (
            LogicalType(kind="uuid"),
            [b"00000000-0000-4000-8000-00000000000a", b"11111111-1111-c111-7111-111111111111"],
            dict.fromkeys([b"", b"00000000", b"g" * 36], "not a UUID"),
        ),
        (
            LogicalType(kind="date"),
            [b"2024-02-29", b"0001-01-01", b"9999-12-31"],
            {
                **dict.fromkeys([b"2023-02-29", b"2026-01-01 10:00:00", b"x", b"infinity"], "not a valid date"),
                **dict.fromkeys([b"0000-00-00", b"2026-01-00", b"2026-00-01", b"0000-01-01"], "a zero date"),
            },
        ),
        (
            LogicalType(kind="timestamp", fraction=3),
            [b"2026-01-02 03:04:05", b"2026-01-02 03:04:05.123"],
            {
                b"2026-01-02 03:04:05.1234": "more than 3 digits after the second",
                b"0000-00-00 00:00:00": "a zero date",
                **dict.fromkeys(
                    [b"2026-02-30 00:00:00", b"2026-01-02", b"1767225600", b"infinity"], "not a valid timestamp"
                ),
            },
        ),
        (
            LogicalType(kind="time", fraction=1),
            [b"00:00:00", b"23:59:59", b"23:59:59.5"],
            {
                **dict.fromkeys([b"24:00:00", b"-01:00:00", b"-00:00:01", b"838:59:59", b"1" * 5000 + b":00:00"], "not a time of day"),
                **dict.fromkeys([b"01:02", b"01:60:00", b"x"], "not a time"),
                b"01:02:03.55": "more than 1 digits after the second",
            },
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, LogicalType) else "",
)  # fmt: skip
def test_values_of_postgresql(logical: LogicalType, stored: list[bytes], refused: dict[bytes, str]) -> None:
    assert find_each_reason(logical, POSTGRESQL, [*stored, *refused, *stored]) == refused


@pytest.mark.parametrize(
    ("text", "is_stored"),
    [
        (b"[" * 31 + b"]" * 31, True),
        (b"[" * 32 + b"]" * 32, False),
        (b'{"a":[' * 16 + b"]}" * 16, False),
        (b'"' + b"[" * 40 + b'"', True),
        (b"[" + b"{}," * 31 + b"1]", True),
        (b"[" * 30 + b"{}," * 40 + b"1" + b"]" * 30, True),
        (b'{"a":' * 30 + b"[" + b"[]," * 40 + b"1]" + b"}" * 30, False),
        (b'{"a":' * 29 + b"[" + b"[]," * 40 + b"1]" + b"}" * 29, True),
        (b"[" + b"[],{}," * 40 + b"[" * 31 + b"]" * 32, False),
        (b"[" + b"[],{}," * 40 + b"[" * 30 + b"]" * 31, True),
    ],
)
def test_levels_of_json(text: bytes, *, is_stored: bool) -> None:
    expected = {} if is_stored else {text: "more than 31 levels of JSON"}
    assert find_each_reason(LogicalType(kind="json"), MYSQL, [text, b"1"]) == expected


@pytest.mark.parametrize(
    ("logical", "stored", "refused"),
    [
        (LogicalType(kind="real"), [b"1"], dict.fromkeys([b"NaN", b"Infinity", b"-Infinity"], "not finite")),
        (LogicalType(kind="decimal"), [b"1"], {b"NaN": "not a number"}),
        (
            LogicalType(kind="timestamp", has_zone=True),
            [b"1970-01-01 00:00:00", b"2037-12-31 23:59:59"],
            dict.fromkeys([b"2038-01-01 00:00:00", b"1969-12-31 23:59:59"], "not in the years 1970 to 2037"),
        ),
        (LogicalType(kind="timestamp"), [b"0001-01-01 00:00:00", b"2040-01-01 00:00:00"], {}),
        (
            LogicalType(kind="time"),
            [b"-838:59:59", b"838:59:59", b"-00:00:01"],
            dict.fromkeys([b"839:00:00", b"-839:00:00"], "not a time of day"),
        ),
        (
            LogicalType(kind="uuid"),
            [
                b"11111111-1111-%s111-%s111-111111111111" % pair
                for pair in ((b"4", b"8"), (b"7", b"1"), (b"8", b"c"))
            ],
            {b"11111111-1111-c111-7111-111111111111": "not a UUID of a version and variant that exist"},
        ),
        (TEXT, [b"a\0b"], {}),
    ],
)
def test_values_of_mysql(logical: LogicalType, stored: list[bytes], refused: dict[bytes, str]) -> None:
    assert find_each_reason(logical, MYSQL, [*stored, *refused]) == refused


def test_times_of_a_whole_day_may_be_negative() -> None:
    limits = StorageLimits(max_hours=24)
    assert find_each_reason(LogicalType(kind="time"), limits, [b"-24:00:00", b"24:00:01"]) == {}


def test_the_largest_time_of_mysql_has_no_fraction() -> None:
    limits = StorageLimits(max_hours=838, max_time=b"838:59:59")
    stored = [b"-838:59:59.000", b"838:59:58.9"]
    reason = "a fraction after the largest time"
    times = LogicalType(kind="time", fraction=6)
    assert find_each_reason(times, limits, [*stored, b"-838:59:59.1"]) == {b"-838:59:59.1": reason}


CHANGED = "a number that the column stores in another form or with fewer digits"


@pytest.mark.parametrize(
    ("logical", "stored", "refused"),
    [
        *(
            (logical, [b"2", b"abc", b"\xff", b"\0", b"{x"], {})
            for logical in (
                LogicalType(kind="boolean"),
                LogicalType(kind="text", length=1),
                LogicalType(kind="set", labels=["a"]),
                LogicalType(kind="bytes", length=1),
                LogicalType(kind="uuid"),
                LogicalType(kind="date"),
                LogicalType(kind="time"),
                LogicalType(kind="json"),
            )
        ),
        (LogicalType(kind="enum", labels=["a"]), [b"a"], {b"b": "not a label of the enum"}),
        (LogicalType(kind="integer"), [b"1"], {b"18446744073709551615": LARGE}),
        (
            LogicalType(kind="decimal", digits=30, scale=10),
            [b"9223372036854775807", b"-9223372036854775808", b"12345.5", b"12345678901234.5", b"0.000000000000000000015", b"123456789012345000000"],
            dict.fromkeys([b"123456789012345.6", b"9223372036854775808", b"-9223372036854775809", b"1" * 5000, b"1" + b"0" * 400, b"0." + b"0" * 400 + b"1"], "more than 15 digits"),
        ),
        (
            LogicalType(kind="json", converts_numbers=True),
            [b"1", b"-1", b"9223372036854775807", b"-9223372036854775808", b"1.5", b"0.1", b"{}", b'"1.0"', b"[1.0]"],
            dict.fromkeys(
                [b"1.0", b"-0", b" 1", b"1e5", b"1e+20", b"1e-07", b"0.1234567890123456", b"9223372036854775808", b"-9223372036854775809", b"1" * 5000],
                CHANGED,
            ),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, LogicalType) else "",
)  # fmt: skip
def test_sqlite_stores_values_of_any_type_except_those_that_it_would_change(
    logical: LogicalType, stored: list[bytes], refused: dict[bytes, str]
) -> None:
    assert find_each_reason(logical, SQLITE, [*stored, *refused]) == refused


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("any", [b"1", None], {1: "NULL in a NOT NULL column"}),
        ("any", [None, None], dict.fromkeys([0, 1], "NULL in a NOT NULL column")),
        ("any", [b"1"], {}),
        ("integer", [b"x", None], {0: "not an integer", 1: "NULL in a NOT NULL column"}),
        ("integer", [None], {0: "NULL in a NOT NULL column"}),
    ],
)
def test_null_in_a_column_without_null(
    kind: LogicalKind, values: list[bytes | None], expected: dict[int, str]
) -> None:
    assert find_reasons(LogicalType(kind=kind), SQLITE, values, is_nullable=False) == expected


@pytest.mark.parametrize("form", ["sqlite-time", "iso-ms"])
def test_zero_dates_of_mysql_are_stored_unchanged_in_sqlite(form: TimeForm) -> None:
    write = value_parser(LineColumn(name="created", kind="timestamp", time_form=form), "DATETIME")
    assert write(b"0000-00-00 00:00:00") == "0000-00-00 00:00:00"
    assert write(b"2026-00-10 00:00:00") == "2026-00-10 00:00:00"


@pytest.mark.parametrize(
    ("form", "text", "stored"),
    [
        ("epoch-ms", b"2026-01-02 03:04:05.25", 1767323045250),
        ("epoch-s", b"2026-01-02 03:04:05", 1767323045),
        # as a number, each would be another time
        ("epoch-ms", b"1971-01-02 03:04:05", "1971-01-02 03:04:05"),
        ("epoch-ms", b"2026-01-02 03:04:05.0001", "2026-01-02 03:04:05.0001"),
        ("epoch-s", b"2026-01-02 03:04:05.25", "2026-01-02 03:04:05.25"),
        ("epoch-s", b"infinity", "infinity"),
    ],
)
def test_times_are_numbers_of_sqlite_if_they_remain_the_same(
    form: TimeForm, text: bytes, stored: object
) -> None:
    write = value_parser(LineColumn(name="created", kind="timestamp", time_form=form), "INTEGER")
    assert write(text) == stored
