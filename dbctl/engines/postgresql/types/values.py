"""Statements with ``:name`` parameters become PostgreSQL's own, and values of Python the texts that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from math import isfinite, isnan
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import adapters
from psycopg.adapt import Buffer, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import TextLoader

from dbctl.engines.parsing import Piece, pieces
from dbctl.engines.postgresql.sql import tokens
from dbctl.engines.servers import Writers, whole, written
from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError

if TYPE_CHECKING:
    from psycopg import Connection


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


NO_TEXT = frozenset({"int2", "int4", "int8", "oid", "float4", "float8", "bool", "bytea"})
#: What the driver itself makes plain; everything else comes as the text that the server writes.
PLAIN = NO_TEXT | {"text", "varchar", "name", "bpchar", '"char"'}
#: The encoding of a database that does not say how its text is encoded, and keeps any bytes.
UNDECLARED = "SQL_ASCII"


class Number(Loader):
    """A number as every engine gives it."""

    def load(self, data: Buffer) -> object:
        text = bytes(data)
        if text.isdigit():
            return int(text)
        number = float(text)  # also NaN and Infinity
        whole, _, fraction = text.partition(b".")
        return int(whole) if fraction.strip(b"0") == b"" and whole.removeprefix(b"-").isdigit() else number


class Exact(Loader):
    """A number with every digit that it has."""

    def load(self, data: Buffer) -> object:
        number = Decimal(bytes(data).decode())
        return number if number.is_finite() else str(number)


class _Moment(Loader):
    """A time with or without zone; the session's zone is UTC, and so are those without."""

    def load(self, data: Buffer) -> object:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:  # infinity, or a year that Python does not know
            return text


class _Lenient(Loader):
    """Text of a database that does not say how its text is encoded."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "surrogateescape")


def make_plain(connection: Connection[tuple[object, ...]]) -> None:
    """Let ``connection`` give and take plain values."""
    mine, undeclared = connection.adapters, connection.info.parameter_status("server_encoding") == UNDECLARED
    for known in adapters.types:
        if undeclared and known.name not in NO_TEXT:
            mine.register_loader(known.oid, _Lenient)
        elif known.name not in PLAIN:
            mine.register_loader(known.oid, TextLoader)
    mine.register_loader("numeric", Number)
    mine.register_loader("timestamptz", _Moment)
    mine.register_loader("timestamp", _Moment)
    mine.register_dumper(int, Int8Dumper)
