"""Parsers for values of CSV and JSON files; each refuses text that its column can never store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import NoReturn, TypeAlias
from uuid import UUID

import msgspec

from dbctl.engines.contract import Column
from dbctl.engines.sql.statement import is_storable
from dbctl.errors import ValueInvalidError

#: Checks a text and returns the value that the engine expects.
Parser: TypeAlias = Callable[[str], object]
_WIDTH = re.compile(r"(?:CHARACTER VARYING|CHARACTER|VARCHAR|CHAR)\((\d+)\)")
_LONGEST_SHOWN = 40


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
    """Return a parser for integers from ``smallest`` to ``largest``."""

    def read(value: str) -> object:
        try:
            integer = int(value) if "_" not in value else None
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
    """Return a parser for numbers; ``finite``: without NaN and infinity."""
    return _checked_parser(
        column,
        lambda value: "_" not in value and (Decimal(value).is_finite() or not finite),
        "it is not a number",
    )


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


def bytes_parser(column: Column) -> Parser:
    def read(value: str) -> object:
        try:
            return bytes.fromhex(value[2:] if value.startswith("\\x") else "?")
        except ValueError:
            refuse(column, value, "it is not \\x and two hexadecimal digits for each byte")

    return read


def json_parser(column: Column) -> Parser:
    storable = text_parser(column)

    def read(value: str) -> object:
        try:
            json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            refuse(column, value, "it is not valid JSON")
        return storable(value)

    return read


def encode_json(value: object) -> str:
    """Return a value as JSON, with all digits of its numbers."""
    return msgspec.json.Encoder(decimal_format="number").encode(value).decode()


def json_value_parser(
    column: Column, read: Parser, *, takes_bytes: bool, encode: Callable[[object], str | None]
) -> Callable[[object], object]:
    """Return a parser for values of JSON lines files.

    Args:
        column: the column.
        read: its parser for text.
        takes_bytes: whether the column contains bytes.
        encode: returns the text of other values; None if the column cannot store the value.
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


def _no_constant(_word: str) -> NoReturn:
    raise ValueError
