"""Column types of PostgreSQL: how values compare, and which values a column can store."""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

from dbctl.engines.contract.database import Column
from dbctl.engines.postgresql.types.values import encode_value
from dbctl.engines.servers.values import LARGEST, SMALLEST, parse_time
from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.usage import ValueInvalidError

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
#: The type to which a parameter is cast, so that a value out of range compares instead of failing.
CASTS: Mapping[Kind, str] = {
    "text": "text",
    "integer": "int8",
    "number": "numeric",
    "boolean": "bool",
    "uuid": "uuid",
}

TRUE: frozenset[str] = frozenset({"t", "true", "y", "yes", "on", "1"})
FALSE: frozenset[str] = frozenset({"f", "false", "n", "no", "off", "0"})
_EXTREME_TIME = re.compile(
    r"(?P<infinity>-?infinity)|(?P<year>\d{4,6})-(?P<day>\d\d-\d\d)"
    r"(?P<clock> \d\d:\d\d:\d\d(?:\.\d{1,6})?(?:\+00)?)?(?P<era> BC)?",
    re.ASCII,
)
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,40}\s*", re.ASCII)


class PostgreSQLColumn(Column, frozen=True, kw_only=True):
    """A column of a live table, with its type from the catalog."""

    kind: Kind
    base: str  #: the type without length and domain, quoted for a cast


class ComparableValue(NamedTuple):
    """A value in the form that a column can store, or that can at least be compared with it."""

    text: str
    type: str


def kind_of(column: Column) -> Kind:
    """Return how values of a column compare."""
    return column.kind if isinstance(column, PostgreSQLColumn) else "other"


def base_type(column: Column) -> str:
    """Return the type of a column for a cast that truncates nothing; the length is checked afterwards."""
    return column.base if isinstance(column, PostgreSQLColumn) else column.type


def comparable_value(column: Column, value: object) -> ComparableValue | None:
    """Return ``value`` for a comparison with ``column``; None if no row can have it.

    Raises:
        ValueInvalidError: no database can store it.
    """
    if isinstance(value, str) and "\0" in value and is_storable(value.replace("\0", "")):
        return None
    text, kind = encode_value(value), kind_of(column)
    if text is None:
        return None
    if isinstance(value, bytes) != (kind == "bytes"):
        return None
    if kind == "enum" and isinstance(column, PostgreSQLColumn):
        return ComparableValue(text, column.base) if text in column.labels else None
    return _COMPARE.get(kind, _compare_text)(text, kind)


def _compare_text(text: str, kind: Kind) -> ComparableValue:
    return ComparableValue(text, "bytea" if kind == "bytes" else "text")


def _compare_boolean(text: str, _kind: Kind) -> ComparableValue | None:
    word = text.strip().lower()
    return ComparableValue(word, "bool") if word in TRUE | FALSE else None


def _compare_time(text: str, kind: Kind) -> ComparableValue | None:
    timestamp = parse_time(text)
    if timestamp is not None:
        return ComparableValue(encode_value(timestamp) or "", kind)
    return ComparableValue(text, kind) if is_extreme_time(text) else None


def is_extreme_time(text: str) -> bool:
    """Whether a text is a time as the server writes it that Python cannot represent: infinite, or far from our era."""
    match = _EXTREME_TIME.fullmatch(text)
    if match is None or match["infinity"]:
        return match is not None
    year = 1 - int(match["year"]) if match["era"] else int(match["year"])
    if not -4711 <= year <= 294_275:  # noqa: PLR2004 - years of a timestamp; a date has more
        return False
    try:
        datetime.fromisoformat(f"{2000 if isleap(year) else 2001}-{match['day']}{match['clock'] or ''}")
    except ValueError:
        return False
    return True


def _compare_number(text: str, kind: Kind) -> ComparableValue | None:
    if kind == "integer" and _INTEGER.fullmatch(text) and SMALLEST <= int(text) <= LARGEST:
        return ComparableValue(str(int(text)), "int8")
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if number.is_nan():
        return ComparableValue("NaN", "numeric") if kind == "number" else None
    if abs(number.adjusted()) > 1000:  # noqa: PLR2004 - digits; real numbers have fewer
        return None
    if kind == "integer" and number == number.to_integral_value() and SMALLEST <= number <= LARGEST:
        return ComparableValue(str(int(number)), "int8")
    return ComparableValue(str(number), "numeric")


def _compare_uuid(text: str, _kind: Kind) -> ComparableValue | None:
    try:
        return ComparableValue(str(UUID(text)), "uuid")
    except ValueError:
        return None


_COMPARE: Mapping[Kind, Callable[[str, Kind], ComparableValue | None]] = {
    "integer": _compare_number,
    "number": _compare_number,
    "boolean": _compare_boolean,
    "uuid": _compare_uuid,
    **dict.fromkeys(TIMES, _compare_time),
}


def encode_for_column(column: Column, value: object) -> str | None:
    """Return the text to store for ``value`` in ``column``.

    Raises:
        ValueInvalidError: the column cannot store such a value.
    """
    if isinstance(value, bytes) and kind_of(column) != "bytes":
        raise ValueInvalidError(
            name=column.name, value="(bytes)", reason=f"the column has type {column.type.lower()}"
        )
    return encode_value(value)
