"""Validation of values by the rules of a profile: names, addresses, passwords."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from math import isfinite

from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError
from dbctl.model import Secret, format_count
from dbctl.profiles import HASHES, read_time
from dbctl.profiles.model import Password, Rule, TextFormat

MAX_SHOWN_LENGTH = 40  #: characters of a refused value in a message
#: Accepted spellings of booleans.
BOOLEAN_WORDS = {
    word: value
    for value, words in ((True, "true yes on t y 1"), (False, "false no off f n 0"))
    for word in words.split()
}


def check_rule(label: str, value: str, rule: Rule | None) -> None:
    """Refuse a value that violates ``rule`` or contains unprintable characters.

    Raises:
        ValueInvalidError: names the violated rule.
    """
    if reason := text_problem(value, rule):
        raise ValueInvalidError(name=f"the {label}", value=ascii(truncate(value)), reason=reason)


def text_problem(value: str, rule: Rule | None) -> str:
    """Return how a text violates ``rule``, or that it is not printable; empty: it is valid."""
    return rule_problem(value, rule) if value.isprintable() else "it contains unprintable characters"


def check_field(field: str, value: str, rule: Rule | None) -> None:
    """Refuse an invalid value of a user's field.

    Raises:
        ValueInvalidError: names the violated rule.
    """
    check_rule(field, value, rule)
    if value != value.strip():
        reason = "it begins or ends with a space"
        raise ValueInvalidError(name=f"the {field}", value=ascii(truncate(value)), reason=reason)


def check_secret(label: str, secret: Secret, rule: Rule | None) -> None:
    """Refuse a secret that violates ``rule`` or that cannot be typed, without showing it.

    Raises:
        ValueInvalidError: names the violated rule.
    """
    value = secret.reveal()
    reason = (
        "it contains a NUL character"
        if "\0" in value
        else _encoding_problem(value) or rule_problem(value, rule)
    )
    if reason:
        raise ValueInvalidError(name=f"the {label}", value="(not shown)", reason=reason)


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


def truncate(text: str, longest: int = MAX_SHOWN_LENGTH) -> str:
    """Return the beginning of ``text`` for a message."""
    return text if len(text) <= longest else text[:longest] + "…"


def _encoding_problem(value: str) -> str:
    return "" if is_storable(value) else "it contains half of a surrogate pair"


def rule_problem(value: str, rule: Rule | None) -> str:
    """Return how a value violates ``rule``; empty: it is valid."""
    if rule is None:
        return ""
    if rule.length and not rule.length[0] <= len(value) <= rule.length[1]:
        return f"it has {format_count(len(value), 'character')}, the app accepts {rule.length[0]} to {rule.length[1]}"
    if rule.bytes and len(value.encode("utf-8", "surrogatepass")) > rule.bytes:
        return f"it has more than {rule.bytes} bytes in UTF-8, and the app ignores the rest"
    return (_format_problem(value, rule.format) if rule.format else "") or value_problem(value, rule.values)


def _format_problem(value: str, form: TextFormat) -> str:
    from dbctl.profiles import FORMATS

    return FORMATS[form](value)


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


def hash_problem(password: Password, stored: object) -> str:
    """Return why a stored value is not a password hash in the profile's format; empty: it is one."""
    if isinstance(stored, str) and (
        HASHES[password.codec].recognises(stored)
        or any(fnmatchcase(stored, pattern) for pattern in password.unusable)
    ):
        return ""
    return f"it is not a {password.codec} hash"
