"""Statements with ``:name`` parameters become PostgreSQL's own, and values of Python the texts that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from math import isfinite, isnan
from uuid import UUID

from dbctl.engines.postgresql.tokens import tokens
from dbctl.engines.served.values import Writers, whole, written
from dbctl.engines.sql import is_storable
from dbctl.engines.tokens import Piece, pieces
from dbctl.errors import ValueInvalidError

#: A parameter that a statement does not mention: without any, the driver sends what may be several statements.
UNMENTIONED = 0


def translated(sql: str, parameters: Mapping[str, object]) -> tuple[str, list[object]]:
    """Return a statement with ``$1``, ``$2``… and what they stand for.

    Each mention of a parameter becomes one of its own, so that the server reads it as what stands beside it: a text
    that is compared with a uuid here and with a text there. ``in :set`` becomes ``= any``, where a list was given.

    Raises:
        KeyError: a parameter was not given.
        ValueInvalidError: no database keeps a value that was.
    """
    given: list[object] = []
    sent = []
    for text, name, among in _pieces(sql):
        if not name:
            sent.append(text)
            continue
        value = parameters[name]
        given.append(_sent(value))
        place = f"${len(given)}"
        if among == "is":
            place = f"cast({place} as text)"  # nothing beside it tells a type
        elif among and isinstance(value, list | tuple):
            place = f"<> all({place})" if among == "not in" else f"= any({place})"
        elif among:
            place = f"{among} {place}"
        sent.append(place)
    return "".join(sent), given


def encoded(sql: str) -> bytes:
    """Return a statement as the driver takes it.

    Raises:
        ValueInvalidError: it cannot be sent.
    """
    try:
        return sql.encode()
    except UnicodeEncodeError:
        raise ValueInvalidError(what="statement", value="given", reason="it is not valid UTF-8") from None


@lru_cache(maxsize=64)
def _pieces(sql: str) -> Sequence[Piece]:
    return pieces(list(tokens(sql)))


def _sent(value: object) -> object:
    """Return what the driver sends for a value whose type the statement tells, or the value itself tells."""
    if value is None or isinstance(value, bool | bytes):
        return value
    if isinstance(value, int | float):
        stored(value)
        return value
    return stored(value)


def stored(value: object) -> str | None:
    """Return the text that PostgreSQL reads as ``value``, whatever the type of the column that it goes into.

    Raises:
        ValueInvalidError: no database keeps it.
    """
    return written(value, _WRITTEN)


def _text(value: str) -> str:
    if not is_storable(value):
        reason = "no database keeps a NUL" if "\0" in value else "it is not valid UTF-8"
        raise ValueInvalidError(what="text", value=ascii(value[:40]), reason=reason)
    return value


def _fraction(value: float) -> str:
    if isnan(value):
        raise ValueInvalidError(what="number", value="NaN", reason="no database keeps it")
    return repr(value) if isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _moment(value: datetime) -> str:
    # a column without a zone would drop the zone, so it is UTC for all
    return (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)).isoformat(" ")


def array(values: Sequence[object]) -> str:
    """Return an array as PostgreSQL writes it."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if isinstance(value, list | tuple):
        return array(value)
    text = stored(value)
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytes(value: bytes) -> str:
    return "\\x" + value.hex()


def _boolean(value: bool) -> str:  # noqa: FBT001 - it is the value
    return "1" if value else "0"  # booleans and numbers read it


_WRITTEN: Writers = {
    str: _text,
    bool: _boolean,
    int: whole,
    float: _fraction,
    datetime: _moment,
    date: str,
    Decimal: str,
    UUID: str,
    bytes: _bytes,
    list: array,
    tuple: array,
}
