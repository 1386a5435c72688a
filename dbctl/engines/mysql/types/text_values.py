"""Convert texts of a file to values of columns of MySQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial

from dbctl.engines.contract import Column
from dbctl.engines.mysql.types.columns import Kind, kind_of
from dbctl.engines.sql import text_values

#: Bits of a whole number, by the beginning of its type.
BITS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
_TYPE = re.compile(r"([A-Z]+)(?:\((\d+)\))?")
#: Times that a server may hold and Python does not read.
NONE = re.compile(r"\d{4}-(?:0\d|1[0-2])-(?:[0-2]\d|3[01])(?:[ T].*)?")


def of_csv(column: Column) -> Callable[[str, bool], object]:
    """Return what reads a cell of a CSV file; the type of the column suffices."""
    read = _reader(column)
    return lambda text, _bare: read(text)


def of_json(column: Column) -> Callable[[object], object]:
    """Return what reads a value of a file of JSON lines."""
    takes_bytes = kind_of(column) in ("bytes", "other")
    return text_values.of_json(
        column, _reader(column), takes_bytes=takes_bytes, spell=partial(_spelt, column)
    )


def _spelt(column: Column, value: object) -> str | None:
    if isinstance(value, list | dict):
        return text_values.as_json(value) if kind_of(column) in ("text", "other") else None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _reader(column: Column) -> text_values.Read:
    if column.type == "JSON":
        return text_values.document(column)
    make = _READERS.get(kind_of(column))
    return _other(column) if make is None else make(column)


def _integer(column: Column) -> text_values.Read:
    match = _TYPE.match(column.type)
    name, width = (match[1], match[2]) if match else ("", None)
    if name == "BIT":
        return _as_number(text_values.integer(column, 0, (1 << int(width or 1)) - 1), int)
    bits = BITS.get(name, 64)
    if "UNSIGNED" in column.type:
        return _as_number(text_values.integer(column, 0, (1 << bits) - 1), Decimal)
    return _as_number(text_values.integer(column, -(1 << (bits - 1)), (1 << (bits - 1)) - 1), int)


def _number(column: Column) -> text_values.Read:
    return _as_number(text_values.number(column, finite=True), Decimal)


def _as_number(read: text_values.Read, kind: Callable[[str], object]) -> text_values.Read:
    """Return what gives a number on as one: a text would be read as one of less digits."""
    return lambda text: kind(str(read(text)).strip())


def _other(column: Column) -> text_values.Read:
    plain, raw = text_values.text(column, nul=True), text_values.raw(column)
    # points and the like come as bytes
    return lambda text: raw(text) if text.startswith("\\x") else plain(text)


_READERS: Mapping[Kind, Callable[[Column], text_values.Read]] = {
    "text": partial(text_values.text, nul=True),
    "integer": _integer,
    "number": _number,
    "uuid": text_values.uuid,
    "enum": text_values.label,
    "time": partial(text_values.time, further=NONE),
    "date": partial(text_values.time, further=NONE),
    "bytes": text_values.raw,
}
