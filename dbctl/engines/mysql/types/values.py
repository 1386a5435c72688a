"""Convert values of the driver to plain values, and values of Python to SQL literals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from math import isfinite, isnan
from uuid import UUID

from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

from dbctl.engines.mysql.sql.lexer import LEXER
from dbctl.engines.parsing.lexer import Fragment, Token, split_parameters
from dbctl.engines.servers.values import Formatters, format_integer, format_value
from dbctl.engines.sql import codec
from dbctl.engines.sql.catalog import is_storable, quote_literal
from dbctl.errors.usage import ValueInvalidError


def _parse_time(text: str) -> object:
    """Parse a time of the session, whose zone is UTC; columns have no zone."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # 0000-00-00, or a day past the end of the month
        return text


def _decode_bits(data: bytes) -> int:
    return int.from_bytes(data, "big")


#: Other types are converted by the driver: text as text, bytes as bytes, whole numbers as int.
CONVERTERS = {
    **conversions,
    FIELD_TYPE.BIT: _decode_bits,
    FIELD_TYPE.DATE: str,
    FIELD_TYPE.DATETIME: _parse_time,
    FIELD_TYPE.DECIMAL: codec.parse_number,
    FIELD_TYPE.NEWDECIMAL: codec.parse_number,
    FIELD_TYPE.TIME: str,
    FIELD_TYPE.TIMESTAMP: _parse_time,
}


#: Digits of a decimal before or after its point; no column has more.
MAX_DIGITS = 100
#: A set without values.
EMPTY_SET = "(select null from dual where false)"


def bind_parameters(sql: str, parameters: Mapping[str, object], *, escapes: bool) -> str:
    """Return a statement with its ``:name`` parameters replaced by literals.

    In the statement a backslash is a character; ``escapes``: in the session it begins an escape.

    Raises:
        KeyError: a parameter is missing.
        ValueInvalidError: no database can store a value.
    """
    return "".join(
        _format_piece(fragment, parameters) if fragment.name else fragment.text
        for fragment in _split_statement(sql, escapes=escapes)
    )


@lru_cache(maxsize=64)
def _split_statement(sql: str, *, escapes: bool) -> Sequence[Fragment]:
    token_stream = LEXER.tokenize(sql)
    return split_parameters([_escape(token) for token in token_stream] if escapes else list(token_stream))


def _escape(token: Token) -> Token:
    return token._replace(text=token.text.replace("\\", "\\\\")) if token.kind == "text" else token


def _format_piece(fragment: Fragment, parameters: Mapping[str, object]) -> str:
    value = parameters[fragment.name]
    if fragment.operator not in ("in", "not in"):
        return format_literal(value)
    if not isinstance(value, list | tuple):
        return f"{fragment.operator} {format_literal(value)}"
    return f"{fragment.operator} {format_list(map(format_literal, value))}"


def format_list(literals: Sequence[str] | map[str]) -> str:
    """Return the operand of ``in``."""
    return f"({', '.join(literals)})" if (literals := list(literals)) else EMPTY_SET


def format_literal(value: object) -> str:
    """Return ``value`` as an SQL literal.

    Raises:
        ValueInvalidError: no database can store it.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float) and value == 0:
        return f"({value}e0)"  # a decimal literal has no sign of zero
    if isinstance(value, bool | int | float | Decimal):
        return f"({encode_value(value)})" if value < 0 else encode_value(value) or ""
    text = encode_value(value) or ""
    if "\\" in text or "\0" in text:
        return f"_utf8mb4 x'{text.encode().hex()}'"
    return quote_literal(text)


def encode_value(value: object) -> str | None:
    """Return the text that a server reads as ``value``, for a column of any type.

    Raises:
        ValueInvalidError: no database can store it.
    """
    return format_value(value, _WRITERS)


def _encode_text(value: str) -> str:
    if not is_storable(value.replace("\0", "")):
        raise ValueInvalidError(name="text", value=ascii(value[:40]), reason="it is not valid UTF-8")
    return value


def _encode_float(value: float) -> str:
    if isnan(value) or not isfinite(value):
        raise ValueInvalidError(name="number", value=str(value), reason="no column can store it")
    return repr(value)


def _encode_time(value: datetime) -> str:
    # columns have no zone, so all times are sent in UTC
    timestamp = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return timestamp.isoformat(" ")


def _encode_decimal(value: Decimal) -> str:
    """Return all digits: a literal with an exponent is a float."""
    return f"{value:f}" if value.is_finite() and abs(value.adjusted()) <= MAX_DIGITS else str(value)


_WRITERS: Formatters = {
    str: _encode_text,
    bool: lambda value: "1" if value else "0",
    int: format_integer,
    float: _encode_float,
    datetime: _encode_time,
    date: str,
    Decimal: _encode_decimal,
    UUID: str,
}
