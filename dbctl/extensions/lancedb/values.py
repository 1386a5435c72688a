"""Convert Arrow values to rows of the contract, with lists and objects as JSON text; write literals of the library."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from dbctl.engines.sql.catalog import is_storable, quote_literal
from dbctl.errors.usage import NotSupportedError, ValueInvalidError

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
    """Return the values of a column."""
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


def _read_times(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return times in UTC; one with nanoseconds, or of a year that a ``datetime`` cannot have, as text."""
    import pyarrow as pa

    is_date = pa.types.is_date(column.type)
    plain = column if is_date else column.cast(pa.timestamp(column.type.unit))  # in UTC
    try:
        # the library would return nanoseconds in a type of its own
        exact = plain if is_date or column.type.unit != "ns" else plain.cast(pa.timestamp("us"))
        values = exact.to_pylist()
        return values if is_date else [None if item is None else _to_utc(item) for item in values]
    except (pa.ArrowInvalid, OverflowError):
        return [None if text is None else _read_time(text) for text in plain.cast(pa.string()).to_pylist()]


def _read_time(text: str) -> object:
    parsed = parse_time(text)
    return text if parsed is None else f"{text.replace(' ', 'T')}Z" if parsed[1] else parsed[0]


def parse_time(value: str | date) -> tuple[datetime, int] | None:
    """Return a time in UTC, and the nanoseconds after its microsecond; None for a text that is no time."""
    if isinstance(value, date):
        return _to_utc(value), 0
    digits = _NANOSECONDS.search(value)
    text = value if digits is None else value[: digits.start(1)] + value[digits.end(1) :]
    try:
        return _to_utc(datetime.fromisoformat(text.strip())), int(digits[1]) if digits else 0
    except (ValueError, OverflowError):
        return None


#: The digits of nanoseconds, which ``fromisoformat`` would ignore.
_NANOSECONDS = re.compile(r"\.[0-9]{6}([0-9]{3})(?![0-9])")


def to_epoch_number(value: object, arrow_type: pa.DataType) -> int | None:
    """Return a time, also as text, in the unit of a type; None if it is none, or more precise."""
    parsed = parse_time(value) if isinstance(value, str | date) else None
    if parsed is None:
        return None
    microseconds = (parsed[0] - EPOCH) // timedelta(microseconds=1)
    return to_duration_number(Decimal(microseconds * 1000 + parsed[1]).scaleb(-9), arrow_type)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _read_clock_times(column: pa.Array | pa.ChunkedArray) -> list[object]:
    import pyarrow as pa

    texts = column.cast(pa.string()).to_pylist()
    return [text.rstrip("0").rstrip(".") if text and "." in text else text for text in texts]


