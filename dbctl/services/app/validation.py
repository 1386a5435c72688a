"""Validation of values by the rules of a profile: names, addresses, passwords."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from math import isfinite

from dbctl.engines.contract.database import Condition
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import format_count
from dbctl.profiles.codecs import read_time
from dbctl.profiles.model.base import Rule

MAX_SHOWN_LENGTH = 40  #: characters of a refused value in a message
#: Accepted spellings of booleans.
BOOLEAN_WORDS = {
    word: value
    for value, words in ((True, "true yes on t y 1"), (False, "false no off f n 0"))
    for word in words.split()
}


def check_rule(label: str, value: str, rule: Rule | None, *, is_padded_valid: bool = True) -> None:
    """Refuse a value that violates ``rule``, contains unprintable characters, or begins or ends with a space.

    Raises:
        ValueInvalidError: names the violated rule.
    """
    reason = rule_problem(value, rule)
    if not (reason or is_padded_valid) and value != value.strip():
        reason = "it begins or ends with a space"
    if reason:
        raise ValueInvalidError(name=f"the {label}", value=ascii(truncate(value)), reason=reason)


def require_encodable(label: str, value: str) -> None:
    """Refuse a text that no database can store as UTF-8; it may have several lines.

    Raises:
        ValueInvalidError: it has bytes of another encoding.
    """
    from dbctl.engines.sql.codec import is_encodable

    if not is_encodable(value):
        raise ValueInvalidError(
            name=f"the {label}", value=ascii(truncate(value)), reason="it is not valid UTF-8"
        )


def parse_boolean(label: str, value: str) -> bool:
    """Return the boolean that a word stands for.

    Raises:
        ValueInvalidError: the word is not in ``BOOLEAN_WORDS``.
    """
    if value.strip().lower() not in BOOLEAN_WORDS:
        raise ValueInvalidError(
            name=label, value=ascii(truncate(value)), reason="it is neither true nor false"
        )
    return BOOLEAN_WORDS[value.strip().lower()]


def parse_time(label: str, value: str) -> datetime:
    """Return a typed time, in any format that apps store; UTC without a time zone.

    Raises:
        ValueInvalidError: the value is not a time.
    """
    time = read_time(value)
    if time is None:
        reason = "expected a time such as 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ValueInvalidError(name=label, value=ascii(truncate(value)), reason=reason)
    return time


def parse_day(label: str, value: str, time: datetime) -> str:
    """Return the day of a typed time, for a column without times of day; ``now`` is the current one.

    Raises:
        ValueInvalidError: the value has a time of day.
    """
    day = time.date().isoformat()
    if value not in ("now", day):
        raise ValueInvalidError(
            name=label, value=ascii(truncate(value)), reason="the column stores no time of day"
        )
    return day


def day_after(day: datetime) -> datetime:
    """Return the same time of the next day, at most the largest time."""
    try:
        return day + timedelta(days=1)
    except OverflowError:
        return datetime.max.replace(tzinfo=day.tzinfo)


def reject_duplicate_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON; raises ValueError for a key that it has twice, which programs read in different ways."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is a duplicate key")
    return values


def truncate(text: str, longest: int = MAX_SHOWN_LENGTH) -> str:
    """Return the beginning of ``text`` for a message."""
    return text if len(text) <= longest else text[:longest] + "…"


def rule_problem(value: str, rule: Rule | None, *, is_printable: bool = True) -> str:
    """Return how a text violates ``rule``, or that it is not printable although ``is_printable``; empty: it is valid."""
    if is_printable and not value.isprintable():
        return "it contains unprintable characters"
    if rule is None:
        return ""
    if rule.length and not rule.length[0] <= len(value) <= rule.length[1]:
        return f"it has {format_count(len(value), 'character')}, the app accepts {rule.length[0]} to {rule.length[1]}"
    if rule.bytes and len(value.encode("utf-8", "surrogatepass")) > rule.bytes:
        return f"it has more than {rule.bytes} bytes in UTF-8, and the app ignores the rest"
    if rule.lowercase and value != value.lower():
        return "the app stores it in lower case"
    problem = ""
    if rule.format:
        from dbctl.profiles.formats import FORMATS

        problem = FORMATS[rule.format](value)
    return problem or value_problem(value, rule.values)


def value_problem(value: object, allowed: Sequence[object]) -> str:
    """Return the allowed values if a stored value is not one of them; empty: it is, or any value is allowed."""
    if not allowed or normalise_value(value) in map(normalise_value, allowed):
        return ""
    return f"allowed values: {', '.join(map(str, allowed))}"


def normalise_value(value: object) -> str:
    """Return a value as text for comparisons; whole numbers of any type give the same text, since drivers differ."""
    if isinstance(value, float | Decimal) and isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def meets_condition(value: object, condition: Condition) -> bool:
    """Return whether a stored value meets a condition of equality, of membership, or on a time."""
    expected = condition.value
    if isinstance(expected, datetime):
        time = read_time(value)
        return time is not None and (time > expected if condition.op == ">" else time < expected)
    return value in expected if isinstance(expected, list) else value == expected
