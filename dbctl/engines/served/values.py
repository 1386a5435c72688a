"""Values of Python as the texts that servers read: what is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from dbctl.errors import ValueInvalidError

#: How each kind of value is written. The first kind that a value is of counts: a bool is an int, and a datetime a date.
Writers: TypeAlias = Mapping[type, Callable[..., str]]
SMALLEST, LARGEST = -(1 << 63), (1 << 63) - 1


def written(value: object, writers: Writers) -> str | None:
    """Return the text for ``value``; None for NULL.

    Raises:
        ValueInvalidError: no database keeps it.
    """
    if value is None:
        return None
    for kind, write in writers.items():
        if isinstance(value, kind):
            return write(value)
    reason = "no database keeps such a thing"
    raise ValueInvalidError(what="value", value=f"({type(value).__name__})", reason=reason)


def whole(value: int) -> str:
    """Return the text for a whole number."""
    if not SMALLEST <= value <= LARGEST:
        raise ValueInvalidError(what="number", value=f"{value:x}"[:20], reason="it has more than 64 bits")
    return str(value)


def lower(text: str) -> str:
    """Return ``text`` with its ASCII letters in lower case, and no other."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)