def _read_durations(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return seconds."""
    import pyarrow as pa

    exponent = -UNIT_DIGITS[column.type.unit]
    numbers = column.cast(pa.int64()).to_pylist()
    return [None if number is None else Decimal(number).scaleb(exponent) for number in numbers]


#: Decimal digits of the fractions of a second in a unit of the library.
UNIT_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def to_clock_number(value: object, arrow_type: pa.DataType) -> int | None:
    """Return a time of day, also as text, in the unit of a type; None if it is none, or more precise."""
    digits = _NANOSECONDS.search(str(value))
    try:
        clock = time.fromisoformat(str(value).strip())
    except ValueError:
        return None
    seconds = Decimal(clock.hour * 3600 + clock.minute * 60 + clock.second)
    fraction = Decimal(clock.microsecond * 1000 + (int(digits[1]) if digits else 0)).scaleb(-9)
    return None if clock.tzinfo else to_duration_number(seconds + fraction, arrow_type)


def to_duration_number(value: object, arrow_type: pa.DataType) -> int | None:
    """Return seconds, also as text, in the unit of a type; None if they are no number, or more precise."""
    seconds = parse_number(value)
    number = Decimal("nan") if seconds is None else Decimal(str(seconds)).scaleb(UNIT_DIGITS[arrow_type.unit])
    return int(number) if number.is_finite() and number == int(number) and int(number) in INT64 else None


def _documents_to_json(column: pa.Array) -> Iterator[str | None]:
    for document in _to_documents(column):
        yield None if document is None else json.dumps(document, ensure_ascii=False, default=_json_default)


def _to_documents(column: pa.Array) -> Iterator[object]:
    """Yield nested values as objects, lists and values of rows."""
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


def _to_utc(value: date) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


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
    """Return the family of a type: a vector is a list of floats; text may be dictionary-encoded."""
    import pyarrow.types as types  # noqa: PLR0402 - part of the optional library

    if is_list(arrow_type) and types.is_floating(arrow_type.value_type):
        return "vector"
    if decoded_type(arrow_type) != arrow_type:
        return "text"
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
    "time": _read_times,
    "clock": _read_clock_times,
    "duration": _read_durations,
}


def decoded_type(arrow_type: pa.DataType) -> pa.DataType:
    """Return the value type of dictionary-encoded text, and any other type unchanged."""
    import pyarrow.types as types  # noqa: PLR0402 - part of the optional library

    is_dictionary = types.is_dictionary(arrow_type) and type_family(arrow_type.value_type) == "text"
    return arrow_type.value_type if is_dictionary else arrow_type


#: Predicates that match no row, and every row.
MATCH_NONE, MATCH_ALL = "false", "true"
INT64 = range(-(1 << 63), 1 << 63)


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
    return write(value, arrow_type) if write else None


def _text_literal(value: object, _arrow_type: pa.DataType) -> str | None:
    if isinstance(value, bool | bytes):
        return None
    return quote_text(value if isinstance(value, str) else str(value))


def _boolean_literal(value: object, _arrow_type: pa.DataType) -> str | None:
    return {0: "false", 1: "true"}.get(value) if isinstance(value, bool | int) else None


def parse_number(value: object) -> int | float | Decimal | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, str):
        try:
            number = Decimal(value.strip()) if value.strip().isascii() else None
        except ArithmeticError:
            return None
        return number if number is not None and number.is_finite() else None
    return None


def to_integer(value: object, arrow_type: pa.DataType) -> int | None:
    """Return a number, also as text, as an integer; None if a column of the type cannot contain it."""
    number = parse_number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        return None
    bits, integer = arrow_type.bit_width, int(number)
    signed = str(arrow_type).startswith("int")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return integer if low <= integer <= high else None


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
        else f"cast('{Decimal(str(number)):f}' as decimal({arrow_type.precision}, {arrow_type.scale}))"
    )


def _time_literal(value: object, arrow_type: pa.DataType) -> str | None:
    parsed = parse_time(value if isinstance(value, date) else str(value))
    if parsed is None:
        return None
    timestamp, nanoseconds = parsed
    text = timestamp.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    if str(arrow_type).startswith("date"):
        return f"cast('{text}' as date)"
    unit = "Nanosecond" if arrow_type.unit == "ns" else "Microsecond"
    text += f"{nanoseconds:03}" if unit == "Nanosecond" else ""
    # compared with a column in another zone, a time without zone would be one of that zone
    zone, suffix = ("None", "") if arrow_type.tz is None else ('Some("UTC")', "Z")
    return f"arrow_cast('{text}{suffix}', 'Timestamp({unit}, {zone})')"


def _clock_literal(value: object, arrow_type: pa.DataType) -> str | None:
    return _cast_number(to_clock_number(value, arrow_type), f"Time{arrow_type.bit_width}", arrow_type)


def _duration_literal(value: object, arrow_type: pa.DataType) -> str | None:
    return _cast_number(to_duration_number(value, arrow_type), "Duration", arrow_type)


def _cast_number(number: int | None, name: str, arrow_type: pa.DataType) -> str | None:
    unit = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}[arrow_type.unit]
    bits = 32 if name == "Time32" else 64
    return None if number is None else f"arrow_cast(arrow_cast({number}, 'Int{bits}'), '{name}({unit})')"


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
