"""Expressions and defaults of one engine in the SQL of another one."""

from __future__ import annotations

import pytest

from dbctl.extensions.transfer.portable.contract import LogicalKind, LogicalType
from dbctl.extensions.transfer.portable.expressions import (
    Expressions,
    PortableDefault,
    UntranslatableError,
    ViewQueries,
    fits_kind,
    read_default,
)

TYPES = {
    "Name": LogicalType(kind="text"),
    "count": LogicalType(kind="integer"),
    "done": LogicalType(kind="boolean"),
}


def create_expressions(source: str, destination: str) -> Expressions:
    return Expressions(source, destination, TYPES, allows_backslashes=destination != "mysql")


@pytest.mark.parametrize(
    ("source", "destination", "sql", "expected"),
    [
        ("sqlite", "postgres", "name is not null and length(name) > 3", 'NOT "Name" IS NULL AND LENGTH("Name") > 3'),
        ("sqlite", "mysql", "length(name) > 3", "CHAR_LENGTH(`Name`) > 3"),
        ("sqlite", "postgres", "done = 1 or done in (0, 1)", '"done" = TRUE OR "done" IN (FALSE, TRUE)'),
        ("sqlite", "postgres", "count and not done", '"count" <> 0 AND NOT "done"'),
        ("postgres", "sqlite", "((name)::text = any ((array['a'::character varying, 'b'::character varying])::text[]))",
         """(("Name") IN ('a', 'b'))"""),
        ("postgres", "mysql", "lower(name::text) = 'it''s'", "LOWER(`Name`) = 'it''s'"),
        ("mysql", "sqlite", "`name` = _utf8mb4'x' and char_length(`name`) < 9", """"Name" = 'x' AND LENGTH("Name") < 9"""),
    ],
)  # fmt: skip
def test_condition(source: str, destination: str, sql: str, expected: str) -> None:
    assert create_expressions(source, destination).translate_condition(sql) == expected


@pytest.mark.parametrize(
    ("source", "destination", "sql"),
    [
        ("sqlite", "postgres", "name regexp 'x'"),
        ("sqlite", "postgres", "name like 'x%'"),  # ignores case in SQLite
        ("sqlite", "postgres", "count / 2 > 1"),  # other results for negative numbers and zero
        ("sqlite", "postgres", "missing > 1"),
        ("sqlite", "postgres", "count > random()"),
        ("sqlite", "postgres", "count in (select 1 from other)"),
        ("postgres", "sqlite", "name ~ '^a'"),
        ("postgres", "sqlite", "jsonb_typeof(name) = 'object'"),
        ("postgres", "sqlite", "numnode(to_tsquery('simple'::regconfig, name)) > 1"),
        ("mysql", "postgres", "length(`name`) > 3"),  # bytes
        ("sqlite", "mysql", r"name = 'a\b'"),
        ("sqlite", "postgres", "name ="),
        ("sqlite", "postgres", "(" * 200),
        ("sqlite", "postgres", "1; drop table other"),
    ],
)
def test_condition_without_equivalent(source: str, destination: str, sql: str) -> None:
    with pytest.raises(UntranslatableError):
        create_expressions(source, destination).translate_condition(sql)


@pytest.mark.parametrize(
    ("dialect", "sql", "kind", "expected"),
    [
        ("sqlite", "'it''s'", "text", PortableDefault(kind="text", value="it's")),
        ("sqlite", "-1.5", "real", PortableDefault(kind="number", value="-1.5")),
        ("sqlite", "null", "text", None),
        ("sqlite", "x'00FF'", "bytes", PortableDefault(kind="bytes", value="00ff")),
        ("sqlite", "(strftime('%Y-%m-%d %H:%M:%S','now'))", "timestamp", PortableDefault(kind="now")),
        ("sqlite", "(cast(strftime('%s', 'now') as integer))", "integer", PortableDefault(kind="now")),
        ("postgres", "'{}'::jsonb", "json", PortableDefault(kind="text", value="{}")),
        ("postgres", "'-1'::integer", "integer", PortableDefault(kind="text", value="-1")),
        ("postgres", "timezone('utc'::text, now())", "timestamp", PortableDefault(kind="now")),
        ("postgres", "(now() AT TIME ZONE 'utc'::text)", "timestamp", PortableDefault(kind="now")),
        ("postgres", "CURRENT_DATE", "date", PortableDefault(kind="today")),
        ("postgres", "uuid_generate_v4()", "uuid", PortableDefault(kind="uuid")),
        ("postgres", r"'\x00ff'::bytea", "bytes", PortableDefault(kind="bytes", value="00ff")),
        ("postgres", "my_function()", "text", PortableDefault(kind="expression", value="my_function()")),
        ("mysql", "current_timestamp(6)", "timestamp", PortableDefault(kind="now")),
        ("mysql", "b'101'", "integer", PortableDefault(kind="number", value="5")),
        ("mysql", "uuid()", "uuid", PortableDefault(kind="uuid")),
    ],
)
def test_default(dialect: str, sql: str, kind: LogicalKind, expected: PortableDefault | None) -> None:
    assert read_default(sql, dialect, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        ("0000-00-00 00:00:00", "timestamp", False),
        ("2026-01-02 03:04:05", "timestamp", True),
        ("1000", "boolean", False),
        ("x", "integer", False),
        ("00:00:00", "time", True),
        ("x", "text", True),
    ],
)
def test_literal_fits_kind(value: str, kind: LogicalKind, fits: bool) -> None:
    assert fits_kind(PortableDefault(kind="text", value=value), kind) is fits


def test_view_keeps_aliases_and_quotes_names() -> None:
    queries = ViewQueries("sqlite", "postgres", {"Note": TYPES, "tag": {"note": LogicalType(kind="integer")}})
    sql = "create view v as select n.name, count(*) total from note n left join tag t on t.note = n.count group by N.name"
    assert queries.translate(sql) == (
        'SELECT "n"."Name", COUNT(*) AS "total" FROM "Note" AS "n" LEFT JOIN "tag" AS "t" ON "t"."note" = "n"."count" GROUP BY "n"."Name"'
    )
