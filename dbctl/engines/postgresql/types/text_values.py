"""Convert the text of files to values for PostgreSQL columns, as text that the server reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial

from dbctl.engines.contract import Column
from dbctl.engines.postgresql.types.columns import FALSE, TRUE, Kind, kind_of
from dbctl.engines.postgresql.types.values import format_array
from dbctl.engines.sql import text_values

#: The bits of integer types, without the sign.
BITS = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}
#: Times that PostgreSQL writes and Python cannot parse.
UNPARSED_TIMES = re.compile(r"-?infinity|\d{5,}-.*|.* BC", re.DOTALL)


def csv_parser(column: Column) -> Callable[[str, bool], object]:
    """Return the function that reads a cell of a CSV file."""
    read = _create_reader(column)
    return lambda text, _unquoted: read(text)


def json_parser(column: Column) -> Callable[[object], object]:
    """Return the function that reads a value of a JSON Lines file."""
    takes_bytes = kind_of(column) == "bytes"
    return text_values.json_value_parser(
        column, _create_reader(column), takes_bytes=takes_bytes, encode=partial(_format_value, column)
    )


def _format_value(column: Column, value: object) -> str | None:
    if _is_json(column):
        return text_values.encode_json(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, list) and column.type.endswith("[]"):
        return format_array([_format_element(item) for item in value])
    return None


def _format_element(value: object) -> object:
    if isinstance(value, list):
        return [_format_element(item) for item in value]
    return text_values.encode_json(value) if isinstance(value, dict) else value


def _is_json(column: Column) -> bool:
    return column.type in ("JSON", "JSONB")


def _create_reader(column: Column) -> text_values.Parser:
    make = _READERS.get(kind_of(column))
    if make is not None:
        return make(column)
    return text_values.json_parser(column) if _is_json(column) else text_values.text_parser(column)


def _create_integer_reader(column: Column) -> text_values.Parser:
    end = 1 << BITS.get(column.type, 63)
    return text_values.integer_parser(column, -end, end - 1)


_READERS: Mapping[Kind, Callable[[Column], text_values.Parser]] = {
    "integer": _create_integer_reader,
    "number": partial(text_values.number_parser, finite=False),
    "boolean": partial(text_values.boolean_parser, words=TRUE | FALSE),
    "uuid": text_values.uuid_parser,
    "enum": text_values.label_parser,
    "timestamptz": partial(text_values.time_parser, extra_pattern=UNPARSED_TIMES),
    "timestamp": partial(text_values.time_parser, extra_pattern=UNPARSED_TIMES),
    "date": partial(text_values.time_parser, extra_pattern=UNPARSED_TIMES),
    "bytes": text_values.bytes_parser,
}
