"""SQL for comparisons, text for values, and rows as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ctypes import c_float
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from math import isinf
from typing import Literal, TypeAlias, TypeVar

import msgspec

from dbctl.engines.contract.database import Column
from dbctl.engines.sql.catalog import Statement
from dbctl.engines.sql.query_builder import Dialect
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import Struct

MILLISECOND = timedelta(milliseconds=1)

#: How values of a type compare. ``other``: by their text, which never fails.
Kind: TypeAlias = Literal[
    "text",
    "integer",
    "number",
    "boolean",
    "uuid",
    "enum",
    "timestamptz",
    "timestamp",
    "date",
    "bytes",
    "other",
]
TIMES = frozenset[Kind]({"timestamptz", "timestamp", "date"})
#: A pattern for a time of day, as servers write it.
CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
NATIVE: Mapping[Kind, str] = {
    "boolean": "boolean",
    "uuid": "uuid",
    "enum": "enum",
    **dict.fromkeys(TIMES, "time"),
}
NO_ROW = "1 = 0"


class ServerColumn(Column, frozen=True, kw_only=True):
    """A column of a live table, with its type from the catalog."""

    kind: Kind


def kind_of(column: Column) -> Kind:
    """Return how values of a column compare."""
    return column.kind if isinstance(column, ServerColumn) else "other"


def round_single(number: Decimal) -> Decimal:
    """Return the number that a column of single precision stores for ``number``, which a server compares with all its digits.

    A column that shows 0.1 stores 0.10000000149011612, which is larger than 0.1. A number that such a column cannot store remains as it is.
    """
    single = c_float(float(number)).value
    return number if isinf(single) or bool(single) != bool(number) else Decimal(single)


class ServerDialect(Dialect):
    def roughly_before(self, value: str, column: Column, timestamp: datetime, statement: Statement) -> str:
        limit = round(timestamp.timestamp()) + 1
        match kind_of(column):
            case "integer" | "number":
                seconds, milliseconds = statement.bind(limit), statement.bind(limit * 1000)
                return f"({value} < {seconds} or ({value} >= 100000000000 and {value} < {milliseconds}))"
            case "text":
                return self._roughly_before_text(value, timestamp, statement)
            case _:
                return "1 = 1"  # the comparison itself can use an index

    def sort_time(self, value: str, column: Column) -> str:
        return value if kind_of(column) in TIMES else super().sort_time(value, column)


V = TypeVar("V", bound=Struct)


def convert_row(row: Mapping[str, object], kind: type[V]) -> V:
    """Return a row by column name as a value of ``kind``; NULL in a field of text is the empty text."""
    empty = {name: "" for name in _text_fields(kind) if row.get(name, "") is None}
    return msgspec.convert({**row, **empty}, kind, strict=False)


@cache
def _text_fields(kind: type[Struct]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(kind) if field.type is str)


#: Formats values by type. The first matching type is used: a bool is also an int, and a datetime is also a date.
Formatters: TypeAlias = Mapping[type, Callable[..., str]]
SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1


def format_value(value: object, formatters: Formatters) -> str | None:
    """Return the text for ``value``; None for NULL.

    Raises:
        ValueInvalidError: no database can store it.
    """
    if value is None:
        return None
    for value_type, write in formatters.items():
        if isinstance(value, value_type):
            return write(value)
    reason = "no database can store this type"
    raise ValueInvalidError(name="value", value=f"({type(value).__name__})", reason=reason)


def format_integer(value: int) -> str:
    """Return the text for an integer of at most 64 bits."""
    if not SMALLEST <= value <= LARGEST:
        raise ValueInvalidError(name="number", value=f"{value:x}"[:20], reason="it has more than 64 bits")
    return str(value)


def parse_time(text: str) -> datetime | None:
    """Parse a time in ISO 8601; in UTC if it has no zone. Return None for other text."""
    try:
        timestamp = datetime.fromisoformat(text.strip())
        return timestamp.astimezone(UTC) if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
