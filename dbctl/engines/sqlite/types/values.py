"""What SQLite keeps of a value that stands in a file, or in a person's words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal

from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError

#: What SQLite makes of a declared type: the first word that is found in it counts.
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
    """Text that is not valid UTF-8, by its bytes; SQLite keeps it, and the driver can only give it as bytes."""


def affinity(declared: str) -> str:
    """Return the affinity of a declared type, by the rules of SQLite's own documentation, in their order."""
    for found, words in AFFINITIES.items():
        if any(word in declared.upper() for word in words):
            return found
    return "NUMERIC" if declared else "BLOB"


def of_csv(column: str, declared: str) -> Callable[[str, bool], object]:
    """Return what reads a cell of CSV for a column of a declared type; told whether it stood without quotes."""
    kind = affinity(declared)

    def read(text: str, bare: bool) -> object:  # noqa: FBT001 - called for every cell
        if bare and text.startswith("\\x"):
            return _bytes(column, text)
        if bare and kind != "TEXT":
            return _number(text)
        return _text_of_bytes(column, text)

    return read


def of_json(column: str) -> Callable[[object], object]:
    """Return what reads a value of JSON for a column."""

    def read(value: object) -> object:
        if isinstance(value, str):
            return _text(column, value)
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
            raise ValueInvalidError(what=column, value=str(value)[:40], reason="it has more than 64 bits")
        if isinstance(value, Decimal):
            return float(value)
        if isinstance(value, list | dict):
            raise ValueInvalidError(what=column, value="(a list)", reason="write JSON as a text")
        return value

    return read


def given(value: object) -> object:
    """Return a parameter of a person's question: the number that a text writes, else what it is."""
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> object:
    if _WHOLE.fullmatch(text) and text != "-0":
        whole = int(text)
        return whole if _SMALLEST <= whole <= _LARGEST else text
    if _FRACTION.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) or text.endswith("Infinity") else text
    return text


def _bytes(column: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        reason = "behind \\x stand two hexadecimal digits for each byte; quotes around it make it a text"
        raise ValueInvalidError(what=column, value=ascii(text[:40]), reason=reason) from None


def _text_of_bytes(column: str, text: str) -> str | RawText:
    """Return a text as it is, or by its bytes where a file had some that are not UTF-8."""
    if text.isascii() or is_storable(text.replace("\0", "")):
        return text
    try:
        return RawText(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return _text(column, text)


def _text(column: str, text: str) -> str:
    if not (text.isascii() or is_storable(text.replace("\0", ""))):
        raise ValueInvalidError(what=column, value=ascii(text[:40]), reason="it is not valid UTF-8")
    return text
