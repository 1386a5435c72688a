"""Exact values of PostgreSQL columns: the server's text of each type, and parsers of text that the server reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Column, Query
from dbctl.engines.postgresql.types.columns import FALSE, TRUE, Kind, kind_of
from dbctl.engines.postgresql.types.values import format_array
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import Row

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase

#: The bits of integer types, without the sign.
BITS = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}
#: Times that PostgreSQL writes and Python cannot parse.
UNPARSED_TIMES = re.compile(r"-?infinity|\d{5,}-.*|.* BC", re.DOTALL)


class PostgreSQLCodec:
    """The part ``ValueCodec``: the text of the server, whose settings are those of the session."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        self._db, self._catalog = db, db.catalog

    def read(self, query: Query) -> list[Row]:
        readers = [
            exact_reader(self._catalog.require_column(query.table, column)) for column in query.columns
        ]
        return [
            tuple(
                value if read is None or value is None else read(value)
                for read, value in zip(readers, row, strict=True)
            )
            for row in self._db.connection.fetch_texts(*self._db.select_statement(query))
        ]

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        parse = self.text_parser(table, column)
        return lambda text, _unquoted: parse(text)

    def text_parser(self, table: str, column: str) -> codec.Parser:
        return _create_parser(self._catalog.require_column(table, column))

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        definition = self._catalog.require_column(table, column)
        takes_bytes = kind_of(definition) == "bytes"
        return codec.json_value_parser(
            definition,
            _create_parser(definition),
            takes_bytes=takes_bytes,
            encode=partial(_format_value, definition),
        )


def exact_reader(column: Column) -> Callable[[str], object] | None:
    """Return the function that reads the server's text of a value exactly; None if it remains text."""
    return _EXACT_READERS.get(kind_of(column))


_EXACT_READERS: Mapping[Kind, Callable[[str], object]] = {
    "integer": int,
    "number": codec.parse_number,
    "boolean": "t".__eq__,
    "bytes": lambda text: bytes.fromhex(text[2:]),
}


def _format_value(column: Column, value: object) -> str | None:
    if _is_json(column):
        return codec.encode_json(value)
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
    return codec.encode_json(value) if isinstance(value, dict) else value


def _is_json(column: Column) -> bool:
    return column.type in ("JSON", "JSONB")


def _create_parser(column: Column) -> codec.Parser:
    make = _PARSERS.get(kind_of(column))
    if make is not None:
        return make(column)
    return codec.json_parser(column) if _is_json(column) else codec.text_parser(column)


def _create_integer_parser(column: Column) -> codec.Parser:
    end = 1 << BITS.get(column.type, 63)
    return codec.integer_parser(column, -end, end - 1)


_PARSERS: Mapping[Kind, Callable[[Column], codec.Parser]] = {
    "integer": _create_integer_parser,
    "number": partial(codec.number_parser, finite=False),
    "boolean": partial(codec.boolean_parser, words=TRUE | FALSE),
    "uuid": codec.uuid_parser,
    "enum": codec.label_parser,
    "timestamptz": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "timestamp": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "date": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "bytes": codec.bytes_parser,
}
