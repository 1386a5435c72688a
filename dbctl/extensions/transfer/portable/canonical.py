"""Texts of values that are equal on every engine, for kinds whose text differs between engines."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

import msgspec

from dbctl.extensions.transfer.portable.contract import Line, LogicalKind
from dbctl.extensions.transfer.portable.lines import NULL, TAB, escape, split_line

#: Changes the text of a value; text that has not the form of its kind is returned unchanged.
Normalizer = Callable[[bytes], bytes]
#: The largest number up to which every whole number is a float.
MAX_EXACT_FLOAT = 1 << 53
#: Digits of the longest numbers that an engine stores, before and after the point.
MAX_DIGITS, MAX_SCALE = 131_072, 16_383
_FIRST_INTEGER, _LAST_INTEGER = -(1 << 63), (1 << 64) - 1


def normalize_real(text: bytes) -> bytes:
    """Return the shortest digits that are read as the same number."""
    try:
        number = float(text)
    except ValueError:
        return text
    return _NAMES.get(repr(number)) or repr(number).encode()


def normalize_unsigned_real(text: bytes) -> bytes:
    """Return the shortest digits that are read as the same number, without the sign of zero."""
    return remove_zero_sign(normalize_real(text))


def remove_zero_sign(text: bytes) -> bytes:
    """Return the digits of a real number without the sign of zero."""
    return b"0.0" if text == b"-0.0" else text


def normalize_single(text: bytes) -> bytes:
    """Return the shortest digits that are read as the same number with 32 bits."""
    try:
        number = float(text)
        shorter = next(
            (
                digits
                for width in range(6, 10)
                if _to_single(float(digits := f"{number:.{width}g}")) == _to_single(number)
            ),
            text,
        )
    except (ValueError, OverflowError):
        return text
    return normalize_real(shorter.encode() if isinstance(shorter, str) else shorter)


def normalize_decimal(text: bytes) -> bytes:
    """Return digits without an exponent, and without zeros at the end of the fraction."""
    try:
        number = Decimal(text.decode())
    except (InvalidOperation, UnicodeDecodeError):
        return text
    if not number.is_finite():
        return text
    digits = f"{number:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return b"0" if digits in ("-0", "") else digits.encode()


def normalize_json(text: bytes) -> bytes:
    """Return JSON without blanks, the keys of objects sorted, and numbers with all digits, but without exponent and sign of zero."""
    try:
        return _ENCODER.encode(_DECODER.decode(text))
    except (ValueError, RecursionError):
        pass
    try:  # integers of thousands of digits
        # NaN and Infinity are no JSON; their text remains, because the encoder would write null
        return _ENCODER.encode(
            json.loads(text, parse_float=read_number, parse_int=read_number, parse_constant=_refuse_constant)
        )
    except (ValueError, RecursionError):
        return text


def normalize_json_floats(text: bytes) -> bytes:
    """Return JSON without blanks, the keys of objects sorted, numbers as floats, and whole ones without a fraction."""
    try:
        value = json.loads(text, parse_float=_parse_float, parse_int=_parse_integer)
        # a number beyond floats has no other form, and remains as it is
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
        ).encode()
    except (ValueError, RecursionError):
        return text


def _refuse_constant(word: str) -> None:
    raise ValueError(word)


def read_number(text: str) -> Decimal:
    """Return a number of JSON in the only form of its digits.

    Raises:
        ValueError: it has more digits than any engine stores.
    """
    number = Decimal(text)
    if abs(number.adjusted()) > MAX_DIGITS:
        raise ValueError(text)
    if number.is_zero():
        number = abs(number)
    _sign, _digits, exponent = number.as_tuple()
    return Decimal(f"{number:f}") if isinstance(exponent, int) and exponent > 0 else number


def normalize_timestamp(text: bytes) -> bytes:
    """Return a time with or without a zone as a time in UTC."""
    try:
        time = datetime.fromisoformat(text.decode("ascii").strip())
    except ValueError:
        return text
    return format_timestamp(time.astimezone(UTC) if time.tzinfo else time)


def format_timestamp(time: datetime) -> bytes:
    """Return a time in UTC."""
    digits = time.replace(tzinfo=None).isoformat(" ")
    return (digits.rstrip("0") if "." in digits else digits).encode()


def normalize_lines(lines: Sequence[Line], normalizers: Mapping[int, Normalizer]) -> Sequence[Line]:
    """Apply functions to values of lines; a line of one of them is returned as it would be written."""
    if not normalizers:
        return lines
    return [_normalize_line(line, normalizers) for line in lines]


def _normalize_line(line: Line, normalizers: Mapping[int, Normalizer]) -> Line:
    fields = line.split(TAB)
    for index, normalize in normalizers.items():
        field = fields[index]
        if b"\\" not in field:  # most values: numbers have nothing to escape, and remain as they are
            if (text := normalize(field)) != field:
                fields[index] = escape(text)
        elif field != NULL:
            (value,) = split_line(field)
            fields[index] = escape(normalize(value or b""))
    return TAB.join(fields)


def _to_single(number: float) -> bytes:
    return struct.pack("f", number)


def _parse_float(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < MAX_EXACT_FLOAT else number


def _parse_integer(text: str) -> int | float:
    number = Decimal(text)
    return int(number) if _FIRST_INTEGER <= number <= _LAST_INTEGER else float(number)


_DECODER = msgspec.json.Decoder(float_hook=read_number)
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_NAMES = {"inf": b"Infinity", "-inf": b"-Infinity", "nan": b"NaN"}
#: The functions for kinds whose text a server writes in another form.
NORMALIZERS: Mapping[LogicalKind, Normalizer] = {
    "real": normalize_real,
    "real-unsigned": normalize_unsigned_real,
    "json": normalize_json,
    "json-float": normalize_json_floats,
}
