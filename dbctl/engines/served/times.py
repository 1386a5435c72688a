"""Times in the SQL of servers: compared to the millisecond, as they are written everywhere else, and by their index."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dbctl.engines.sql import Statement

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
