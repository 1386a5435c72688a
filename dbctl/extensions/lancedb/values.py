"""Convert Arrow values to rows of the contract, with lists and objects as JSON text; write literals of the library."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from dbctl.engines.sql.catalog import is_storable, quote_literal
from dbctl.errors.usage import NotSupportedError, ValueInvalidError
from dbctl.extensions.lancedb.scalars import (
    INT64,
    parse_number,
    parse_time,
    read_clock_times,
    read_durations,
    read_times,
    to_clock_number,
    to_duration_number,
    to_epoch_number,
    to_integer,
)

if TYPE_CHECKING:
    import pyarrow as pa


Row = tuple[object, ...]

#: Rows per batch, with vectors.
VECTOR_BATCH_ROWS = 1024


def to_rows(batch: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> list[Row]:
    """Return rows with these columns in this order; columns may repeat."""
    column_values = {name: to_python(batch.column(name)) for name in dict.fromkeys(columns)}
    return (
        list(zip(*(column_values[name] for name in columns), strict=True))
        if columns
        else [()] * batch.num_rows
    )


def to_python(column: pa.Array | pa.ChunkedArray) -> list[object]:
    family = type_family(column.type)
    if family in {"vector", "nested"}:
        chunks: Sequence[pa.Array] = getattr(column, "chunks", [column])
        to_json = _lists_to_json if family == "vector" else _documents_to_json
        return [item for chunk in chunks for item in to_json(chunk)]
    read = _READERS.get(family)
    return read(column) if read else list(column.to_pylist())


def _decode_texts(column: pa.Array | pa.ChunkedArray) -> list[object]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # another writer stored invalid UTF-8
        import pyarrow as pa

        plain = column.cast(pa.large_string()).cast(pa.large_binary(), safe=False).to_pylist()
        return [None if item is None else item.decode("utf-8", "surrogateescape") for item in plain]


def _lists_to_json(column: pa.Array) -> Iterator[str | None]:
    """Yield each list as JSON, with the shortest exact digits of each number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.flatten()  # without those of null lists
    digits = numbers.cast(pa.string())
    if numbers.null_count or not pc.all(pc.is_finite(numbers)).as_py():
        named = pc.replace_substring(pc.replace_substring_regex(digits, "-?nan", "NaN"), "inf", "Infinity")
        digits = named.fill_null("null")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_pylist()
    ends = pa.array(accumulate(lengths, initial=0), pa.int64())
    texts = pc.binary_join(pa.LargeListArray.from_arrays(ends, digits), ", ").to_pylist()
    for is_valid, text in zip(column.is_valid().to_pylist(), texts, strict=True):
        yield f"[{text}]" if is_valid else None


def _documents_to_json(column: pa.Array) -> Iterator[str | None]:
    for document in _to_documents(column):
        yield None if document is None else json.dumps(document, ensure_ascii=False, default=_json_default)


