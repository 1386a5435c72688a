"""What an app accepts as a name, an address or a password, by the rules of its profile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from math import isfinite

from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError
from dbctl.model import Secret, counted
from dbctl.profiles import HASHES, read_time
from dbctl.profiles.model import Password, Rule, TextFormat

LONGEST_SHOWN = 40  #: characters of a refused value in a message
#: What may be typed for yes and no.
WORDS = {
    word: meant
    for meant, words in ((True, "true yes on t y 1"), (False, "false no off f n 0"))
    for word in words.split()
}


def check_rule(what: str, given: str, rule: Rule | None) -> None:
    """Refuse ``given`` where it breaks ``rule``, or holds what cannot be seen in print.

    Raises:
        ValueInvalidError: it says which rule.
    """
    if reason := text_fault(given, rule):
        raise ValueInvalidError(what=f"the {what}", value=ascii(cut(given)), reason=reason)


def text_fault(given: str, rule: Rule | None) -> str:
    """Return how a text breaks ``rule``, or that it holds what cannot be seen in print, or nothing."""
    return fault(given, rule) if given.isprintable() else "it holds characters that cannot be seen"


def check_field(field: str, given: str, rule: Rule | None) -> None:
    """Refuse a text that a field of users may not hold.

    Raises:
        ValueInvalidError: it says which rule.
    """
    check_rule(field, given, rule)
    if given != given.strip():
        reason = "it begins or ends with a blank"
        raise ValueInvalidError(what=f"the {field}", value=ascii(cut(given)), reason=reason)


def check_secret(what: str, secret: Secret, rule: Rule | None) -> None:
    """Refuse a secret that breaks ``rule``, or that no program could ask for again, without showing it.

    Raises:
        ValueInvalidError: it says which rule.
    """
    given = secret.reveal()
    reason = "it holds a NUL character" if "\0" in given else _no_text(given) or fault(given, rule)
    if reason:
        raise ValueInvalidError(what=f"the {what}", value="(not shown)", reason=reason)


def read_word(what: str, given: str) -> bool:
    """Return what a word for yes or no means.

    Raises:
        ValueInvalidError: it is neither.
    """
    if given.strip().lower() not in WORDS:
        raise ValueInvalidError(what=what, value=ascii(cut(given)), reason="it is neither true nor false")
    return WORDS[given.strip().lower()]


def read_moment(what: str, given: str) -> datetime:
    """Return the moment that was typed, in any form that an app stores; UTC where it names no zone.

    Raises:
        ValueInvalidError: it is none.
    """
    found = read_time(given)
    if found is None:
        reason = "it is not written like 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ValueInvalidError(what=what, value=ascii(cut(given)), reason=reason)
    return found


def cut(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return as much of ``text`` as a message shows."""
    return text if len(text) <= longest else text[:longest] + "…"


def _no_text(given: str) -> str:
    return "" if is_storable(given) else "it holds half of a character pair, which is no text"


def fault(given: str, rule: Rule | None) -> str:
    """Return how ``given`` breaks ``rule``, or nothing."""
    if rule is None:
        return ""
    if rule.length and not rule.length[0] <= len(given) <= rule.length[1]:
        return (
            f"it has {counted(len(given), 'character')}, the app takes {rule.length[0]} to {rule.length[1]}"
        )
    if rule.bytes and len(given.encode("utf-8", "surrogatepass")) > rule.bytes:
        return f"it has more than {rule.bytes} bytes of UTF-8, and what follows would not count"
    return (_misshapen(given, rule.format) if rule.format else "") or outside(given, rule.values)


def _misshapen(given: str, form: TextFormat) -> str:
    from dbctl.profiles import FORMATS

    return FORMATS[form](given)


def outside(value: object, known: Sequence[object]) -> str:
    """Return why a stored value is none of those that the app knows, or nothing; where none are listed, it knows all."""
    if not known or as_word(value) in map(as_word, known):
        return ""
    return f"the app knows {', '.join(map(str, known))}"


def as_word(value: object) -> str:
    """Return what two values have in common that are the same to a list of values: drivers differ in types of numbers."""
    if isinstance(value, float | Decimal) and isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def hash_fault(told: Password, stored: object) -> str:
    """Return why a stored value is no password hash in the format that the profile names, or nothing."""
    if isinstance(stored, str) and (
        HASHES[told.codec].recognises(stored)
        or any(fnmatchcase(stored, pattern) for pattern in told.unusable)
    ):
        return ""
    return f"it is no {told.codec} hash"
