"""Values that a column of the destination cannot store, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dbctl.engines.contract import ColumnPair, LineColumn, LogicalType, StorageLimits, TimeForm
from dbctl.engines.mysql.portable import MySQLPortableSchemas
from dbctl.engines.postgresql.portable import PostgreSQLPortableSchemas
from dbctl.engines.sqlite.portable import SQLitePortableSchemas
from dbctl.engines.sqlite.transfer.values import value_parser
from dbctl.services.transfer.values.checks import create_check

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
    return dict(check(values)) if check else {}


@pytest.mark.parametrize(
    ("logical", "stored", "refused"),
    [
        (LogicalType(kind="integer", bits=16), [b"-32768", b"32767"], [b"32768", b"-32769", b"", b"1-2", b"1.5", b"abc", b"1_0"]),
        (LogicalType(kind="integer", bits=8, is_unsigned=True), [b"0", b"255"], [b"256", b"-1"]),
        (LogicalType(kind="integer"), [b"9223372036854775807"], [b"9223372036854775808"]),
        (LogicalType(kind="boolean"), [b"0", b"1"], [b"2", b"yes", b""]),
        (LogicalType(kind="decimal", digits=5, scale=2), [b"999.99", b"-1", b"0.01"], [b"1000", b"0.001", b"x", b"1e5"]),
        (LogicalType(kind="real"), [b"1e308", b"-0.0", b"NaN", b"Infinity"], [b"x", b"", b"1_0", b"inf"]),
        (LogicalType(kind="real", bits=32), [b"0.1", b"1.5"], [b"0.12345678901", b"1e300"]),
        (LogicalType(kind="text", length=3), ["äöü".encode(), b"abc", b""], [b"abcd", b"a\0", b"\xff"]),
        (LogicalType(kind="text", length=3, is_fixed=True), [b"ab"], [b"a "]),
        (LogicalType(kind="text", charset="utf8mb3"), ["é".encode()], ["😀".encode()]),
        (LogicalType(kind="text", charset="latin1"), ["é€".encode()], ["ł".encode()]),
        (LogicalType(kind="text", max_bytes=4), ["éé".encode()], ["ééé".encode()]),
        (LogicalType(kind="bytes", length=2), [rb"\x0011", rb"\x"], [rb"\x001122"]),
        (LogicalType(kind="enum", labels=["a", "b"]), [b"a"], [b"c", b""]),
        (LogicalType(kind="set", labels=["a", "b"]), [b"", b"a,b"], [b"a,c"]),
        (LogicalType(kind="json"), [b"{}", b"1e999999", b'"x"', rb'"\u0000"'], [b"", b"{x", b"NaN", rb'"\ud800"']),
        (
            LogicalType(kind="json", json_form="exact"),
            [b"{}", b"1e131071", b"1e-16383", b"1" * 6000],
            [b"{x", b"1e131072", b"[1e-16384]", rb'"\u0000"', rb'"\ud800"'],
        ),
        (LogicalType(kind="json", json_form="float"), [b"1e308", b"1e-999", b"1" * 300], [b"1e309", b"-1e400", b"1" * 310]),
        (LogicalType(kind="uuid"), [b"00000000-0000-4000-8000-00000000000a"], [b"", b"00000000", b"g" * 36]),
        (LogicalType(kind="date"), [b"2024-02-29", b"0001-01-01"], [b"2023-02-29", b"0000-00-00", b"2026-01-01 10:00:00", b"x"]),
        (
            LogicalType(kind="timestamp", fraction=3),
            [b"2026-01-02 03:04:05", b"2026-01-02 03:04:05.123"],
            [b"2026-01-02 03:04:05.1234", b"0000-00-00 00:00:00", b"2026-02-30 00:00:00", b"2026-01-02", b"1767225600", b"infinity"],
        ),
        (LogicalType(kind="time", fraction=0), [b"23:59:59"], [b"24:00:00", b"-01:00:00", b"838:59:59", b"01:02", b"01:02:03.5"]),
    ],
    ids=lambda value: value.kind if isinstance(value, LogicalType) else "",
)  # fmt: skip
def test_values_of_postgresql(logical: LogicalType, stored: list[bytes], refused: list[bytes]) -> None:
    assert not find_reasons(logical, POSTGRESQL, [*stored, None])
    assert sorted(find_reasons(logical, POSTGRESQL, [*refused, *stored])) == list(range(len(refused)))


def test_levels_of_json() -> None:
    limits = StorageLimits(json_levels=31)
    values = [
        b"[" * 31 + b"]" * 31,
        b"[" * 32 + b"]" * 32,
        b'"' + b"[" * 40 + b'"',
        b"[" + b"{}," * 40 + b"1]",
    ]
    reasons = find_reasons(LogicalType(kind="json"), limits, values)
    assert reasons == {1: "more than 31 levels of JSON"}


def test_values_of_mysql() -> None:
    real = LogicalType(kind="real")
    assert sorted(find_reasons(real, MYSQL, [b"NaN", b"-Infinity", b"1"])) == [0, 1]
    zoned = LogicalType(kind="timestamp", has_zone=True)
    assert sorted(
        find_reasons(zoned, MYSQL, [b"2040-01-01 00:00:00", b"1969-01-01 00:00:00", b"2026-01-01 00:00:00"])
    ) == [0, 1]
    assert not find_reasons(LogicalType(kind="time"), MYSQL, [b"-838:59:59", b"100:00:00"])
    texts = [
        b"11111111-1111-%s111-%s111-111111111111" % pair
        for pair in ((b"4", b"8"), (b"7", b"1"), (b"8", b"c"), (b"c", b"7"))
    ]
    assert sorted(find_reasons(LogicalType(kind="uuid"), MYSQL, texts)) == [3]
    assert not find_reasons(TEXT, MYSQL, [b"a\0b"])


def test_sqlite_stores_values_of_any_type_except_numbers_that_it_would_round() -> None:
    assert not find_reasons(LogicalType(kind="boolean"), SQLITE, [b"2"])
    assert not find_reasons(LogicalType(kind="text", length=1), SQLITE, [b"abc", b"\xff", b"\0"])
    assert find_reasons(LogicalType(kind="integer"), SQLITE, [b"18446744073709551615"])
    decimal = LogicalType(kind="decimal", digits=30, scale=10)
    assert sorted(
        find_reasons(decimal, SQLITE, [b"1234567890.1234567", b"12345.5", b"9223372036854775807"])
    ) == [0]


def test_null_in_a_column_without_null() -> None:
    assert list(find_reasons(LogicalType(kind="any"), SQLITE, [b"1", None], is_nullable=False)) == [1]


@pytest.mark.parametrize("form", ["sqlite-time", "iso-ms"])
def test_zero_dates_of_mysql_are_stored_unchanged_in_sqlite(form: TimeForm) -> None:
    write = value_parser(LineColumn(name="created", kind="timestamp", time_form=form), "DATETIME")
    assert write(b"0000-00-00 00:00:00") == "0000-00-00 00:00:00"
    assert write(b"2026-00-10 00:00:00") == "2026-00-10 00:00:00"