def _to_documents(column: pa.Array) -> Iterator[object]:
    """Yield nested values as objects, lists and values of rows; a map as a list of pairs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrow_type, is_valid = column.type, column.is_valid().to_pylist()
    if is_struct(arrow_type):
        names = [field.name for field in arrow_type]
        children = map(_to_documents, column.flatten())
        rows = zip(*children, strict=True) if names else ((),) * len(column)
        for valid, items in zip(is_valid, rows, strict=True):
            yield dict(zip(names, items, strict=True)) if valid else None
    elif is_list(arrow_type):
        values = _to_documents(column.flatten())  # without those of null lists
        for length in pc.list_value_length(column).to_pylist():
            yield None if length is None else list(islice(values, length))
    elif is_map(arrow_type):
        pair = pa.struct([arrow_type.key_field, arrow_type.item_field])
        for pairs in _to_documents(column.cast(pa.list_(pair))):
            yield None if pairs is None else [list(items.values()) for items in pairs]  # type: ignore[attr-defined]
    else:
        yield from column.to_pylist() if type_family(arrow_type) == "nested" else to_python(column)


def is_struct(arrow_type: pa.DataType) -> bool:
    """Whether a type has named fields."""
    import pyarrow.types as types  # noqa: PLR0402 - part of the optional library

    return bool(types.is_struct(arrow_type))


def is_map(arrow_type: pa.DataType) -> bool:
    """Whether a type has pairs of keys and values."""
    import pyarrow.types as types  # noqa: PLR0402 - part of the optional library

    return bool(types.is_map(arrow_type))


def is_list(arrow_type: pa.DataType) -> bool:
    """Whether a type has lists of any length, or of a fixed one."""
    import pyarrow.types as types  # noqa: PLR0402 - part of the optional library

    return bool(
        types.is_list(arrow_type) or types.is_large_list(arrow_type) or types.is_fixed_size_list(arrow_type)
    )


def _json_default(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


Family: TypeAlias = Literal[
    "text",
    "boolean",
    "integer",
    "float",
    "decimal",
    "time",
    "clock",
    "duration",
    "bytes",
    "vector",
    "nested",
    "other",
]


@lru_cache(maxsize=256)
def type_family(arrow_type: pa.DataType) -> Family:
    """Return the family of a type: a vector is a list of floats; values may be dictionary-encoded."""
    import pyarrow.types as types  # noqa: PLR0402 - part of the optional library

    if is_list(arrow_type) and types.is_floating(arrow_type.value_type):
        return "vector"
    if (plain := decoded_type(arrow_type)) != arrow_type:
        return type_family(plain)
    tests: dict[Family, bool] = {
        "text": types.is_string(arrow_type)
        or types.is_large_string(arrow_type)
        or types.is_string_view(arrow_type),
        "boolean": types.is_boolean(arrow_type),
        "integer": types.is_integer(arrow_type),
        "float": types.is_floating(arrow_type),
        "decimal": types.is_decimal(arrow_type),
        "time": types.is_timestamp(arrow_type) or types.is_date(arrow_type),
        "clock": types.is_time(arrow_type),
        "duration": types.is_duration(arrow_type),
        "bytes": types.is_binary(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type),
        "nested": types.is_nested(arrow_type),
    }
    return next((name for name, test in tests.items() if test), "other")


_READERS: Mapping[Family, Callable[[pa.Array | pa.ChunkedArray], list[object]]] = {
    "text": _decode_texts,
    "time": read_times,
    "clock": read_clock_times,
    "duration": read_durations,
}


def decoded_type(arrow_type: pa.DataType) -> pa.DataType:
    """Return the value type of dictionary-encoded values, and any other type unchanged."""
    import pyarrow.types as types  # noqa: PLR0402 - part of the optional library

    return arrow_type.value_type if types.is_dictionary(arrow_type) else arrow_type


#: Predicates that match no row, and every row.
MATCH_NONE, MATCH_ALL = "false", "true"


def quote_name(name: str) -> str:
    """Quote the name of a column.

    Raises:
        NotSupportedError: it contains a backtick, which the library cannot escape.
    """
    if "`" in name:
        raise NotSupportedError(
            feature=f"a condition on the column {name!r}",
            subject="LanceDB",
            hint="LanceDB cannot escape a backtick in a name.",
        )
    return f"`{name}`"


def quote_text(value: str) -> str:
    """Return a text as a literal; a backslash is not an escape.

    Raises:
        ValueInvalidError: it is not valid UTF-8.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueInvalidError(name="text", value=ascii(value), reason="it is not valid UTF-8")
    return quote_literal(value)


#: Families whose columns check numbers by their own range.
NUMBERS: Collection[Family] = ("integer", "float")


def refuse_unstorable(value: object) -> None:
    """Refuse values that no column, except one of numbers, can store.

    Raises:
        ValueInvalidError: NaN, an integer with more than 64 bits, or text that is not valid Unicode.
    """
    if isinstance(value, float) and math.isnan(value):
        raise ValueInvalidError(name="number", value="NaN", reason="only a column of floats stores it")
    if isinstance(value, int) and value not in INT64:
        raise ValueInvalidError(name="number", value=value, reason="it has more than 64 bits")
    if isinstance(value, str) and not is_storable(value.replace("\0", "")):
        raise ValueInvalidError(name="text", value=ascii(value), reason="it is not valid UTF-8")


def to_literal(value: object, arrow_type: pa.DataType) -> str | None:
    """Return a value as a literal of a type, or None if a column of that type cannot contain it.

    Raises:
        ValueInvalidError: as ``refuse_unstorable``.
    """
    if type_family(arrow_type) not in NUMBERS:
        refuse_unstorable(value)
    return write_stored(value, arrow_type)


