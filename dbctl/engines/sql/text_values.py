"""What stands in a file becomes what a column takes; of each kind of value, what can never be one is refused."""

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
from dbctl.engines.sql.query_builder import is_storable
from dbctl.errors import ValueInvalidError

#: Reads a text, and gives it on as the engine takes it.
Read: TypeAlias = Callable[[str], object]
_WIDTH = re.compile(r"(?:CHARACTER VARYING|CHARACTER|VARCHAR|CHAR)\((\d+)\)")
_LONGEST_SHOWN = 40


def refuse(column: Column, value: str, reason: str) -> NoReturn:
    """Say why a column can never hold a value; as much of it is shown as fits a message."""
    shown = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
    raise ValueInvalidError(what=column.name, value=ascii(shown), reason=reason)


def text(column: Column, *, nul: bool = False) -> Read:
    """Return what reads text; ``nul`` says that the column may hold that, too."""
    found = _WIDTH.fullmatch(column.type)
    most = int(found[1]) if found else None

    def read(given: str) -> object:
        if not is_storable(given.replace("\0", "") if nul else given):
            refuse(column, given, "it holds a NUL" if "\0" in given else "it is not valid UTF-8")
        if most is not None and len(given.rstrip(" ")) > most:
            refuse(column, given, f"it has {len(given)} characters, and {most} are kept")
        return given

    return read


def integer(column: Column, smallest: int, largest: int) -> Read:
    """Return what reads whole numbers, both ends included."""

    def read(given: str) -> object:
        try:
            whole = int(given) if "_" not in given else None
        except ValueError:
            whole = None
        if whole is None:
            refuse(column, given, "it is no whole number")
        if not smallest <= whole <= largest:
            refuse(column, given, f"{column.type.lower()} goes from {smallest} to {largest}")
        return given

    return read


def number(column: Column, *, finite: bool) -> Read:
    """Return what reads numbers; ``finite``: neither NaN nor the infinities."""

    def read(given: str) -> object:
        try:
            found = Decimal(given) if "_" not in given else None
        except InvalidOperation:
            found = None
        if found is None or (finite and not found.is_finite()):
            refuse(column, given, "it is no number")
        return given

    return read


def word(column: Column, words: Collection[str]) -> Read:
    """Return what reads booleans."""

    def read(given: str) -> object:
        if given.strip().lower() not in words:
            refuse(column, given, "it is neither true nor false")
        return given

    return read


def uuid(column: Column) -> Read:
    """Return what reads UUIDs."""

    def read(given: str) -> object:
        try:
            UUID(given)
        except ValueError:
            refuse(column, given, "it is no UUID")
        return given

    return read


def label(column: Column) -> Read:
    """Return what reads the labels of an enum."""
    labels = frozenset(column.values)

    def read(given: str) -> object:
        if given not in labels:
            refuse(column, given, f"it is none of {', '.join(column.values)}")
        return given

    return read


def time(column: Column, further: re.Pattern[str]) -> Read:
    """Return what reads times; ``further`` are those that the database writes and Python does not read."""

    def read(given: str) -> object:
        try:
            datetime.fromisoformat(given.strip())
        except ValueError:
            if not further.fullmatch(given.strip()):
                refuse(column, given, "it is not written like 2026-01-31 or 2026-01-31T12:00:00Z")
        return given

    return read


def raw(column: Column) -> Read:
    """Return what reads bytes."""

    def read(given: str) -> object:
        try:
            return bytes.fromhex(given[2:] if given.startswith("\\x") else "?")
        except ValueError:
            refuse(column, given, "it is not \\x and two hexadecimal digits for each byte")

    return read


def document(column: Column) -> Read:
    """Return what reads JSON."""
    storable = text(column)

    def read(given: str) -> object:
        try:
            json.loads(given, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            refuse(column, given, "it is no JSON")
        return storable(given)

    return read


def as_json(value: object) -> str:
    """Return what JSON a value of a file is, every digit of its numbers kept."""
    return msgspec.json.Encoder(decimal_format="number").encode(value).decode()


def of_json(
    column: Column, read: Read, *, takes_bytes: bool, spell: Callable[[object], str | None]
) -> Callable[[object], object]:
    """Return what reads a value of a file of JSON lines.

    Args:
        column: where it goes.
        read: reads it as a text.
        takes_bytes: whether the column holds bytes.
        spell: returns the text of what is neither text nor bytes; None where the column holds no such thing.
    """

    def take(value: object) -> object:
        if isinstance(value, bytes):
            return value if takes_bytes else refuse(column, "(bytes)", f"it holds {column.type.lower()}")
        told = value if isinstance(value, str) else spell(value)
        if told is None:
            refuse(column, as_json(value), f"it holds {column.type.lower()}")
        return read(told)

    return take


def _no_constant(_word: str) -> NoReturn:
    raise ValueError
