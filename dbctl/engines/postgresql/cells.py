"""What stands in a file becomes what a column of PostgreSQL takes: the text that the server itself reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import NoReturn
from uuid import UUID

import msgspec

from dbctl.engines.base import Column
from dbctl.engines.postgresql.columns import FALSE, TRUE, Kind, kind_of
from dbctl.engines.postgresql.parameters import array, stored
from dbctl.errors import ValueInvalidError

#: Whole numbers that a column of each type holds, as a power of two.
BITS = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}
WIDTH = re.compile(r"(?:CHARACTER VARYING|CHARACTER)\((\d+)\)")
#: Times that PostgreSQL writes and Python does not read.
_FAR = re.compile(r"-?infinity|\d{5,}-.*|.* BC", re.DOTALL)
_LONGEST_SHOWN = 40

Read = Callable[[str], object]


def of_csv(column: Column) -> Callable[[str, bool], object]:
    """Return what reads a cell of a CSV file; the column's type tells all that is to be known."""
    read = _reader(column)
    return lambda text, _bare: read(text)


def of_json(column: Column) -> Callable[[object], object]:
    """Return what reads a value of a file of JSON lines; what is no text is one in the spelling of the server."""
    read, kind = _reader(column), kind_of(column)

    def take(value: object) -> object:
        if isinstance(value, str):
            return read(value)
        if isinstance(value, bytes):
            return value if kind == "bytes" else _refuse(column, "(bytes)", f"it holds {column.type.lower()}")
        if _is_json(column):
            return _as_json(value)
        return read(_spelt(column, value))

    return take


def _spelt(column: Column, value: object) -> str:  # noqa: RET503 - the last line does not return
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, list) and column.type.endswith("[]"):
        return array([_element(one) for one in value])
    _refuse(column, "(a list or an object)", f"it holds {column.type.lower()}")


def _element(value: object) -> object:
    if isinstance(value, list):
        return [_element(one) for one in value]
    return _as_json(value) if isinstance(value, dict) else value


def _as_json(value: object) -> str:
    return msgspec.json.Encoder(decimal_format="number").encode(value).decode()


def _is_json(column: Column) -> bool:
    return column.type in ("JSON", "JSONB")


def _reader(column: Column) -> Read:
    make = _READERS.get(kind_of(column))
    if make is not None:
        return make(column)
    return _document(column) if _is_json(column) else _text(column)


def _refuse(column: Column, value: str, reason: str) -> NoReturn:
    shown = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
    raise ValueInvalidError(what=column.name, value=ascii(shown), reason=reason)


def _text(column: Column) -> Read:
    found = WIDTH.fullmatch(column.type)
    most = int(found[1]) if found else None

    def read(text: str) -> object:
        if not text.isascii() or "\0" in text:
            stored(text)
        if most is not None and len(text.rstrip(" ")) > most:
            _refuse(column, text, f"it has {len(text)} characters, and {most} are kept")
        return text

    return read


def _integer(column: Column) -> Read:
    largest = 1 << BITS.get(column.type, 63)

    def read(text: str) -> object:
        try:
            whole = int(text) if "_" not in text else None
        except ValueError:
            whole = None
        if whole is None:
            _refuse(column, text, "it is no whole number")
        if not -largest <= whole < largest:
            _refuse(column, text, f"it is larger than {column.type.lower()} holds")
        return text

    return read


def _number(column: Column) -> Read:
    def read(text: str) -> object:
        try:
            Decimal(text)
        except InvalidOperation:
            _refuse(column, text, "it is no number")
        return text

    return read


def _boolean(column: Column) -> Read:
    def read(text: str) -> object:
        if text.strip().lower() not in TRUE | FALSE:
            _refuse(column, text, "it is neither true nor false")
        return text

    return read


def _uuid(column: Column) -> Read:
    def read(text: str) -> object:
        try:
            UUID(text)
        except ValueError:
            _refuse(column, text, "it is no UUID")
        return text

    return read


def _label(column: Column) -> Read:
    labels = frozenset(column.values)

    def read(text: str) -> object:
        if text not in labels:
            _refuse(column, text, f"it is none of {', '.join(column.values)}")
        return text

    return read


def _time(column: Column) -> Read:
    def read(text: str) -> object:
        try:
            datetime.fromisoformat(text.strip())
        except ValueError:
            if not _FAR.fullmatch(text.strip()):
                _refuse(column, text, "it is not written like 2026-01-31 or 2026-01-31T12:00:00Z")
        return text

    return read


def _bytes(column: Column) -> Read:
    def read(text: str) -> object:
        try:
            return bytes.fromhex(text[2:] if text.startswith("\\x") else "?")
        except ValueError:
            _refuse(column, text, "it is not \\x and two hexadecimal digits for each byte")

    return read


def _document(column: Column) -> Read:
    def read(text: str) -> object:
        stored(text)
        try:
            json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            _refuse(column, text, "it is no JSON")
        return text

    return read


def _no_constant(_word: str) -> NoReturn:
    raise ValueError


_READERS: Mapping[Kind, Callable[[Column], Read]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "uuid": _uuid,
    "enum": _label,
    "timestamptz": _time,
    "timestamp": _time,
    "date": _time,
    "bytes": _bytes,
}
