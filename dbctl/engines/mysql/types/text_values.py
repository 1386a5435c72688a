"""Convert the text of files to values for MySQL columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial

from dbctl.engines.contract import Column
from dbctl.engines.mysql.types.columns import Kind, kind_of
from dbctl.engines.sql import text_values

#: The bits of integer types, by the first word of the type.
BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
_TYPE = re.compile(r"([A-Z]+)(?:\((\d+)\))?")
#: Times that a server may store and Python cannot parse.
UNPARSED_TIMES = re.compile(r"\d{4}-(?:0\d|1[0-2])-(?:[0-2]\d|3[01])(?:[ T].*)?")


def csv_parser(column: Column) -> Callable[[str, bool], object]:
    """Return the function that reads a cell of a CSV file."""
    read = _create_reader(column)
    return lambda text, _unquoted: read(text)


def json_parser(column: Column) -> Callable[[object], object]:
    """Return the function that reads a value of a JSON Lines file."""
    takes_bytes = kind_of(column) in ("bytes", "other")
    return text_values.json_value_parser(
        column, _create_reader(column), takes_bytes=takes_bytes, encode=partial(_format_value, column)
    )


def _format_value(column: Column, value: object) -> str | None:
    if isinstance(value, list | dict):
        return text_values.encode_json(value) if kind_of(column) in ("text", "other") else None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _create_reader(column: Column) -> text_values.Parser:
    if column.type == "JSON":
        return text_values.json_parser(column)
    make = _READERS.get(kind_of(column))
    return _create_other_reader(column) if make is None else make(column)


def _create_integer_reader(column: Column) -> text_values.Parser:
    match = _TYPE.match(column.type)
    name, width = (match[1], match[2]) if match else ("", None)
    if name == "BIT":
        return _as_number(text_values.integer_parser(column, 0, (1 << int(width or 1)) - 1), int)
    bits = BITS.get(name, 64)
    if "UNSIGNED" in column.type:
        return _as_number(text_values.integer_parser(column, 0, (1 << bits) - 1), Decimal)
    return _as_number(text_values.integer_parser(column, -(1 << (bits - 1)), (1 << (bits - 1)) - 1), int)


def _create_number_reader(column: Column) -> text_values.Parser:
    return _as_number(text_values.number_parser(column, finite=True), Decimal)


def _as_number(read: text_values.Parser, kind: Callable[[str], object]) -> text_values.Parser:
    """Return a reader that converts the text of a number to ``kind``: as text, the server would round it."""
    return lambda text: kind(str(read(text)).strip())


def _create_other_reader(column: Column) -> text_values.Parser:
    parse_text, parse_bytes = text_values.text_parser(column, nul=True), text_values.bytes_parser(column)
    # points and other types arrive as bytes
    return lambda text: parse_bytes(text) if text.startswith("\\x") else parse_text(text)


_READERS: Mapping[Kind, Callable[[Column], text_values.Parser]] = {
    "text": partial(text_values.text_parser, nul=True),
    "integer": _create_integer_reader,
    "number": _create_number_reader,
    "uuid": text_values.uuid_parser,
    "enum": text_values.label_parser,
    "time": partial(text_values.time_parser, extra_pattern=UNPARSED_TIMES),
    "date": partial(text_values.time_parser, extra_pattern=UNPARSED_TIMES),
    "bytes": text_values.bytes_parser,
}
