"""Convert values of CSV and JSON files and of query parameters for SQLite."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal

from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError

#: Words in a declared type by the affinity that they select; the first match is used.
AFFINITIES = {
    "INTEGER": ("INT",),
    "TEXT": ("CHAR", "CLOB", "TEXT"),
    "BLOB": ("BLOB",),
    "REAL": ("REAL", "FLOA", "DOUB"),
}
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_FRACTION = re.compile(r"-?(?:[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|Infinity)", re.ASCII)
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1


class RawText(bytes):
    """The bytes of a text that is not valid UTF-8; SQLite stores it, but the driver can only pass it as bytes."""


def find_affinity(declared: str) -> str:
    """Return the affinity of a declared type by the documented rules of SQLite, in their order."""
    for name, words in AFFINITIES.items():
        if any(word in declared.upper() for word in words):
            return name
    return "NUMERIC" if declared else "BLOB"


def csv_parser(column: str, declared: str) -> Callable[[str, bool], object]:
    """Return a function that converts a CSV cell for a column; its second argument is whether the cell is unquoted."""
    kind = find_affinity(declared)

    def read(text: str, is_unquoted: bool) -> object:  # noqa: FBT001 - called for every cell
        if is_unquoted and text.startswith("\\x"):
            return _parse_bytes(column, text)
        value = _parse_number(text) if is_unquoted and kind != "TEXT" else text
        return _parse_text(column, value) if isinstance(value, str) else value

    return read


def json_parser(column: str) -> Callable[[object], object]:
    """Return a function that converts a JSON value for a column."""

    def read(value: object) -> object:
        if isinstance(value, str):
            return _require_utf8(column, value)
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
            raise ValueInvalidError(name=column, value=str(value)[:40], reason="it has more than 64 bits")
        if isinstance(value, Decimal):
            return float(value)
        if isinstance(value, list | dict):
            raise ValueInvalidError(name=column, value="(a list)", reason="write JSON as a text")
        return value

    return read


def parse_parameter(value: object) -> object:
    """Return a query parameter of a user: the number if the text is a number, otherwise the value itself."""
    return _parse_number(value) if isinstance(value, str) else value


def _parse_number(text: str) -> object:
    if _WHOLE.fullmatch(text) and text != "-0":
        integer = int(text)
        return integer if _SMALLEST <= integer <= _LARGEST else text
    if _FRACTION.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) or text.endswith("Infinity") else text
    return text


def _parse_bytes(column: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        reason = "\\x needs two hexadecimal digits per byte; quote the cell to make it a text"
        raise ValueInvalidError(name=column, value=ascii(text[:40]), reason=reason) from None


def _parse_text(column: str, text: str) -> str | RawText:
    """Return the text, or its bytes if the file contained bytes that are not UTF-8."""
    if text.isascii() or is_storable(text.replace("\0", "")):
        return text
    try:
        return RawText(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return _require_utf8(column, text)


def _require_utf8(column: str, text: str) -> str:
    if not (text.isascii() or is_storable(text.replace("\0", ""))):
        raise ValueInvalidError(name=column, value=ascii(text[:40]), reason="it is not valid UTF-8")
    return text
