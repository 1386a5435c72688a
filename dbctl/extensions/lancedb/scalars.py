"""Times, durations and numbers: read them from Arrow columns, and return them in the unit of a type."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


INT64 = range(-(1 << 63), 1 << 63)
MILLISECONDS_PER_DAY = 86_400_000


def read_times(column: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return times in UTC; one with nanoseconds, or of a year that a ``datetime`` cannot have, as text."""
    import pyarrow as pa

    is_date = pa.types.is_date(column.type)
    plain = column if is_date else column.cast(pa.timestamp(column.type.unit))  # in UTC
    try:
        # the library would return nanoseconds in a type of its own
        exact = plain if is_date or column.type.unit != "ns" else plain.cast(pa.timestamp("us"))
        values = exact.to_pylist()
        return values if is_date else [None if item is None else _to_utc(item) for item in values]
    except (ValueError, OverflowError):
        import numpy as np

        numbers = plain.to_numpy(zero_copy_only=False)
        texts = np.datetime_as_string(numbers.astype("datetime64[D]") if is_date else numbers)
        is_valid = column.is_valid().to_pylist()
        read = _read_date if is_date else _read_time
        return [read(text) if valid else None for text, valid in zip(texts.tolist(), is_valid, strict=True)]


def _read_date(text: str) -> object:
    parsed = parse_time(text)
    return text if parsed is None else parsed[0].date()


def _read_time(text: str) -> object:
    parsed = parse_time(text)
    return f"{text}Z" if parsed is None or parsed[1] else parsed[0]


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
        return _to_far_number(str(value), arrow_type)
    microseconds = (parsed[0] - EPOCH) // timedelta(microseconds=1)
    return to_duration_number(Decimal(microseconds * 1000 + parsed[1]).scaleb(-9), arrow_type)


def _to_far_number(text: str, arrow_type: pa.DataType) -> int | None:
    """Return a time of a year that a ``datetime`` cannot have, as ``read_times`` writes it; None for another text."""
    import numpy as np
    import pyarrow as pa

    is_date = str(arrow_type).startswith("date")
    if not _FAR_TIME.fullmatch(text) or text.endswith("Z") == is_date:
        return None
    try:
        number = np.datetime64(text.rstrip("Z"), "D" if is_date else arrow_type.unit)
    except ValueError:
        return None
    if f"{number}" != text.rstrip("Z"):  # more precise, or beyond the range of the unit
        return None
    return int(number.astype("int64")) * (MILLISECONDS_PER_DAY if arrow_type == pa.date64() else 1)


_FAR_TIME = re.compile(r"-?[0-9]+-[0-9]{2}-[0-9]{2}(?:T[0-9:.]+Z)?", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_clock_times(column: pa.Array | pa.ChunkedArray) -> list[object]:
    import pyarrow as pa

    texts = column.cast(pa.string()).to_pylist()
    return [text.rstrip("0").rstrip(".") if text and "." in text else text for text in texts]


def read_durations(column: pa.Array | pa.ChunkedArray) -> list[object]:
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


def _to_utc(value: date) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


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
