"""Times in the SQL of servers: compared to the millisecond, as they are written everywhere else, and by their index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from dbctl.engines.sql import Statement
from dbctl.errors import ValueInvalidError

MILLISECOND = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Beyond these years servers know times that Python does not.
LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def compared(value: str, op: str, moment: datetime, spell: Callable[[datetime], str]) -> str:
    """Return SQL that compares a time, which has a type of its own, with ``moment``; ``spell`` gives SQL for a moment."""
    milliseconds = round((moment - EPOCH) / MILLISECOND)

    def bound(at: int) -> str:
        return spell(EPOCH + at * MILLISECOND if at * MILLISECOND <= LAST - EPOCH else LAST)

    match op:
        case "=":
            return f"({value} >= {bound(milliseconds)} and {value} < {bound(milliseconds + 1)})"
        case "!=":
            return f"({value} < {bound(milliseconds)} or {value} >= {bound(milliseconds + 1)})"
        case "<" | ">=":
            return f"{value} {op} {bound(milliseconds)}"
        case _:
            return f"{value} {'<' if op == '<=' else '>='} {bound(milliseconds + 1)}"


def nearly_before(value: str, kind: str, moment: datetime, statement: Statement) -> str:
    """Return SQL that an index answers, true for every row whose time lies before ``moment``, and few others."""
    behind = round(moment.timestamp()) + 1
    match kind:
        case "integer" | "number":
            seconds, milliseconds = statement.bind(behind), statement.bind(behind * 1000)
            return f"({value} < {seconds} or ({value} >= 100000000000 and {value} < {milliseconds}))"
        case "text":
            # its zone aside; a number sorts before the dates of this century, if it means 2001 to 2033
            return f"{value} < {statement.bind((moment + timedelta(days=2)).date().isoformat())}"
        case _:
            return "1 = 1"  # it compares by its index


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
