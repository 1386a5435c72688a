"""Convert texts of a file to values of columns of PostgreSQL: the text that the server itself reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial

from dbctl.engines.contract import Column
from dbctl.engines.postgresql.types.columns import FALSE, TRUE, Kind, kind_of
from dbctl.engines.postgresql.types.values import array
from dbctl.engines.sql import text_values

#: Whole numbers that a column of each type holds, as a power of two.
BITS = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}
#: Times that PostgreSQL writes and Python does not read.
FAR = re.compile(r"-?infinity|\d{5,}-.*|.* BC", re.DOTALL)


def of_csv(column: Column) -> Callable[[str, bool], object]:
    """Return what reads a cell of a CSV file; the type of the column suffices."""
    read = _reader(column)
    return lambda text, _bare: read(text)


def of_json(column: Column) -> Callable[[object], object]:
    """Return what reads a value of a file of JSON lines."""
    takes_bytes = kind_of(column) == "bytes"
    return text_values.of_json(
        column, _reader(column), takes_bytes=takes_bytes, spell=partial(_spelt, column)
    )


def _spelt(column: Column, value: object) -> str | None:
    if _is_json(column):
        return text_values.as_json(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, list) and column.type.endswith("[]"):
        return array([_element(item) for item in value])
    return None


def _element(value: object) -> object:
    if isinstance(value, list):
        return [_element(item) for item in value]
    return text_values.as_json(value) if isinstance(value, dict) else value


def _is_json(column: Column) -> bool:
    return column.type in ("JSON", "JSONB")


def _reader(column: Column) -> text_values.Read:
    make = _READERS.get(kind_of(column))
    if make is not None:
        return make(column)
    return text_values.document(column) if _is_json(column) else text_values.text(column)


def _integer(column: Column) -> text_values.Read:
    end = 1 << BITS.get(column.type, 63)
    return text_values.integer(column, -end, end - 1)


_READERS: Mapping[Kind, Callable[[Column], text_values.Read]] = {
    "integer": _integer,
    "number": partial(text_values.number, finite=False),
    "boolean": partial(text_values.word, words=TRUE | FALSE),
    "uuid": text_values.uuid,
    "enum": text_values.label,
    "timestamptz": partial(text_values.time, further=FAR),
    "timestamp": partial(text_values.time, further=FAR),
    "date": partial(text_values.time, further=FAR),
    "bytes": text_values.raw,
}
