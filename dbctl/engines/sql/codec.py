"""The lossless form of values: exact values as JSON and back, and parsers of text, which refuse what a column can never store.

The part ``ValueCodec`` of each engine reads exact values, and parses them for its columns. The audit log, files of rows and digests
contain what ``to_json`` returns, so that each of them has every digit, byte and key of a value.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, TypeAlias
from uuid import UUID

import msgspec

from dbctl.engines.contract.database import Column
from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.usage import ValueInvalidError

#: Checks a text and returns the value that the engine expects.
Parser: TypeAlias = Callable[[str], object]
#: Names of objects for values that JSON lacks: bytes, and text with bytes that are not UTF-8.
BYTES, INVALID_TEXT = "$b64", "$b64text"
SHOWN_BYTES = ("\\x", f'{{"{BYTES}"')  #: the beginnings of bytes as text and as JSON
#: An infinite number of a column that may also contain the text "Infinity"; every parser of floats reads it as infinite.
INFINITE = Decimal("1E+999")
#: Types whose values ``to_json`` returns unchanged, except for text that is not UTF-8.
_PLAIN = frozenset({str, int, bool, type(None), Decimal})
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="deterministic")
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_WIDTH = re.compile(r"(?:CHARACTER VARYING|CHARACTER|VARCHAR|CHAR)\((\d+)\)")
_SCALE = re.compile(r"(?:NUMERIC|DECIMAL)\(\d+,(\d+)\)")  # the server would round further digits
_CLOCK = re.compile(r"(?:TIMESTAMP|DATETIME|TIME)\b(?:\((\d)\))?")
_FRACTION = re.compile(r":\d\d\.(\d+)", re.ASCII)
#: Any but midnight, before the zone.
_TIME_OF_DAY = re.compile(r"\s*\d{4}-\d\d-\d\d[ T][\d:.]*[1-9]", re.ASCII)
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_LONGEST_SHOWN = 40
_JSON_BYTES = re.compile(r'\{"\$b64"\s*:\s*"([A-Za-z0-9+/]*={0,2})"\s*\}', re.ASCII)


# Exact values as JSON ----------------------------------------------------------------------------------------------


def to_json(value: object) -> object:
    """Return an exact value in the form in which JSON keeps it; ``encode_json`` writes it with all digits of numbers."""
    if isinstance(value, bytes):
        return {BYTES: b64encode(value).decode()}
    if isinstance(value, str) and not is_encodable(value):
        return {INVALID_TEXT: b64encode(value.encode("utf-8", "surrogateescape")).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return _to_decimal(value)
    return value


def encode_rows(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return exact rows as lines, each of them a JSON object."""
    objects = [
        {
            name: value if type(value) in _PLAIN else to_json(value)
            for name, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]
    try:
        return _ENCODER.encode_lines(objects)
    except UnicodeEncodeError:  # a text has bytes that are not UTF-8
        return _ENCODER.encode_lines(
            [{name: to_json(value) for name, value in row.items()} for row in objects]
        )


def from_json(value: object) -> object:
    """Return the exact value of its JSON, in which numbers with a fraction or an exponent are ``Decimal``.

    Raises:
        ValueError: it is an object or a list, but not one of ``to_json``.
    """
    if isinstance(value, dict):
        (tag, content), *rest = value.items() or [("", "")]
        if rest or tag not in (BYTES, INVALID_TEXT):
            raise ValueError(tag)
        raw = b64decode(content, validate=True)
        return raw if tag == BYTES else raw.decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        raise ValueError("[]")  # noqa: TRY004 - as for an object
    return value


def identify(value: object) -> tuple[str, object]:
    """Return what equal exact values have in common, and no other value: 0.1, 0.10, 1 and true differ, as do -0.0 and 0.0."""
    if isinstance(value, float):
        value = _to_decimal(value)
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        return "number", str(value)
    return type(value).__name__, value


def identify_all(values: Iterable[object]) -> tuple[tuple[str, object], ...]:
    return tuple(map(identify, values))


def _to_decimal(number: float) -> Decimal | str:
    if math.isnan(number):
        return "NaN"  # no engine stores it where a text could be
    if math.isinf(number):
        return INFINITE.copy_sign(Decimal(number))
    return Decimal(repr(number))


def parse_number(text: str) -> object:
    """Return the number of a server's text with all of its digits; NaN and infinities remain text.

    A whole number of at most 19 digits is an ``int``, also one of a computed column such as a sum; every other is a ``Decimal``.
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    if text == "-0":
        return Decimal("-0.0")  # JSON would read an integer, which has no sign of zero
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text


def is_encodable(text: str) -> bool:
    """Whether a text is valid Unicode; text of a database has lone surrogates for bytes that are not UTF-8."""
    return text.isascii() or is_storable(text.replace("\0", ""))


# Parsers -----------------------------------------------------------------------------------------------------------


def refuse(column: Column, value: str, reason: str) -> NoReturn:
    """Raise ValueInvalidError with the reason and a shortened value."""
    shown = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
    raise ValueInvalidError(name=column.name, value=ascii(shown), reason=reason)


def text_parser(column: Column, *, nul: bool = False) -> Parser:
    """Return a parser for text; ``nul``: the column may contain NUL."""
    match = _WIDTH.fullmatch(column.type)
    max_length = int(match[1]) if match else None

    def read(value: str) -> object:
        if not is_storable(value.replace("\0", "") if nul else value):
            refuse(column, value, "it contains a NUL" if "\0" in value else "it is not valid UTF-8")
        if max_length is not None and len(value.rstrip(" ")) > max_length:
            refuse(column, value, f"it has {len(value)} characters, at most {max_length} are allowed")
        return value

    return read


def integer_parser(column: Column, smallest: int, largest: int) -> Parser:
    def read(value: str) -> object:
        try:
            integer = int(value) if value.isascii() and "_" not in value else None
        except ValueError:
            integer = None
        if integer is None:
            refuse(column, value, "it is not an integer")
        if not smallest <= integer <= largest:
            refuse(column, value, f"{column.type.lower()} is from {smallest} to {largest}")
        return value

    return read


def _checked_parser(column: Column, accepts: Callable[[str], object], reason: str) -> Parser:
    """Return a parser that refuses text for which ``accepts`` is not true, or raises an error of a conversion."""

    def read(value: str) -> object:
        try:
            is_valid = accepts(value)
        except (ValueError, InvalidOperation):
            is_valid = False
        if not is_valid:
            refuse(column, value, reason)
        return value

    return read


def number_parser(column: Column, *, finite: bool) -> Parser:
    """Return a parser for numbers, without digits that the column would round; ``finite``: without NaN and infinity."""
    parse = _checked_parser(
        column,
        lambda value: value.isascii() and "_" not in value and (Decimal(value).is_finite() or not finite),
        "it is not a number",
    )
    match = _SCALE.match(column.type)
    if match is None:
        return parse
    scale = int(match[1])

    def read(value: str) -> object:
        digits = _count_fraction_digits(Decimal(str(parse(value))))
        if digits > scale:
            refuse(column, value, f"it has {digits} digits after the point, at most {scale} are stored")
        return value

    return read


def _count_fraction_digits(number: Decimal) -> int:
    """Return the digits after the point, without zeros at the end."""
    _, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    return len(text) - len(digits) - exponent if text and isinstance(exponent, int) else 0


def boolean_parser(column: Column, words: Collection[str]) -> Parser:
    return _checked_parser(
        column, lambda value: value.strip().lower() in words, "it is neither true nor false"
    )


def uuid_parser(column: Column) -> Parser:
    return _checked_parser(column, UUID, "it is not a UUID")


def label_parser(column: Column) -> Parser:
    labels = frozenset(column.labels)
    return _checked_parser(column, labels.__contains__, f"allowed are {', '.join(column.labels)}")


def time_parser(column: Column, extra_pattern: re.Pattern[str]) -> Parser:
    """Return a parser for times; ``extra_pattern`` matches values of the database that Python cannot parse."""
    return _checked_parser(
        column,
        lambda value: extra_pattern.fullmatch(value.strip()) or datetime.fromisoformat(value.strip()),
        "write it like 2026-01-31 or 2026-01-31T12:00:00Z",
    )


def precise_parser(column: Column, parse: Parser, digits: int) -> Parser:
    """Return a parser that refuses what a column of times would round or cut; other columns keep ``parse``.

    ``digits`` is how many digits of the fraction of a second a type without a precision stores.
    """
    match = _CLOCK.match(column.type)
    limit = int(match[1] or digits) if match else None

    def read(value: str) -> object:
        if limit is None:
            if _TIME_OF_DAY.match(value):
                refuse(column, value, "the column stores no time of day")
            return parse(value)
        count = max((len(fraction.rstrip("0")) for fraction in _FRACTION.findall(value)), default=0)
        if count > limit:
            refuse(
                column, value, f"its seconds have {count} digits after the point, at most {limit} are stored"
            )
        return parse(value)

    return read if match or column.type == "DATE" else parse


def parse_bytes(text: str) -> bytes:
    r"""Return the bytes of a text such as ``\x00ff``, or of their JSON; raises ValueError for another text."""
    if match := _JSON_BYTES.fullmatch(text):
        return b64decode(match[1], validate=True)
    return bytes.fromhex(text[2:] if text.startswith("\\x") else "?")


def bytes_parser(column: Column) -> Parser:
    def read(value: str) -> object:
        try:
            return parse_bytes(value)
        except ValueError:
            refuse(column, value, "it is not \\x and two hexadecimal digits for each byte")

    return read


def json_parser(column: Column) -> Parser:
    storable = text_parser(column)

    def read(value: str) -> object:
        try:
            json.loads(value, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            refuse(column, value, "it is not valid JSON")
        return storable(value)

    return read


def encode_json(value: object) -> str:
    """Return a value as JSON, with all digits of its numbers."""
    return _ENCODER.encode(value).decode()


def decode_json(text: str | bytes) -> Any:
    """Return the value of a JSON text, in which numbers with a fraction or an exponent are ``Decimal``.

    Raises:
        msgspec.DecodeError, UnicodeEncodeError: it is not JSON.
    """
    return _DECODER.decode(text)


def json_value_parser(
    column: Column, read: Parser, *, takes_bytes: bool, encode: Callable[[object], str | None]
) -> Callable[[object], object]:
    """Return a parser for values of JSON lines files; ``read`` parses text of the column.

    ``encode`` returns the text of other values; None if the column cannot store the value.
    """

    def parse(value: object) -> object:
        if isinstance(value, bytes):
            return (
                value
                if takes_bytes
                else refuse(column, "(bytes)", f"the column type is {column.type.lower()}")
            )
        text = value if isinstance(value, str) else encode(value)
        if text is None:
            refuse(column, encode_json(value), f"the column type is {column.type.lower()}")
        return read(text)

    return parse


def refuse_constant(_word: str) -> NoReturn:
    raise ValueError
