"""What the driver makes of what the server sends: plain values, the same kinds that every engine gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from math import isfinite, isnan
from uuid import UUID

from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

from dbctl.engines.mysql.sql import tokens
from dbctl.engines.parsing import Piece, Token, pieces
from dbctl.engines.servers import Writers, whole, written
from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError


def _number(text: str) -> object:
    whole, _, fraction = text.partition(".")
    return int(whole) if fraction.strip("0") == "" and whole.lstrip("-").isdigit() else float(text)


def _parse_time(text: str) -> object:
    """Of the session, whose zone is UTC; columns have none."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # 0000-00-00, or a day that no month has
        return text


def _bits(data: bytes) -> int:
    return int.from_bytes(data, "big")


#: Everything that is not here comes as the driver gives it: text as text, bytes as bytes, whole numbers as such.
PLAIN = {
    **conversions,
    FIELD_TYPE.BIT: _bits,
    FIELD_TYPE.DATE: str,
    FIELD_TYPE.DATETIME: _parse_time,
    FIELD_TYPE.DECIMAL: _number,
    FIELD_TYPE.NEWDECIMAL: _number,
    FIELD_TYPE.TIME: str,
    FIELD_TYPE.TIMESTAMP: _parse_time,
}


#: A set that holds nothing.
NOTHING = "(select null from dual where false)"


def translated(sql: str, parameters: Mapping[str, object], *, escapes: bool) -> str:
    """Return a statement with the literals that its ``:name`` parameters stand for.

    In a text of the statement itself a backslash is a letter; ``escapes`` says that the session has it otherwise.

    Raises:
        KeyError: a parameter was not given.
        ValueInvalidError: no database keeps a value that was.
    """
    return "".join(
        _put_in(piece, parameters) if piece.name else piece.text for piece in _pieces(sql, escapes=escapes)
    )


@lru_cache(maxsize=64)
def _pieces(sql: str, *, escapes: bool) -> Sequence[Piece]:
    read = tokens(sql)
    return pieces([_escaped(token) for token in read] if escapes else list(read))


def _escaped(token: Token) -> Token:
    return token._replace(text=token.text.replace("\\", "\\\\")) if token.kind == "text" else token


def _put_in(piece: Piece, parameters: Mapping[str, object]) -> str:
    value = parameters[piece.name]
    if piece.beside not in ("in", "not in"):
        return literal(value)
    if not isinstance(value, list | tuple):
        return f"{piece.beside} {literal(value)}"
    return f"{piece.beside} {among(map(literal, value))}"


def among(literals: Sequence[str] | map[str]) -> str:
    """Return what stands behind ``in``."""
    return f"({', '.join(literals)})" if (literals := list(literals)) else NOTHING


def literal(value: object) -> str:
    """Return ``value`` as it stands in a statement.

    Raises:
        ValueInvalidError: no database keeps it.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, bool | int | float | Decimal):
        return f"({stored(value)})" if value < 0 else stored(value) or ""
    text = stored(value) or ""
    if "\\" in text or "\0" in text:
        return f"_utf8mb4 x'{text.encode().hex()}'"
    return "'" + text.replace("'", "''") + "'"


def stored(value: object) -> str | None:
    """Return the text that a server reads as ``value``, whatever the type of the column that it goes into.

    Raises:
        ValueInvalidError: no database keeps it.
    """
    return written(value, _WRITTEN)


def _text(value: str) -> str:
    if not is_storable(value.replace("\0", "")):
        raise ValueInvalidError(what="text", value=ascii(value[:40]), reason="it is not valid UTF-8")
    return value


def _fraction(value: float) -> str:
    if isnan(value) or not isfinite(value):
        raise ValueInvalidError(what="number", value=str(value), reason="no column keeps it")
    return repr(value)


def _encode_time(value: datetime) -> str:
    # no column has a zone of its own, so it is UTC for all
    moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return moment.isoformat(" ")


_WRITTEN: Writers = {
    str: _text,
    bool: lambda value: "1" if value else "0",
    int: whole,
    float: _fraction,
    datetime: _encode_time,
    date: str,
    Decimal: str,
    UUID: str,
}
