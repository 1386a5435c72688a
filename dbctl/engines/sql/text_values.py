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


def number_parser(column: Column, *, finite: bool) -> Parser:
    """Return a parser for numbers; ``finite``: without NaN and infinity."""

    def read(value: str) -> object:
        try:
            number = Decimal(value) if "_" not in value else None
        except InvalidOperation:
            number = None
        if number is None or (finite and not number.is_finite()):
            refuse(column, value, "it is not a number")
        return value

    return read


def boolean_parser(column: Column, words: Collection[str]) -> Parser:
    """Return a parser for booleans."""

    def read(value: str) -> object:
        if value.strip().lower() not in words:
            refuse(column, value, "it is neither true nor false")
        return value

    return read


def uuid_parser(column: Column) -> Parser:
    """Return a parser for UUIDs."""

    def read(value: str) -> object:
        try:
            UUID(value)
        except ValueError:
            refuse(column, value, "it is not a UUID")
        return value

    return read


def label_parser(column: Column) -> Parser:
    """Return a parser for the labels of an enum."""
    labels = frozenset(column.labels)

    def read(value: str) -> object:
        if value not in labels:
            refuse(column, value, f"allowed are {', '.join(column.labels)}")
        return value

    return read


def time_parser(column: Column, extra_pattern: re.Pattern[str]) -> Parser:
    """Return a parser for times; ``extra_pattern`` matches values of the database that Python cannot parse."""

    def read(value: str) -> object:
        try:
            datetime.fromisoformat(value.strip())
        except ValueError:
            if not extra_pattern.fullmatch(value.strip()):
                refuse(column, value, "write it like 2026-01-31 or 2026-01-31T12:00:00Z")
        return value

    return read


def bytes_parser(column: Column) -> Parser:
    """Return a parser for bytes."""

    def read(value: str) -> object:
        try:
            return bytes.fromhex(value[2:] if value.startswith("\\x") else "?")
        except ValueError:
            refuse(column, value, "it is not \\x and two hexadecimal digits for each byte")

    return read


def json_parser(column: Column) -> Parser:
    """Return a parser for JSON."""
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
