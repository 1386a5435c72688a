"""Rows of the contract on their way into a table: each value as the type of its column, or refused."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

from dbctl.engines.contract import Later
from dbctl.engines.lancedb.query import SECONDS
from dbctl.engines.lancedb.values import Family, family, ident, literal, refuse
from dbctl.errors import ConstraintError, DbctlError, NotSupportedError, ValueInvalidError

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that are handed to the library together.
BATCH = 1000


class Counted:
    """Rows that are counted as they are taken."""

    def __init__(self, rows: Iterable[Sequence[object]]) -> None:
        self._rows, self.number = iter(rows), 0

    def __iter__(self) -> Iterator[Sequence[object]]:
        for row in self._rows:
            self.number += 1
            yield row


class Kept:
    """What is handed to the library, which gives every failure on the way as one of its own; the true one is kept."""

    def __init__(self, waiting: Iterator[pa.RecordBatch]) -> None:
        self._waiting = waiting
        self.failed: BaseException | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        try:
            return next(self._waiting)
        except StopIteration:
            raise
        except BaseException as error:
            self.failed = error
            raise


def batches(
    schema: pa.Schema, columns: Sequence[str], rows: Iterable[Sequence[object]], target: str
) -> Iterator[pa.RecordBatch]:
    """Yield rows as the library takes them; columns that are not named hold nothing.

    Raises:
        ValueInvalidError, ConstraintError: a column cannot hold a value; the library has not got the row.
    """
    for field in schema:
        if not field.nullable and field.name not in columns:
            raise ConstraintError(target=target, reason=f"{field.name} has to be given")
    waiting, before = iter(rows), 0
    while some := list(islice(waiting, BATCH)):
        try:
            yield _batch(schema, columns, some, target)
        except DbctlError:
            for number, row in enumerate(some, before + 1):
                try:
                    _batch(schema, columns, [row], target)
                except DbctlError as error:
                    error.facts["row"] = number
                    raise
            raise
        before += len(some)


def _batch(
    schema: pa.Schema, columns: Sequence[str], some: Sequence[Sequence[object]], target: str
) -> pa.RecordBatch:
    import pyarrow as pa

    told = dict(zip(columns, zip(*some, strict=True), strict=True))
    arrays = [
        column(field, told[field.name], target) if field.name in told else pa.nulls(len(some), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def column(field: pa.Field, values: Sequence[object], target: str) -> pa.Array:
    """Return the values of one column."""
    import pyarrow as pa

    told = [None if value is None else typed(field, value, target) for value in values]
    if not field.nullable and None in told:
        raise ConstraintError(target=target, reason=f"{field.name} has to hold something")
    try:
        return pa.array(told, field.type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError, UnicodeError) as error:
        raise ConstraintError(target=target, reason=f"{field.name}: {error}") from error


def typed(field: pa.Field, value: object, target: str) -> object:
    """Return a value as the column holds it.

    Raises:
        ValueInvalidError, ConstraintError: it cannot.
    """
    refuse(value)
    kind = family(field.type)
    if kind == "vector":
        return _vector(field, value, target)
    if kind == "nested":
        return _read(field, value) if isinstance(value, str) else value
    take = _TAKEN.get(kind)
    told = take(value, field.type) if take else value
    if told is None:
        raise ValueInvalidError(
            what=field.name, value=ascii(str(value)[:80]), reason=f"the column is of type {field.type}"
        )
    return told


def _text(value: object, _kind: pa.DataType) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _boolean(value: object, _kind: pa.DataType) -> object:
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _whole(value: object, kind: pa.DataType) -> object:
    return None if literal(value, kind) is None else int(Decimal(str(value)))


def _fraction(value: object, _kind: pa.DataType) -> object:
    try:
        return float(value) if isinstance(value, int | float | Decimal | str) else None
    except ValueError:
        return None


def _time(value: object, kind: pa.DataType) -> object:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if isinstance(moment, datetime) and moment.tzinfo and getattr(kind, "tz", None) is None:
        return moment.astimezone(UTC).replace(tzinfo=None)
    return moment


def _bytes(value: object, _kind: pa.DataType) -> object:
    return value if isinstance(value, bytes) else None


_TAKEN: dict[Family, Callable[[object, pa.DataType], object]] = {
    "text": _text,
    "boolean": _boolean,
    "whole": _whole,
    "fraction": _fraction,
    "time": _time,
    "bytes": _bytes,
}


def _vector(field: pa.Field, value: object, target: str) -> list[float]:
    told = _read(field, value) if isinstance(value, str) else value
    if not isinstance(told, list | tuple | array):
        raise ValueInvalidError(what=field.name, value="given", reason="it is no list of numbers")
    size = getattr(field.type, "list_size", -1)
    if size >= 0 and len(told) != size:
        raise ConstraintError(target=target, reason=f"{field.name} takes {size} numbers, not {len(told)}")
    numbers = [float(one) for one in told]
    if any(map(math.isnan, numbers)):
        raise ConstraintError(target=target, reason=f"{field.name} takes no NaN")
    return numbers


def _read(field: pa.Field, text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueInvalidError(
            what=field.name, value=ascii(text[:80]), reason=f"it is no JSON: {error}"
        ) from None


def reader(schema: pa.Schema, waiting: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
    """Return batches as the library reads them."""
    import pyarrow as pa

    return pa.RecordBatchReader.from_batches(schema, waiting)


def expression(field: pa.Field, value: object, target: str) -> str:
    """Return what a column is set to.

    Raises:
        ValueInvalidError, ConstraintError: it cannot hold that.
        NotSupportedError: the library has no word for it.
    """
    kind = field.type
    if isinstance(value, Later):
        return _later(kind, value)
    if value is None:
        if not field.nullable:
            raise ConstraintError(target=target, reason=f"{field.name} has to hold something")
        return "null"
    held = typed(field, value, target)
    if family(kind) == "vector":
        return "[" + ", ".join(repr(one) for one in _vector(field, value, target)) + "]"
    told = literal(held, kind)
    if told is None:
        raise NotSupportedError(
            what=f"setting {field.name}, of type {kind}", by=target, instead="Insert the row anew."
        )
    return told


def _later(kind: pa.DataType, later: Later) -> str:
    by = round(later.by.total_seconds() * 1000)
    number = f"cast({ident(later.column)} as double)"
    milliseconds = f"{number} * (1.0 + 999.0 * cast(abs({number}) < {SECONDS}.0 as double)) + {by}.0"
    if later.form == "epoch-ms":
        return f"cast({milliseconds} as {_NUMBERS.get(str(kind), 'double')})"
    if later.form == "epoch-s":
        return f"cast(({milliseconds}) / 1000.0 as {_NUMBERS.get(str(kind), 'double')})"
    raise NotSupportedError(
        what="a time that is moved on and kept as text", by="LanceDB", instead="It keeps times as numbers."
    )


_NUMBERS = {"int64": "bigint", "int32": "int", "float": "float"}
