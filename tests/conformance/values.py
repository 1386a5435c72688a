"""Columns of every type of an engine, strategies of their values, and texts of what is stored, by the server or library itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hypothesis import strategies as st

#: Rows of a test: each has another value in each column.
ROWS = 12


class Kind(NamedTuple):
    """A column."""

    type: str
    #: SQL of values
    values: st.SearchStrategy[str]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _among(*literals: str) -> st.SearchStrategy[str]:
    return st.sampled_from(literals)


def texts(**options: object) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0", **options), max_size=20)


def decimals(digits: int, scale: int) -> st.SearchStrategy[str]:
    return st.decimals(
        -(10 ** (digits - scale)) + 1, 10 ** (digits - scale) - 1, places=scale, allow_nan=False
    ).map(lambda number: f"{number:f}")


_REALS = st.floats(allow_nan=False, allow_infinity=False)
_HEX = st.binary(max_size=20).map(bytes.hex)
_JSON = st.sampled_from(
    [
        '{"pi": 3.14159265358979323846264338327950288, "b": 1.10, "a": 1, "a": 2}',
        "[1.0, 1e400, -0.0, 100000000000000000000000000.5]",
        '"\\u00e9 \\\\ \\" é"',
        "null",
        '{ "z" : 1,  "a" : [ ] }',
    ]
)
_DATES = _among("'0044-03-15 BC'", "'infinity'", "'-infinity'", "'99999-12-31'", "'2024-02-29'")

POSTGRESQL_SCHEMA = """
create type humor as enum ('sad', 'it''s "ok"', 'é');
create type pair as (a int, b text);
create type spans as range (subtype = float8);
create domain public_path as path;
create domain exact as numeric check (value <> 7);
"""
POSTGRESQL: Mapping[str, Kind] = {
    "wide": Kind("numeric(36,18)", decimals(36, 18)),
    "free": Kind("numeric", decimals(60, 20) | _among("'NaN'", "'0.10'", "'1.000'", "'100'", "'Infinity'")),
    "whole": Kind("numeric(30)", decimals(30, 0)),
    "small": Kind("smallint", st.integers(-(1 << 15), (1 << 15) - 1).map(lambda n: f"({n})")),
    "big": Kind("bigint", st.integers(-(1 << 63) + 1, (1 << 63) - 1).map(str)),
    "real8": Kind(
        "float8", _REALS.map(lambda n: f"'{n!r}'") | _among("'NaN'", "'-0'", "'Infinity'", "'-Infinity'")
    ),
    "real4": Kind(
        "float4",
        st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda n: f"'{n!r}'::float8::float4")
        | _among("'NaN'", "'-0'"),
    ),
    "flag": Kind("boolean", _among("true", "false")),
    "words": Kind(
        "text", texts().map(_quote) | _among("''", r"'\x41'", "'NaN'", "'1.10'", '\'{"$b64": "AA=="}\'')
    ),
    "padded": Kind("char(5)", _among("'a'", "'a b'", "''")),
    "raw": Kind("bytea", _HEX.map(lambda digits: f"decode('{digits}', 'hex')")),
    "document": Kind("json", _JSON.map(_quote)),
    "binary_document": Kind("jsonb", _JSON.filter(lambda text: "400" not in text).map(_quote)),
    "stamp": Kind("timestamptz", _DATES | _among("'2024-03-01 14:30:15.123456+02'")),
    "plain_stamp": Kind("timestamp", _DATES | _among("'2024-03-01 14:30:15.1'", "'0001-01-01 00:00:00 BC'")),
    "day": Kind("date", _DATES),
    "clock": Kind("time", _among("'24:00:00'", "'12:00:00.5'")),
    "zone_clock": Kind("timetz", _among("'12:00:00.5+03:30'", "'00:00:00-15:59'")),
    "length": Kind("interval", _among("'1 year -2 days 03:04:05.678'", "'-00:00:00.1'", "'1000000 hours'")),
    "ints": Kind("int4range", _among("'[1,2)'", "'empty'", "'(,5)'", "'(,)'")),
    "own_range": Kind("spans", _among("'[0.1,0.30000000000000004)'", "'(,1e300]'")),
    "times": Kind("tstzrange", _among("'[2024-01-01 00:00:00.5+00,infinity)'", "'[\"0044-03-15 BC\",)'")),
    "many": Kind("nummultirange", _among("'{[1.10,2.0),(3,)}'", "'{}'")),
    "numbers": Kind(
        "numeric[]", _among("'{1.10,NULL,NaN}'", "'{{0.10,2},{3,4.000}}'", "'{}'", "'[0:1]={1,2}'")
    ),
    "texts": Kind("text[]", _among("""'{"a,b","c\\\\d",NULL,"NULL","",é}'""")),
    "feelings": Kind("humor[]", _among("""'{sad,"it''s \\"ok\\""}'""")),
    "feeling": Kind("humor", _among("'sad'", "'it''s \"ok\"'", "'é'")),
    "row_value": Kind("pair", _among("""'(1,"a ""b"", (c)")'""", "'(,)'")),
    "own_number": Kind("exact", _among("1.10", "'NaN'")),
    "bits": Kind("bit varying", _among("B''", "B'0010'")),
    "id": Kind("uuid", st.uuids().map(lambda value: f"'{value}'")),
    "network": Kind("inet", _among("'10.0.0.1/8'", "'::1'", "'192.168.0.1'")),
    "block": Kind("cidr", _among("'10.0.0.0/8'", "'fe80::/10'")),
    "hardware": Kind("macaddr8", _among("'08:00:2b:01:02:03:04:05'")),
    "place": Kind("point", _among("'(0.1,-0)'", "'(1e300,NaN)'")),
    "shape": Kind("polygon", _among("'((0,0),(1.5,1e-10),(0.30000000000000004,2))'")),
    "round": Kind("circle", _among("'<(1,2),0.1>'")),
    "lexemes": Kind("tsvector", _among("'a:1A b''c:2,3'")),
    "search": Kind("tsquery", _among("'a & !b <2> c:*A'")),
    "price": Kind("money", _among("'-1234567.89'", "'0.10'")),
    "markup": Kind("xml", _among("'<a b=\"c\">é</a>'", "'plain <b/>'")),
    "path": Kind("jsonpath", _among("'$.a[*] ? (@ > 1.10)'")),
    "position": Kind("pg_lsn", _among("'16/B374D848'")),
    "name_of": Kind("regclass", _among("'pg_class'")),
    "letter": Kind('"char"', _among("'x'", "''")),
    "short": Kind("varchar(20)", texts(max_codepoint=0x2FFF).map(_quote)),
    "three_bits": Kind("bit(3)", _among("B'000'", "B'101'")),
    "exact_stamp": Kind("timestamptz(2)", st.datetimes().map(lambda value: f"'{value}+00'")),
    "exact_length": Kind(
        "interval", st.integers(-(10**16), 10**16).map(lambda number: f"'{number} microseconds'")
    ),
    "lengths": Kind("interval[]", _among("'{1 year -2 days,-00:00:00.1,NULL}'")),
    "days": Kind("daterange", _among("'[2024-02-29,infinity)'", "'empty'", "'(,\"0044-03-15 BC\")'")),
    "wide_ints": Kind("int8range[]", _among("""'{"[1,9223372036854775807)",empty}'""")),
    "moments": Kind("timestamp[]", _among("""'{"0044-03-15 12:30:15.000001 BC",-infinity}'""")),
    "raws": Kind("bytea[]", _HEX.map(lambda digits: f"array[decode('{digits}', 'hex'), '']")),
    "documents": Kind("json[]", _JSON.map(lambda text: f"array[{_quote(text)}::json, null]")),
    "pairs": Kind("pair[]", _among("""array['(1,"a ""b"", (c)")', '(,)', null]::pair[]""")),
    "boxes": Kind("box[]", _among("'{(1,1),(0.1,-0);(2,2),(0,0)}'")),
    "straight": Kind("line", _among("'{1,-0.1,1e-10}'")),
    "part_line": Kind("lseg", _among("'[(0,0),(0.30000000000000004,1)]'")),
    "way": Kind("public_path", _among("'[(0,0),(1,0.1)]'", "'((0,0),(1,0.1))'")),
    "device": Kind("macaddr", _among("'08:00:2b:01:02:03'")),
    "number_of": Kind("oid", _among("0", "4294967295")),
    "identifier": Kind("name", _among("'a \"b\"'", "'é'")),
    "snapshot": Kind("pg_snapshot", _among("'10:20:10,14,15'")),
    "row_id": Kind("tid", _among("'(0,1)'")),
    "prices": Kind("money[]", _among("""'{-1234567.89,0.10}'""")),
    "type_of": Kind("regtype", _among("'integer'", "'humor[]'")),
}

MYSQL: Mapping[str, Kind] = {
    "wide": Kind("decimal(36,18)", decimals(36, 18)),
    "widest": Kind("decimal(65,30)", decimals(65, 30)),
    "scaled": Kind("decimal(20,2)", decimals(20, 2) | _among("-999999999999999999.99", "0.10")),
    "big": Kind("bigint unsigned", st.integers(0, (1 << 64) - 1).map(str)),
    "signed": Kind("bigint", st.integers(-(1 << 63), (1 << 63) - 1).map(str)),
    "tiny": Kind("tinyint", st.integers(-128, 127).map(str)),
    "real8": Kind(
        "double", _REALS.map(lambda n: f"{n!r}e0" if "e" not in repr(n) else repr(n)) | _among("-0e0")
    ),
    "real4": Kind(
        "float",
        st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False).map(
            lambda n: f"{n!r}e0" if "e" not in repr(n) else repr(n)
        ),
    ),
    "words": Kind(
        "text",
        texts().map(lambda text: f"_utf8mb4 x'{text.encode().hex()}'")
        | _among("'\\0'", "'1.10'", r"'\\x41'"),
    ),
    "latin": Kind("varchar(20) character set latin1", _among("'é'", "''", "'a '")),
    "padded": Kind("char(5)", _among("'a'", "''")),
    "raw": Kind("blob", _HEX.map(lambda digits: f"x'{digits}'")),
    "fixed": Kind("binary(4)", _among("x'00'", "x'ffffffff'")),
    "document": Kind(
        "longtext check (json_valid(document))", _JSON.map(lambda text: f"_utf8mb4 x'{text.encode().hex()}'")
    ),
    "stamp": Kind(
        "datetime(6)", _among("'0000-00-00'", "'2024-02-29 12:30:15.123456'", "'9999-12-31 23:59:59.999999'")
    ),
    "auto_stamp": Kind("timestamp(3) null", _among("'2024-02-29 12:30:15.123'", "'0000-00-00'")),
    "day": Kind("date", _among("'0000-00-00'", "'2024-00-00'", "'1000-01-01'")),
    "clock": Kind("time(6)", _among("'-838:59:59'", "'12:00:00.5'", "'838:59:59.999999'")),
    "age": Kind("year", _among("0", "1901", "2155")),
    "bits": Kind("bit(64)", st.integers(0, (1 << 64) - 1).map(str)),
    "bit_one": Kind("bit(1)", _among("b'0'", "b'1'")),
    "label": Kind("enum('a', 'it''s', 'é', '')", _among("'a'", "'it''s'", "'é'")),
    "labels": Kind("set('a', 'b', 'é')", _among("'a,é'", "''", "'b'")),
    "place": Kind("point", _among("point(0.1, -1e-10)")),
    "shape": Kind("geometry", _among("st_geomfromtext('polygon((0 0, 1.5 1, 2 2, 0 0))', 4326)")),
    "id": Kind("uuid", st.uuids().map(lambda value: f"'{value}'")),
    "network": Kind("inet6", _among("'::1'", "'::ffff:1.2.3.4'")),
    "address": Kind("inet4", _among("'1.2.3.4'", "'0.0.0.0'")),
    "medium": Kind("mediumint unsigned zerofill", st.integers(0, (1 << 24) - 1).map(str)),
    "filled": Kind("decimal(10,3) zerofill", _among("0.100", "1234567.125")),
    "wide_text": Kind(
        "varchar(20) character set utf16", texts().map(lambda text: f"_utf8mb4 x'{text.encode().hex()}'")
    ),
    "variable": Kind("varbinary(30)", _HEX.map(lambda digits: f"x'{digits}'")),
    "exact_stamp": Kind(
        "datetime(4)", st.datetimes().filter(lambda value: value.year >= 1000).map(lambda value: f"'{value}'")
    ),
    "way": Kind("linestring", _among("linestring(point(0, 0), point(0.1, -1e300))")),
    "points": Kind("multipoint", _among("multipoint(point(0, 0), point(0.1, 2))")),
    "everything": Kind(
        "geometrycollection",
        _among("geometrycollection(point(0, 0), linestring(point(0, 0), point(0.1, 2)))"),
    ),
}

#: Columns of types that MySQL lacks, and of JSON with numbers that it refuses.
MARIADB_KINDS = {"id", "network", "address", "document"}

SQLITE_VALUES = (
    st.integers(-(1 << 63) + 1, (1 << 63) - 1).map(str)
    | _REALS.map(repr)
    | _among(
        "-0.0",
        "9e999",
        "-9e999",
        "1e16",
        "1e20",
        "1.0",
        "''",
        "'1_000'",
        "'nan'",
        "'1.10'",
        "'1'",
        "'Infinity'",
        r"'\x41'",
    )
    | texts().map(_quote)
    | _HEX.map(lambda digits: f"x'{digits}'")
    | _HEX.map(lambda digits: f"cast(x'{digits}' as text)")
    | _JSON.map(_quote)
)
SQLITE: Mapping[str, Kind] = {
    name: Kind(declared, SQLITE_VALUES)
    for name, declared in [
        ("untyped", ""),
        ("integral", "integer"),
        ("words", "text"),
        ("raw", "blob"),
        ("fraction", "real"),
        ("exact", "numeric(36,18)"),
        ("moment", "datetime"),
        ("flag", "boolean"),
        ("document", "json"),
    ]
}

KINDS = {"postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": SQLITE}


def draw_rows(kinds: Mapping[str, Kind]) -> st.SearchStrategy[list[list[str]]]:
    """Return rows of SQL; a value is NULL rarely."""
    row = st.tuples(*(st.just("null") | kind.values | kind.values for kind in kinds.values())).map(list)
    return st.lists(row, min_size=ROWS, max_size=ROWS)
