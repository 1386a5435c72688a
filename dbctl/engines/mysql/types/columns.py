"""What the catalogue tells of a column, beyond what every engine tells, and which values it can hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias
from uuid import UUID

from dbctl.engines.contract import Column, Table
from dbctl.engines.mysql.types.values import stored
from dbctl.errors import ValueInvalidError

#: How values of a type compare. ``other``: only as their text, which never fails.
Kind: TypeAlias = Literal["text", "integer", "number", "uuid", "enum", "time", "date", "bytes", "other"]
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(["char", "varchar", "tinytext", "text", "mediumtext", "longtext"], "text"),
    **dict.fromkeys(["tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit"], "integer"),
    **dict.fromkeys(["decimal", "float", "double"], "number"),
    **dict.fromkeys(["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"], "bytes"),
    **dict.fromkeys(["datetime", "timestamp"], "time"),
    "date": "date",
    "uuid": "uuid",
    "enum": "enum",
}
TIMES = frozenset[Kind]({"time", "date"})
NATIVE: Mapping[Kind, str] = {"uuid": "uuid", "enum": "enum", "time": "time", "date": "time"}
#: Whole numbers that columns of a kind hold are smaller than that.
LARGEST_OF: Mapping[Kind, int] = {"integer": 1 << 64, "number": 10**65}
#: The character sets that hold every text.
WIDE = frozenset({"utf8mb4", "utf16", "utf32"})

_LABELS = re.compile(r"'(?:[^']|'')*'|[^']+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANING = {"0": "\0", "n": "\n", "r": "\r"}
TRUE, FALSE = frozenset({"t", "true", "y", "yes", "on"}), frozenset({"f", "false", "n", "no", "off"})


class MySQLColumn(Column, frozen=True, kw_only=True):
    """One column of a live table, with what tells how its values compare."""

    kind: Kind
    charset: str = ""
    collation: str = ""
    counts: bool = False  #: the server numbers new rows by it


class MySQLTable(Table, frozen=True, kw_only=True):
    """One live table, with what keeps its rows."""

    keeper: str = ""  #: InnoDB, MyISAM…; empty for a view
    transactional: bool = True


def declared(told: str) -> str:
    """Return a type as the catalogue tells it in upper case, but for the labels of an enum."""
    return _LABELS.sub(lambda found: found[0] if found[0].startswith("'") else found[0].upper(), told)


def labels(told: str) -> list[str]:
    """Return the labels of an enum; in what the catalogue tells a backslash escapes, whatever the session says."""
    found = [one[1:-1].replace("''", "'") for one in _LABELS.findall(told) if one.startswith("'")]
    return [_ESCAPED.sub(lambda seen: _MEANING.get(seen[1], seen[1]), one) for one in found]


def kind_of(column: Column) -> Kind:
    """Return how values of a column compare."""
    return column.kind if isinstance(column, MySQLColumn) else "other"


def charset_of(column: Column) -> str:
    """Return how the text of a column is encoded; empty where it is none."""
    return column.charset if isinstance(column, MySQLColumn) else ""


def fitting(column: Column, value: object) -> object:
    """Return ``value`` as ``column`` may hold it, or be compared with; None where it never can, so that no row has it.

    Raises:
        ValueInvalidError: no database keeps it at all.
    """
    kind = kind_of(column)
    if isinstance(value, bytes) or kind == "bytes":
        return value if isinstance(value, bytes) and kind == "bytes" else None
    if isinstance(value, int) and abs(value) < LARGEST_OF.get(kind, 0):
        return Decimal(value)
    text = stored(value)
    return None if text is None else _READ.get(kind, _as_text)(text, column)


def moment_of(text: str) -> datetime | None:
    """Return the moment that ISO 8601 text tells; UTC where it names no zone."""
    try:
        read = datetime.fromisoformat(text.strip())
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _as_text(text: str, _column: Column) -> str:
    return text


def _label(text: str, column: Column) -> str | None:
    return text if text in column.values else None


def _time(text: str, _column: Column) -> datetime | None:
    return moment_of(text)


def _number(text: str, column: Column) -> Decimal | None:
    word = text.strip().lower()
    if word in TRUE | FALSE and kind_of(column) == "integer":
        return Decimal(word in TRUE)
    try:
        number = Decimal(text) if text.isascii() else Decimal("NaN")
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > 300:  # noqa: PLR2004 - digits; more are no number of anybody's
        return None
    return number


def _uuid(text: str, _column: Column) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


_READ: Mapping[Kind, Callable[[str, Column], object]] = {
    "integer": _number,
    "number": _number,
    "uuid": _uuid,
    "enum": _label,
    **dict.fromkeys(TIMES, _time),
}


def storable(column: Column, value: object) -> object:
    """Return ``value`` as it goes into a statement that stores it in ``column``.

    Raises:
        ValueInvalidError: the column is none for it.
    """
    kind = kind_of(column)
    if isinstance(value, bytes) and kind not in ("bytes", "other"):
        raise ValueInvalidError(what=column.name, value="(bytes)", reason=f"it holds {column.type.lower()}")
    if isinstance(value, str) and kind in TIMES and (moment := moment_of(value)):
        return moment  # the server reads no zone, or drops it
    return value
