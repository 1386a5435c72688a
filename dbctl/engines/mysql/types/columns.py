"""Column types of MySQL and MariaDB: how values compare, and which values a column can store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias
from uuid import UUID

from dbctl.engines.contract.database import Column, Table
from dbctl.engines.mysql.types.values import encode_value
from dbctl.engines.servers.values import parse_time
from dbctl.errors.usage import ValueInvalidError

#: How values of a type compare. ``other``: by their text, which never fails.
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
#: Upper limits of whole numbers in columns of a kind.
LIMITS: Mapping[Kind, int] = {"integer": 1 << 64, "number": 10**65}
#: The character sets that can store every text.
UNICODE_CHARSETS = frozenset({"utf8mb4", "utf16", "utf32"})

_LABELS = re.compile(r"'(?:[^']|'')*'|[^']+")
_SHAPE = re.compile(r"(?:MULTI)?(?:POINT|LINESTRING|POLYGON)|GEOM(?:ETRY)?COLLECTION|GEOMETRY")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANING = {"0": "\0", "n": "\n", "r": "\r"}
TRUE, FALSE = frozenset({"t", "true", "y", "yes", "on"}), frozenset({"f", "false", "n", "no", "off"})


class MySQLColumn(Column, frozen=True, kw_only=True):
    """A column of a live table, with the properties that determine how its values compare."""

    kind: Kind
    charset: str = ""
    collation: str = ""
    auto_increment: bool = False  #: AUTO_INCREMENT


class MySQLTable(Table, frozen=True, kw_only=True):
    storage_engine: str = ""  #: InnoDB, MyISAM…; empty for a view
    transactional: bool = True


def normalize_type(declared: str) -> str:
    """Return a type of the catalog in upper case, except for the labels of an enum."""
    return _LABELS.sub(lambda match: match[0] if match[0].startswith("'") else match[0].upper(), declared)


def parse_labels(declared: str) -> list[str]:
    """Return the labels of an enum; in the catalog a backslash escapes, in every mode of the session."""
    texts = [text[1:-1].replace("''", "'") for text in _LABELS.findall(declared) if text.startswith("'")]
    return [_ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), text) for text in texts]


def kind_of(column: Column) -> Kind:
    """Return how values of a column compare."""
    return column.kind if isinstance(column, MySQLColumn) else "other"


def is_binary(column: Column) -> bool:
    """Whether values arrive as bytes: also points and other shapes."""
    return kind_of(column) == "bytes" or bool(_SHAPE.fullmatch(column.type))


def charset_of(column: Column) -> str:
    """Return the character set of a column; empty if it stores no text."""
    return column.charset if isinstance(column, MySQLColumn) else ""


def comparable_value(column: Column, value: object) -> object:
    """Return ``value`` for a comparison with ``column``; None if no row can have it.

    Raises:
        ValueInvalidError: no database can store it.
    """
    kind = kind_of(column)
    if isinstance(value, str) and kind == "bytes":  # some apps store all text as bytes
        return value.encode(errors="surrogatepass")
    if isinstance(value, bytes) or kind == "bytes":
        return value if isinstance(value, bytes) and kind == "bytes" else None
    if isinstance(value, int) and abs(value) < LIMITS.get(kind, 0):
        return Decimal(value)
    text = encode_value(value)
    return None if text is None else _COMPARE.get(kind, _compare_text)(text, column)


def _compare_text(text: str, _column: Column) -> str:
    return text


def _compare_label(text: str, column: Column) -> str | None:
    return text if text in column.labels else None


def _compare_time(text: str, _column: Column) -> datetime | None:
    return parse_time(text)


def _compare_number(text: str, column: Column) -> Decimal | None:
    word = text.strip().lower()
    if word in TRUE | FALSE and kind_of(column) == "integer":
        return Decimal(word in TRUE)
    try:
        number = Decimal(text) if text.isascii() else Decimal("NaN")
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > 300:  # noqa: PLR2004 - digits; real numbers have fewer
        return None
    return number


def _compare_uuid(text: str, _column: Column) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


_COMPARE: Mapping[Kind, Callable[[str, Column], object]] = {
    "integer": _compare_number,
    "number": _compare_number,
    "uuid": _compare_uuid,
    "enum": _compare_label,
    **dict.fromkeys(TIMES, _compare_time),
}


def encode_for_column(column: Column, value: object) -> object:
    """Return ``value`` for a statement that stores it in ``column``.

    Raises:
        ValueInvalidError: the column cannot store such a value.
    """
    kind = kind_of(column)
    if isinstance(value, bytes) and kind not in ("bytes", "other"):
        raise ValueInvalidError(
            name=column.name, value="(bytes)", reason=f"the column has type {column.type.lower()}"
        )
    if isinstance(value, str) and kind in TIMES and (timestamp := parse_time(value)):
        return timestamp  # the server rejects a zone, or drops it
    return value
