"""What the driver makes of what the server sends: plain values, the same kinds that every engine gives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg import adapters
from psycopg.adapt import Buffer, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import TextLoader

if TYPE_CHECKING:
    from psycopg import Connection

#: What the driver itself makes plain; everything else comes as the text that the server writes.
PLAIN = frozenset(
    {
        "int2",
        "int4",
        "int8",
        "oid",
        "float4",
        "float8",
        "bool",
        "bytea",
        "text",
        "varchar",
        "name",
        "bpchar",
        "char",
    }
)


class _Number(Loader):
    def load(self, data: Buffer) -> object:
        text = bytes(data)
        if text.isdigit():
            return int(text)
        number = float(text)  # also NaN and Infinity
        whole, _, fraction = text.partition(b".")
        return int(whole) if fraction.strip(b"0") == b"" and whole.removeprefix(b"-").isdigit() else number


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
    mine, registry = connection.adapters, adapters.types
    for known in registry:
        if known.name not in PLAIN:
            mine.register_loader(known.oid, TextLoader)
    mine.register_loader("numeric", _Number)
    mine.register_loader("timestamptz", _Moment)
    mine.register_loader("timestamp", _Moment)
    mine.register_dumper(int, Int8Dumper)
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        for name in ("text", "varchar", "name", "bpchar", "char", "json", "jsonb", "xml"):
            mine.register_loader(name, _Lenient)
