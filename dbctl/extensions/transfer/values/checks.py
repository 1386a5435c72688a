"""Checks of values, in the texts of ``RowSource``, against the type of the column that receives them."""

from __future__ import annotations

import codecs
import json
import re
import struct
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import accumulate
from math import isinf
from typing import TypeAlias

from dbctl.extensions.transfer.portable import canonical
from dbctl.extensions.transfer.portable.contract import ColumnPair, JsonForm, LogicalType, StorageLimits

#: Returns the first reason why a value cannot be stored; empty: it can be stored.
ValueCheck: TypeAlias = Callable[[bytes], str]
#: The same for a value that may be NULL.
ColumnCheck: TypeAlias = Callable[[bytes | None], str]

_INTEGER = re.compile(rb"-?[0-9]+")
_DECIMAL = re.compile(rb"-?([0-9]+)(?:\.([0-9]+))?")
_REAL = re.compile(rb"-?[0-9]+(?:\.[0-9]*)?(?:e[-+]?[0-9]+)?", re.IGNORECASE)
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: Version 1 to 7, or none, or the variant of RFC 9562 or a later one: MariaDB refuses others.
_STANDARD_UUID = re.compile(rb"(?=.{14}[0-7]|.{19}[89a-f])" + _UUID.pattern)
#: Without 24:00:00, which Python parses since 3.14, and MySQL refuses.
_TIMESTAMP = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2} (?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.([0-9]+))?")
_DATE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}(?: |$)")
_TIME = re.compile(rb"(-?[0-9]+):[0-5][0-9]:[0-5][0-9](?:\.([0-9]+))?")
_JSON_NUMBER = re.compile(rb"\s*-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\s*")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
#: An escaped NUL character; an even number of backslashes escapes backslashes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
#: What MySQL stores, in columns of its types with and without a zone.
_ZERO_TIMESTAMP = re.compile(rb"0000-00-00 00:00:00")
_STORED_ZERO_DATE = re.compile(rb"(?:0000-00-00|\d{4}-(?:00-[0-3]\d|(?:0\d|1[0-2])-00))(?: 00:00:00)?")
_ZERO_DATE = re.compile(rb"\d{4}-00-\d\d|\d{4}-\d\d-00|0000-.*", re.DOTALL)
_JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LEVELS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
#: No engine has a smaller limit of levels.
_FEW = 32
_SINGLE_BITS = 32
_HOURS_OF_A_DAY = 24
#: Character sets of MySQL to which Python gives another name.
_CODECS = {"latin1": "cp1252", "ascii": "ascii", "latin2": "iso8859_2", "cp1251": "cp1251", "koi8r": "koi8_r"}
_FIRST_LONG_BYTE = 0xF0
_NOT_FINITE = {b"NaN", b"Infinity", b"-Infinity"}


def create_check(pair: ColumnPair, limits: StorageLimits) -> ColumnCheck | None:
    """Return the check of a pair of columns; None if every value can be stored."""
    logical, find_reason = pair.destination_type, None
    if limits.enforces_types or logical.kind in _ALWAYS_CHECKED:
        find_reason = _CHECKS.get(logical.kind, _check_text)(logical, limits)
    if find_reason is None and pair.is_nullable:
        return None
    missing = "" if pair.is_nullable else "NULL in a NOT NULL column"
    check = find_reason or (lambda _value: "")
    return lambda value: missing if value is None else check(value)


def _check_integer(logical: LogicalType, _limits: StorageLimits) -> ValueCheck:
    largest = (1 << (logical.bits - (not logical.is_unsigned))) - 1
    smallest = 0 if logical.is_unsigned else -largest - 1

    def find_reason(value: bytes) -> str:
        if not _INTEGER.fullmatch(value):
            return "not an integer"
        is_stored = smallest <= Decimal(value.decode()) <= largest  # int() refuses many digits
        return "" if is_stored else f"not between {smallest} and {largest}"

    return find_reason


def _check_boolean(_logical: LogicalType, _limits: StorageLimits) -> ValueCheck:
    return lambda value: "" if value in (b"0", b"1") else "neither true nor false"


def _check_labels(logical: LogicalType, _limits: StorageLimits) -> ValueCheck:
    labels = {label.encode() for label in logical.labels}
    if logical.kind == "enum":
        return lambda value: "" if value in labels else "not a label of the enum"

    def find_reason(value: bytes) -> str:
        return "" if not value or labels.issuperset(value.split(b",")) else "not labels of the set"

    return find_reason