def write_stored(value: object, arrow_type: pa.DataType) -> str | None:
    """Return the same for a converted value."""
    write = _LITERALS.get(type_family(arrow_type))
    return write(value, decoded_type(arrow_type)) if write else None


def _text_literal(value: object, _arrow_type: pa.DataType) -> str | None:
    if isinstance(value, bool | bytes):
        return None
    return quote_text(value if isinstance(value, str) else str(value))


def _boolean_literal(value: object, _arrow_type: pa.DataType) -> str | None:
    return {0: "false", 1: "true"}.get(value) if isinstance(value, bool | int) else None


def _integer_literal(value: object, arrow_type: pa.DataType) -> str | None:
    integer = to_integer(value, arrow_type)
    return f"({INT64.start + 1} - 1)" if integer == INT64.start else None if integer is None else str(integer)


def _float_literal(value: object, _arrow_type: pa.DataType) -> str | None:
    parsed = parse_number(value)
    if parsed is None:
        return None
    number = float(parsed)
    digits = repr(number)
    if not math.isfinite(number):
        return f"cast('{digits}' as double)"
    return digits if "." in digits or "e" in digits else f"{digits}.0"


def _decimal_literal(value: object, arrow_type: pa.DataType) -> str | None:
    number = parse_number(value)
    return (
        None
        if number is None
        else f"arrow_cast('{Decimal(str(number)):f}', 'Decimal{arrow_type.bit_width}({arrow_type.precision}, {arrow_type.scale})')"
    )


def _time_literal(value: object, arrow_type: pa.DataType) -> str | None:
    parsed = parse_time(value if isinstance(value, date) else str(value))
    if parsed is None:
        return _far_literal(value, arrow_type)
    timestamp, nanoseconds = parsed
    text = timestamp.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    if str(arrow_type).startswith("date"):
        return f"cast('{text}' as date)"
    unit = "Nanosecond" if arrow_type.unit == "ns" else "Microsecond"
    text += f"{nanoseconds:03}" if unit == "Nanosecond" else ""
    # compared with a column in another zone, a time without zone would be one of that zone
    suffix = "" if arrow_type.tz is None else "Z"
    return f"arrow_cast('{text}{suffix}', '{_name_timestamp(unit, arrow_type)}')"


def _name_timestamp(unit: str, arrow_type: pa.DataType) -> str:
    zone = "None" if arrow_type.tz is None else 'Some("UTC")'
    return f"Timestamp({unit}, {zone})"


def _clock_literal(value: object, arrow_type: pa.DataType) -> str | None:
    bits = arrow_type.bit_width
    return _cast_number(to_clock_number(value, arrow_type), f"Time{bits}({_UNITS[arrow_type.unit]})", bits)


def _duration_literal(value: object, arrow_type: pa.DataType) -> str | None:
    return _cast_number(to_duration_number(value, arrow_type), f"Duration({_UNITS[arrow_type.unit]})")


def _far_literal(value: object, arrow_type: pa.DataType) -> str | None:
    """Return a time of a year that a ``datetime`` cannot have."""
    number, bits = to_epoch_number(value, arrow_type), arrow_type.bit_width
    if str(arrow_type).startswith("date"):
        return _cast_number(number, f"Date{bits}", bits)
    return _cast_number(number, _name_timestamp(_UNITS[arrow_type.unit], arrow_type))


_UNITS = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}


def _cast_number(number: int | None, type_name: str, bits: int = 64) -> str | None:
    return None if number is None else f"arrow_cast(arrow_cast({number}, 'Int{bits}'), '{type_name}')"


def _bytes_literal(value: object, _arrow_type: pa.DataType) -> str | None:
    return f"x'{value.hex()}'" if isinstance(value, bytes) else None


_LITERALS: dict[Family, Callable[[object, pa.DataType], str | None]] = {
    "text": _text_literal,
    "boolean": _boolean_literal,
    "integer": _integer_literal,
    "float": _float_literal,
    "decimal": _decimal_literal,
    "time": _time_literal,
    "clock": _clock_literal,
    "duration": _duration_literal,
    "bytes": _bytes_literal,
}


def has_literals(arrow_type: pa.DataType) -> bool:
    """Whether conditions can compare columns of a type with a value."""
    return type_family(arrow_type) in _LITERALS
