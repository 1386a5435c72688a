"""Exact values of MySQL columns, and parsers of text for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from pymysql.constants import FIELD_TYPE

from dbctl.engines.contract.database import Column, Query
from dbctl.engines.mysql.types.columns import Kind, is_binary, kind_of
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import Row

if TYPE_CHECKING:
    from dbctl.engines.mysql.connection.session import Session
    from dbctl.engines.mysql.database import MySQLDatabase


#: The bits of integer types, by the first word of the type.
BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
_TYPE = re.compile(r"([A-Z]+)(?:\((\d+)\))?")
#: Times that a server may store and Python cannot parse.
UNPARSED_TIMES = re.compile(r"\d{4}-(?:0\d|1[0-2])-(?:[0-2]\d|3[01])(?:[ T].*)?")


#: Functions that read the text of a value, by the driver's number of its type, where ``select`` has another form to show.
EXACT = dict.fromkeys([FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP], str)


class MySQLCodec:
    """The part ``ValueCodec``."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._db, self._catalog = db, db.catalog

    def read(self, query: Query) -> list[Row]:
        with keep_exact_values(self._db.connection.session):
            return self._db.connection.fetch(*self._db.select_statement(query, exact_expression))

    def csv_parser(self, table: str, column: str) -> Callable[[str, bool], object]:
        parse = self.text_parser(table, column)
        return lambda text, _unquoted: parse(text)

    def text_parser(self, table: str, column: str) -> codec.Parser:
        return _create_parser(self._catalog.require_column(table, column))

    def json_parser(self, table: str, column: str) -> Callable[[object], object]:
        definition = self._catalog.require_column(table, column)
        return codec.json_value_parser(
            definition,
            _create_parser(definition),
            takes_bytes=kind_of(definition) in ("bytes", "other"),
            encode=partial(_format_value, definition),
        )


@contextmanager
def keep_exact_values(session: Session) -> Iterator[None]:
    """Read exact values in this context: times remain the text of the server."""
    decoders = session.decoders
    session.decoders = {**decoders, **EXACT}
    try:
        yield
    finally:
        session.decoders = decoders


def exact_expression(column: Column, name: str) -> str:
    """Return SQL for a column with every digit: the server prints six of a FLOAT."""
    return f"({name} * 1e0)" if column.type.startswith("FLOAT") else name


def exact_reader(column: Column) -> Callable[[bytes], object]:
    r"""Return the function that reads the text of an exact value, of bytes as ``\x`` and hexadecimal digits."""
    if is_binary(column):
        return lambda text: bytes.fromhex(text[2:].decode())
    if kind_of(column) == "integer":
        return int
    if kind_of(column) == "number":
        return lambda text: codec.parse_number(text.decode())
    return lambda text: text.decode("utf-8", "surrogateescape")


def _format_value(column: Column, value: object) -> str | None:
    if isinstance(value, list | dict):
        return codec.encode_json(value) if kind_of(column) in ("text", "other") else None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _create_parser(column: Column) -> codec.Parser:
    if column.type == "JSON":
        return codec.json_parser(column)
    make = _PARSERS.get(kind_of(column))
    return _create_other_parser(column) if make is None else make(column)


def _create_integer_parser(column: Column) -> codec.Parser:
    match = _TYPE.match(column.type)
    name, width = (match[1], match[2]) if match else ("", None)
    if name == "BIT":
        return _as_number(codec.integer_parser(column, 0, (1 << int(width or 1)) - 1), Decimal)
    bits = BITS.get(name, 64)
    if "UNSIGNED" in column.type:
        return _as_number(codec.integer_parser(column, 0, (1 << bits) - 1), Decimal)
    return _as_number(codec.integer_parser(column, -(1 << (bits - 1)), (1 << (bits - 1)) - 1), int)


def _create_number_parser(column: Column) -> codec.Parser:
    is_real = column.type.startswith(("FLOAT", "DOUBLE"))  # a decimal literal has no sign of zero
    return _as_number(codec.number_parser(column, finite=True), float if is_real else Decimal)


def _as_number(read: codec.Parser, kind: Callable[[str], object]) -> codec.Parser:
    """Return a reader that converts the text of a number to ``kind``: as text, the server would round it."""
    return lambda text: kind(str(read(text)).strip())


def _create_other_parser(column: Column) -> codec.Parser:
    parse_text, parse_bytes = codec.text_parser(column, nul=True), codec.bytes_parser(column)
    # points and other types arrive as bytes
    return lambda text: parse_bytes(text) if text.startswith("\\x") else parse_text(text)


_PARSERS: Mapping[Kind, Callable[[Column], codec.Parser]] = {
    "text": partial(codec.text_parser, nul=True),
    "integer": _create_integer_parser,
    "number": _create_number_parser,
    "uuid": codec.uuid_parser,
    "enum": codec.label_parser,
    "time": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "date": partial(codec.time_parser, extra_pattern=UNPARSED_TIMES),
    "bytes": codec.bytes_parser,
}