def _check_decimal(logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    digits, scale = logical.digits, logical.scale

    def find_reason(value: bytes) -> str:
        match = _DECIMAL.fullmatch(value)
        if match is None:
            is_storable = value == b"NaN" and limits.stores_nan
            return "" if is_storable else "not a number"
        whole, fraction = match[1].lstrip(b"0"), match[2] or b""
        if limits.exact_digits is not None:
            if not fraction and _is_integer_of_sqlite(value):
                return ""
            stored = Decimal(f"{float(value):.{limits.exact_digits}g}")
            return "" if stored == Decimal(value.decode()) else f"more than {limits.exact_digits} digits"
        if digits is None:
            return ""
        if len(whole) > digits - scale:
            return f"more than {digits - scale} digits before the point"
        return f"more than {scale} digits after the point" if len(fraction) > scale else ""

    return find_reason


def _check_real(logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    def find_reason(value: bytes) -> str:
        if value in _NOT_FINITE:
            is_storable = limits.stores_nan if value == b"NaN" else limits.stores_infinity
            return "" if is_storable else "not finite"
        if not _REAL.fullmatch(value):
            return "not a number"
        if logical.bits == _SINGLE_BITS and not _is_single(float(value)):
            return "more digits than a number of 4 bytes has"
        return ""

    return find_reason


def _is_single(number: float) -> bool:
    """Whether the shortest digits of a number are those of a float with 32 bits."""
    try:
        (single,) = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        return False
    return float(canonical.normalize_single(repr(single).encode())) == number


def _check_text(logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    rules = list(_text_rules(logical, limits))
    return lambda value: next((reason for is_refused, reason in rules if is_refused(value)), "")


def _text_rules(logical: LogicalType, limits: StorageLimits) -> Iterator[tuple[Callable[[bytes], bool], str]]:
    """Yield what a column of text refuses, with the reason; each rule may rely on the ones before it."""
    if not limits.stores_nul:
        yield lambda value: b"\0" in value, "NUL characters"
    yield lambda value: not _can_convert(value.decode), "not valid UTF-8"
    length, size, codec = logical.length, logical.max_bytes, _CODECS.get(logical.charset, "")
    if length is not None:
        yield lambda value: len(value.decode()) > length, f"more than {length} characters"
    if size is not None:
        yield lambda value: len(value) > size, f"more than {size} bytes"
    if logical.is_fixed:
        yield lambda value: value.endswith(b" "), "a space at the end, which the column removes"
    reason = f"characters that {logical.charset} lacks"
    if logical.charset in ("utf8mb3", "utf8"):
        yield lambda value: any(byte >= _FIRST_LONG_BYTE for byte in value), reason
    elif codec:
        yield lambda value: not _can_convert(partial(codecs.encode, value.decode(), codec)), reason


def _can_convert(convert: Callable[[], object]) -> bool:
    try:
        convert()
    except UnicodeError:
        return False
    return True


def _check_bytes(logical: LogicalType, _limits: StorageLimits) -> ValueCheck | None:
    if logical.length is None:
        return None
    longest = 2 + 2 * logical.length  # the prefix, and two digits for each byte

    def find_reason(value: bytes) -> str:
        return f"more than {logical.length} bytes" if len(value) > longest else ""

    return find_reason


def _check_json(logical: LogicalType, limits: StorageLimits) -> ValueCheck | None:
    if logical.converts_numbers:
        return _find_changed_number
    if not limits.enforces_types:
        return None
    check_number = _JSON_NUMBERS[logical.json_form]

    def find_reason(value: bytes) -> str:
        try:
            text = json.loads(
                value, parse_constant=_refuse_constant, parse_float=check_number, parse_int=check_number
            )
            if _SURROGATE.search(value):
                json.dumps(text, ensure_ascii=False).encode()
        except OverflowError:
            return "a number with more digits than the column stores"
        except (ValueError, RecursionError):
            return "not valid JSON"
        if limits.json_levels is not None and _count_levels(value) > limits.json_levels:
            return f"more than {limits.json_levels} levels of JSON"
        is_refused = not limits.stores_nul and logical.json_form != "text" and _NUL.search(value)
        return "NUL characters" if is_refused else ""

    return find_reason


def _find_changed_number(value: bytes) -> str:
    """Return why SQLite shows a number in another form than it was written; empty for other documents."""
    if not _JSON_NUMBER.fullmatch(value):
        return ""
    text = value.decode()
    is_whole = text.removeprefix("-").isdigit() and _is_integer_of_sqlite(value)
    shown = str(int(Decimal(text))) if is_whole else f"{float(text):.15g}"
    is_same = shown == text and "e" not in shown
    return "" if is_same else "a number that the column stores in another form or with fewer digits"


def _is_integer_of_sqlite(digits: bytes) -> bool:
    """Whether SQLite stores a whole number with all digits, in 64 bits."""
    return -(1 << 63) <= Decimal(digits.decode()) < 1 << 63


def _count_levels(value: bytes) -> int:
    """Return the largest number of arrays and objects in each other, or the number of all of them if that is small."""
    if (count := value.count(b"[") + value.count(b"{")) < _FEW:
        return count
    signs = _JSON_STRING.sub(b"", value)
    return max(accumulate((_LEVELS.get(sign, 0) for sign in signs), initial=0))


def _require_exact(text: str) -> None:
    number = Decimal(text)
    _sign, _digits, exponent = number.as_tuple()
    if number.adjusted() >= canonical.MAX_DIGITS or -int(exponent) > canonical.MAX_SCALE:
        raise OverflowError


def _require_finite(text: str) -> None:
    if isinf(float(text)):
        raise OverflowError


#: Functions that refuse numbers; their value is not used.
_JSON_NUMBERS: dict[JsonForm, Callable[[str], object]] = {
    "text": str,
    "exact": _require_exact,
    "float": _require_finite,
}


def _refuse_constant(_word: str) -> None:
    raise ValueError


def _check_uuid(_logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    form = _UUID if limits.stores_all_uuids else _STANDARD_UUID
    reason = "not a UUID" if limits.stores_all_uuids else "not a UUID of a version and variant that exist"
    return lambda value: "" if form.fullmatch(value) else reason


def _check_date(logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    return _time_checks(logical, limits, lambda value: date.fromisoformat(value.decode("ascii")).year)


def _check_timestamp(logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    def read_year(value: bytes) -> int:
        if not _TIMESTAMP.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.decode("ascii")).year

    return _time_checks(logical, limits, read_year)


def _time_checks(
    logical: LogicalType, limits: StorageLimits, read_year: Callable[[bytes], int]
) -> ValueCheck:
    first, last = limits.years_of(logical)

    def find_reason(value: bytes) -> str:
        try:
            year = read_year(value)
        except ValueError:
            if not _ZERO_DATE.fullmatch(value):
                return f"not a valid {logical.kind}"
            form = _ZERO_TIMESTAMP if logical.has_zone else _STORED_ZERO_DATE
            return "" if limits.stores_zero_dates and form.fullmatch(value) else "a zero date"
        if not first <= year <= last:
            return f"not in the years {first} to {last}"
        if logical.kind == "timestamp" and len(value.partition(b".")[2]) > logical.fraction:
            return f"more than {logical.fraction} digits after the second"
        return ""

    return find_reason


def _check_other(logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    check = _check_text(logical, limits)
    if not logical.is_interval:
        return check
    # SQLAlchemy stores a duration in SQLite as a date after the one of 1970-01-01
    return lambda value: "a date, not a duration" if _DATE.match(value) else check(value)


def _check_time(logical: LogicalType, limits: StorageLimits) -> ValueCheck:
    is_time_of_day = limits.max_hours < _HOURS_OF_A_DAY

    def find_reason(value: bytes) -> str:
        match = _TIME.fullmatch(value)
        if match is None:
            return "not a time"
        if abs(Decimal(match[1].decode())) > limits.max_hours or (is_time_of_day and value.startswith(b"-")):
            return "not a time of day"
        if (
            limits.max_time
            and value.lstrip(b"-").startswith(limits.max_time)
            and (match[2] or b"").strip(b"0")
        ):
            return "a fraction after the largest time"
        is_long = len(match[2] or b"") > logical.fraction
        return f"more than {logical.fraction} digits after the second" if is_long else ""

    return find_reason


#: The kinds of columns that refuse values, or store them in another form, also if the engine does not enforce types.
_ALWAYS_CHECKED = frozenset({"integer", "enum", "decimal", "real", "json"})
_CHECKS: dict[str, Callable[[LogicalType, StorageLimits], ValueCheck | None]] = {
    "integer": _check_integer,
    "boolean": _check_boolean,
    "enum": _check_labels,
    "set": _check_labels,
    "decimal": _check_decimal,
    "real": _check_real,
    "bytes": _check_bytes,
    "json": _check_json,
    "uuid": _check_uuid,
    "date": _check_date,
    "timestamp": _check_timestamp,
    "time": _check_time,
    "other": _check_other,
    "any": lambda _logical, _limits: None,
}
