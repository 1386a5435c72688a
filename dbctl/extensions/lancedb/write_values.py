"""Convert rows of the contract to Arrow batches, and values to expressions for updates."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, time
from decimal import Decimal, InvalidOperation
from itertools import chain, compress
from math import isinf
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import ShiftedTime
from dbctl.engines.sql.codec import INFINITE
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import NotSupportedError, ValueInvalidError
from dbctl.extensions.lancedb.rows import scale_to_milliseconds
from dbctl.extensions.lancedb.scalars import (
    parse_time,
    to_clock_number,
    to_duration_number,
    to_epoch_number,
    to_integer,
)
from dbctl.extensions.lancedb.values import (
    NUMBERS,
    Family,
    Row,
    decoded_type,
    is_list,
    is_map,
    is_struct,
    quote_name,
    quote_text,
    refuse_unstorable,
    to_python,
    to_rows,
    type_family,
    write_stored,
)
from dbctl.model import split_batches

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows per batch for the library.
BATCH_ROWS = 1000
#: The codes of ``struct`` of floats that are smaller than those of Python.
_FLOAT_CODES = {"float": "f", "halffloat": "e"}


class CheckedBatches:
    """Check of the rows to insert for duplicate keys, which the library would accept."""

    def __init__(
        self,
        table: str,
        key: Sequence[str],
        find_existing: Callable[[Sequence[Row]], Collection[Row]],
        target: str,
    ) -> None:
        """Prepare the check; ``find_existing`` returns those of some keys that the table contains."""
        self.keys, self.row_count = dict[Row, None](), 0  #: of the batches that were read
        self.error: BaseException | None = None  #: the original error, which the library replaces by its own
        self._table, self._key, self._find_existing, self._target = table, key, find_existing, target

    def check(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches.

        Raises:
            ConstraintError: a key exists already, or occurs twice.
        """
        try:
            for batch in batches:
                yield self._check(batch)
        except GeneratorExit:  # the library stopped reading
            raise
        except BaseException as error:
            self.error = error
            raise

    def _check(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keys = to_rows(batch, self._key) if self._key else []
        existing_keys = self._find_existing(keys) if keys else ()
        for number, row in enumerate(keys, self.row_count + 1):
            if row in self.keys or row in existing_keys:
                reason = f"duplicate {', '.join(self._key)} in {self._table}"
                raise ConstraintError(target=self._target, reason=reason, row=number)
            self.keys[row] = None
        self.row_count += batch.num_rows
        return batch


def to_batches(
    schema: pa.Schema, columns: Sequence[str], rows: Iterable[Sequence[object]], target: str
) -> Iterator[pa.RecordBatch]:
    """Yield rows as batches; columns that are not in ``columns`` are null.

    Raises:
        ValueInvalidError, ConstraintError: a column cannot store a value; the batch is not yielded.
    """
    for field in schema:
        if not field.nullable and field.name not in columns:
            raise ConstraintError(target=target, reason=f"{field.name} is required")
    row_offset = 0
    for chunk in split_batches(rows, BATCH_ROWS):
        try:
            yield _to_batch(schema, columns, chunk, target)
        except DbctlError:
            for number, row in enumerate(chunk, row_offset + 1):
                try:
                    _to_batch(schema, columns, [row], target)
                except DbctlError as error:
                    error.context["row"] = number
                    raise
            raise
        row_offset += len(chunk)


def _to_batch(
    schema: pa.Schema, columns: Sequence[str], chunk: Sequence[Sequence[object]], target: str
) -> pa.RecordBatch:
    import pyarrow as pa

    values = dict(zip(columns, zip(*chunk, strict=True), strict=True))
    arrays = [
        to_array(field, values[field.name], target)
        if field.name in values
        else pa.nulls(len(chunk), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def remove_nan(
    batches: Iterable[pa.RecordBatch], key: Sequence[str], removed: dict[Row, dict[str, object]], target: str
) -> Iterator[pa.RecordBatch]:
    """Yield batches without the vectors of a fixed size that have NaN; add these to ``removed``, by key.

    The library refuses to add them, but an update may set them. Without a key, they remain.
    """
    import pyarrow as pa

    for batch in batches:
        arrays = list(batch.columns)
        for index, field in enumerate(batch.schema) if key else ():
            if not _has_nan(arrays[index]):
                continue
            vectors = to_python(arrays[index])
            is_removed = ["NaN" in str(vector) for vector in vectors]
            for row, vector in compress(zip(to_rows(batch, key), vectors, strict=True), is_removed):
                removed.setdefault(row, {})[field.name] = vector
            blank = None if field.nullable else [0.0] * field.type.list_size
            new = [blank if has_nan else vector for vector, has_nan in zip(vectors, is_removed, strict=True)]
            arrays[index] = to_array(field, new, target)
        yield pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _has_nan(column: pa.Array) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_vector = pa.types.is_fixed_size_list(column.type) and type_family(column.type) == "vector"
    return is_vector and bool(pc.any(pc.is_nan(column.flatten())).as_py())


def to_array(field: pa.Field, values: Sequence[object], target: str) -> pa.Array:
    """Return the values of one column as an array."""
    import pyarrow as pa

    converted = [None if value is None else convert(field, value, target) for value in values]
    if not field.nullable and None in converted:
        raise ConstraintError(target=target, reason=f"{field.name} cannot be empty")
    try:
        return pa.array([_to_arrow(field.type, value) for value in converted], field.type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError, UnicodeError) as error:
        raise ConstraintError(target=target, reason=f"{field.name}: {error}") from error


def convert(field: pa.Field, value: object, target: str) -> object:
    """Return a value converted to the type of its column.

    Raises:
        ValueInvalidError, ConstraintError: the column cannot store it.
    """
    column_family = type_family(field.type)
    if column_family not in NUMBERS:
        refuse_unstorable(value)
    if column_family in {"vector", "nested"}:
        return _to_document(field, _parse_json(field, value) if isinstance(value, str) else value, target)
    converter = _CONVERTERS.get(column_family)
    converted = converter(value, decoded_type(field.type)) if converter else value
    if converted is None:
        raise _invalid_value(field, value)
    return converted


def _invalid_value(field: pa.Field, value: object) -> ValueInvalidError:
    reason = f"the column has type {field.type}"
    return ValueInvalidError(name=field.name, value=ascii(str(value)[:80]), reason=reason)


def _to_document(field: pa.Field, value: object, target: str) -> object:
    """Return a list, an object or a part of one, converted to the type of its column; raises as ``convert``."""
    arrow_type = field.type
    if is_struct(arrow_type) and isinstance(value, dict):
        if unknown := value.keys() - {child.name for child in arrow_type}:
            raise ConstraintError(target=target, reason=f"{field.name} has no {', '.join(sorted(unknown))}")
        return {child.name: _to_document(child, value.get(child.name), target) for child in arrow_type}
    if is_list(arrow_type) and isinstance(value, list | tuple | array):
        size = getattr(arrow_type, "list_size", len(value))
        if len(value) != size:
            raise ConstraintError(
                target=target, reason=f"{field.name} requires {size} values, not {len(value)}"
            )
        if type_family(arrow_type) == "vector":
            return _to_numbers(field, value)
        return [_to_document(arrow_type.value_field, item, target) for item in value]
    if is_map(arrow_type) and isinstance(value, list) and all(map(_is_pair, value)):
        parts = arrow_type.key_field, arrow_type.item_field
        return [tuple(map(_to_document, parts, pair, [target] * 2)) for pair in value]
    if value is None:
        return None
    if type_family(arrow_type) in {"vector", "nested"}:
        raise _invalid_value(field, value)
    if type_family(arrow_type) == "bytes" and isinstance(value, str):
        with suppress(ValueError):
            value = bytes.fromhex(value)
    return convert(field, value, target)


def _is_pair(item: object) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2  # noqa: PLR2004 - a key and its value


def _to_numbers(field: pa.Field, value: Collection[object]) -> list[float | None]:
    try:
        numbers = [None if item is None else float(item) for item in value]  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise _invalid_value(field, value) from None
    number_type = field.type.value_type
    infinite = (item for item, number in zip(value, numbers, strict=True) if isinf(number or 0))
    if _overflows(numbers, number_type) or any(_to_float(item, number_type) is None for item in infinite):
        raise _invalid_value(field, value)
    return numbers


def _to_arrow(arrow_type: pa.DataType, value: object) -> object:
    """Return a converted value with times in the unit of their column: the library converts no texts."""
    if isinstance(value, dict) and is_struct(arrow_type):
        return {child.name: _to_arrow(child.type, value[child.name]) for child in arrow_type}
    if isinstance(value, list) and is_list(arrow_type) and type_family(arrow_type) == "nested":
        return [_to_arrow(arrow_type.value_type, item) for item in value]
    if isinstance(value, list) and is_map(arrow_type):
        types = arrow_type.key_type, arrow_type.item_type
        return [tuple(map(_to_arrow, types, pair)) for pair in value]
    write = _NUMBER_WRITERS.get(str(arrow_type).partition("[")[0])
    if value is None or write is None or (write is to_epoch_number and isinstance(value, date)):
        return value
    return write(value, arrow_type)


def _to_text(value: object, _arrow_type: pa.DataType) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _to_boolean(value: object, _arrow_type: pa.DataType) -> object:
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _to_float(value: object, arrow_type: pa.DataType) -> object:
    try:
        number = float(value) if isinstance(value, int | float | Decimal | str) else None
    except ValueError:
        return None
    if number is None or _overflows([number], arrow_type):
        return None
    # ``float`` returns infinity for a number that has too large an exponent
    is_lost = isinf(number) and not isinstance(value, float) and abs(Decimal(value)) < INFINITE  # type: ignore[arg-type]
    return None if is_lost else number


def _overflows(numbers: Sequence[float | None], arrow_type: pa.DataType) -> bool:
    """Whether a number would become infinite in a column of 16 or 32 bits."""
    if code := _FLOAT_CODES.get(str(arrow_type)):
        try:
            struct.pack(f"<{len(numbers)}{code}", *(number or 0.0 for number in numbers))
        except OverflowError:
            return True
    return False


def _to_time(value: object, arrow_type: pa.DataType) -> object:
    if not isinstance(value, str | date):
        return value
    parsed = parse_time(value)
    if parsed is None:  # a year that a ``datetime`` cannot have, or no time
        return None if to_epoch_number(value, arrow_type) is None else value
    if isinstance(value, str):  # times of dbctl itself, such as now, may be more precise than a column
        has_unit = hasattr(arrow_type, "unit")
        if to_epoch_number(value, arrow_type) is None if has_unit else parsed[0].time() != time():
            return None
    return value if parsed[1] else parsed[0]


def _to_clock(value: object, arrow_type: pa.DataType) -> object:
    return None if to_clock_number(value, arrow_type) is None else str(value)


def _to_duration(value: object, arrow_type: pa.DataType) -> object:
    return None if to_duration_number(value, arrow_type) is None else Decimal(str(value))


def _to_bytes(value: object, _arrow_type: pa.DataType) -> object:
    return value if isinstance(value, bytes) else None


def _to_decimal(value: object, arrow_type: pa.DataType) -> object:
    import pyarrow as pa

    try:
        number = Decimal(value) if isinstance(value, int | str | Decimal) else None
        pa.scalar(number, arrow_type)  # fails for a number with more digits
    except (InvalidOperation, pa.ArrowException):
        return None
    return number


_CONVERTERS: dict[Family, Callable[[object, pa.DataType], object]] = {
    "text": _to_text,
    "boolean": _to_boolean,
    "integer": to_integer,
    "float": _to_float,
    "time": _to_time,
    "bytes": _to_bytes,
    "decimal": _to_decimal,
    "clock": _to_clock,
    "duration": _to_duration,
}


#: Columns of these types get numbers in their unit.
_NUMBER_WRITERS: Mapping[str, Callable[[object, pa.DataType], int | None]] = {
    "timestamp": to_epoch_number,
    "date32": to_epoch_number,
    "date64": to_epoch_number,
    "time32": to_clock_number,
    "time64": to_clock_number,
    "duration": to_duration_number,
}


def _parse_fraction(text: str) -> float | Decimal:
    """Return a number; a Decimal if ``float`` would return infinity, which ``_to_float`` refuses."""
    number = float(text)
    return Decimal(text) if isinf(number) else number


def _parse_json(field: pa.Field, text: str) -> object:
    # "-0" of a vector is a float with a sign
    parse_integer = float if type_family(field.type) == "vector" else int
    try:
        return json.loads(text, parse_int=parse_integer, parse_float=_parse_fraction)
    except (ValueError, RecursionError) as error:
        raise ValueInvalidError(
            name=field.name, value=ascii(text[:80]), reason=f"invalid JSON: {error}"
        ) from None


def set_expression(field: pa.Field, value: object, target: str) -> str:
    """Return the expression that sets a column to a value.

    Raises:
        ValueInvalidError, ConstraintError: the column cannot store it.
        NotSupportedError: the library has no literal for it.
    """
    arrow_type = field.type
    if isinstance(value, ShiftedTime):
        return _shift_time(arrow_type, value)
    if value is None:
        if not field.nullable:
            raise ConstraintError(target=target, reason=f"{field.name} cannot be empty")
        return "null"
    expression = _express(arrow_type, convert(field, value, target))
    if expression is None:
        raise NotSupportedError(
            feature=f"setting {field.name}, of type {arrow_type}",
            subject=target,
            hint="Delete the row and insert it again.",
        )
    return expression


def _express(arrow_type: pa.DataType, value: object) -> str | None:
    """Return a converted value as an expression, or None if the library has none for its type."""
    if value is None:
        # a list does not convert a null without a type to bytes
        return "nullif(x'00', x'00')" if type_family(arrow_type) == "bytes" else "null"
    if isinstance(value, dict) and is_struct(arrow_type):
        items = [_express(child.type, value[child.name]) for child in arrow_type]
        names = [quote_text(child.name) for child in arrow_type]
        return _call("named_struct", list(chain.from_iterable(zip(names, items, strict=True))))
    if isinstance(value, list) and is_list(arrow_type):
        # brackets accept neither NaN and infinities nor null next to numbers
        return _call("make_array", [_express(arrow_type.value_type, item) for item in value])
    if isinstance(value, list) and is_map(arrow_type):
        keys = [_express(arrow_type.key_type, key) for key, _ in value]
        items = [_express(arrow_type.item_type, item) for _, item in value]
        return _call("map", [_call("make_array", keys), _call("make_array", items)])
    return write_stored(value, arrow_type)


def _call(function: str, arguments: Sequence[str | None]) -> str | None:
    present = [argument for argument in arguments if argument is not None]
    return f"{function}({', '.join(present)})" if len(present) == len(arguments) else None


def _shift_time(arrow_type: pa.DataType, shift: ShiftedTime) -> str:
    offset_ms = round(shift.offset.total_seconds() * 1000)
    stored = scale_to_milliseconds(f"cast({quote_name(shift.column)} as double)")
    milliseconds = f"{stored} + {offset_ms}.0"
    if shift.form in ("epoch-ms", "epoch-s"):
        number = milliseconds if shift.form == "epoch-ms" else f"({milliseconds}) / 1000.0"
        return f"cast({number} as {_SQL_TYPES.get(str(arrow_type), 'double')})"
    raise NotSupportedError(
        feature="shifting times that are stored as text",
        subject="LanceDB",
        hint="Only times that are stored as numbers can be shifted.",
    )


_SQL_TYPES = {"int64": "bigint", "int32": "int", "float": "float"}
