"""What the catalogue tells of a column, beyond what every engine tells, and which values it can hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

from dbctl.engines.contract import Column
from dbctl.engines.postgresql.types.values import stored
from dbctl.engines.servers import LARGEST, SMALLEST
from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError

#: How values of a type compare. ``other``: only as their text, which never fails.
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
KINDS: Mapping[str, Kind] = {
    "text": "text",
    "varchar": "text",
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "numeric": "number",
    "float4": "number",
    "float8": "number",
    "bool": "boolean",
    "uuid": "uuid",
    "timestamptz": "timestamptz",
    "timestamp": "timestamp",
    "date": "date",
    "bytea": "bytes",
}
TIMES = frozenset[Kind]({"timestamptz", "timestamp", "date"})
NATIVE: Mapping[Kind, str] = {
    "boolean": "boolean",
    "uuid": "uuid",
    "enum": "enum",
    "timestamptz": "time",
    "timestamp": "time",
    "date": "time",
}
#: What a parameter is cast to, so that a value out of range compares instead of failing.
CASTS: Mapping[Kind, str] = {
    "text": "text",
    "integer": "int8",
    "number": "numeric",
    "boolean": "bool",
    "uuid": "uuid",
}

TRUE, FALSE = (
    frozenset({"t", "true", "y", "yes", "on", "1"}),
    frozenset({"f", "false", "n", "no", "off", "0"}),
)
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,40}\s*", re.ASCII)


class PostgreSQLColumn(Column, frozen=True, kw_only=True):
    """One column of a live table, with its type as the catalogue has it."""

    kind: Kind
    base: str  #: the type without its length, under any domain, quoted for a cast


class Fitting(NamedTuple):
    """A value as a column can hold it, or can at least be compared with."""

    text: str
    type: str


def kind_of(column: Column) -> Kind:
    """Return how values of a column compare."""
    return column.kind if isinstance(column, PostgreSQLColumn) else "other"


def base_of(column: Column) -> str:
    """Return the type of a column for a cast that cuts nothing off: the column's own length is told afterwards."""
    return column.base if isinstance(column, PostgreSQLColumn) else column.type


def fitting(column: Column, value: object) -> Fitting | None:
    """Return ``value`` as ``column`` may hold it; None where it never can, so that no row has it.

    Raises:
        ValueInvalidError: no database keeps it at all.
    """
    if isinstance(value, str) and "\0" in value and is_storable(value.replace("\0", "")):
        return None
    text, kind = stored(value), kind_of(column)
    if text is None:
        return None
    if isinstance(value, bytes) != (kind == "bytes"):
        return None
    if kind == "enum" and isinstance(column, PostgreSQLColumn):
        return Fitting(text, column.base) if text in column.values else None
    return _READ.get(kind, _as_text)(text, kind)


def _as_text(text: str, kind: Kind) -> Fitting:
    return Fitting(text, "bytea" if kind == "bytes" else "text")


def _boolean(text: str, _kind: Kind) -> Fitting | None:
    word = text.strip().lower()
    return Fitting(word, "bool") if word in TRUE | FALSE else None


def _time(text: str, kind: Kind) -> Fitting | None:
    moment = _moment(text)
    return None if moment is None else Fitting(stored(moment) or "", kind)


def _number(text: str, kind: Kind) -> Fitting | None:
    if kind == "integer" and _WHOLE.fullmatch(text) and SMALLEST <= int(text) <= LARGEST:
        return Fitting(str(int(text)), "int8")
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if number.is_nan() or abs(number.adjusted()) > 1000:  # noqa: PLR2004 - digits; more are no number of anybody's
        return None
    if kind == "integer" and number == number.to_integral_value() and SMALLEST <= number <= LARGEST:
        return Fitting(str(int(number)), "int8")
    return Fitting(str(number), "numeric")


def _uuid(text: str, _kind: Kind) -> Fitting | None:
    try:
        return Fitting(str(UUID(text)), "uuid")
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    try:
        read = datetime.fromisoformat(text.strip())
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


_READ: Mapping[Kind, Callable[[str, Kind], Fitting | None]] = {
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
    "uuid": _uuid,
    **dict.fromkeys(TIMES, _time),
}


def storable(column: Column, value: object) -> str | None:
    """Return the text that is stored for ``value`` in ``column``.

    Raises:
        ValueInvalidError: the column is none for it.
    """
    if isinstance(value, bytes) and kind_of(column) != "bytes":
        raise ValueInvalidError(what=column.name, value="(bytes)", reason=f"it holds {column.type.lower()}")
    return stored(value)
