"""What the driver makes of what the server sends: plain values, the same kinds that every engine gives."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg import adapters
from psycopg.adapt import Buffer, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import TextLoader

if TYPE_CHECKING:
    from psycopg import Connection

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
