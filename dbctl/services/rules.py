"""What an app accepts as a name, an address or a password, by the rules of its profile."""

from __future__ import annotations

from datetime import datetime

from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError
from dbctl.model import Secret, counted
from dbctl.profiles.codecs import read_time
from dbctl.profiles.model import Rule

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
    reason = _broken(given, rule) if given.isprintable() else "it holds characters that cannot be seen"
    if reason:
        raise ValueInvalidError(what=f"the {what}", value=ascii(cut(given)), reason=reason)


def check_secret(what: str, secret: Secret, rule: Rule | None) -> None:
    """Refuse a secret that breaks ``rule``, or that no program could ask for again, without showing it.

    Raises:
        ValueInvalidError: it says which rule.
    """
    given = secret.reveal()
    reason = "it holds a NUL character" if "\0" in given else _no_text(given) or _broken(given, rule)
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


def _broken(given: str, rule: Rule | None) -> str:
    """Return how ``given`` breaks ``rule``, or nothing."""
    if rule is None:
        return ""
    if rule.length and not rule.length[0] <= len(given) <= rule.length[1]:
        return (
            f"it has {counted(len(given), 'character')}, the app takes {rule.length[0]} to {rule.length[1]}"
        )
    if rule.bytes and len(given.encode("utf-8", "surrogatepass")) > rule.bytes:
        return f"it has more than {rule.bytes} bytes of UTF-8, and what follows would not count"
    if rule.format == "email" and not _like_an_address(given):
        return "it is not like name@example.org"
    return ""


def _like_an_address(given: str) -> bool:
    name, mark, domain = given.rpartition("@")
    parts = domain.split(".")
    return (
        bool(name and mark and len(parts) > 1 and all(parts))
        and not any(sign in given for sign in ' ,;<>()"')
        and "@" not in name
    )
