"""Values of searches as a person writes them: text, numbers, durations, dates, moments, yes and no."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from dbctl.engines.sql import is_storable
from dbctl.errors import ValueInvalidError
from dbctl.model import Value

Kind: TypeAlias = Literal["text", "number", "duration", "date", "time", "count", "boolean"]

#: In characters. SQLite refuses LIKE patterns over 50,000 bytes: one of ours is at most four bytes a character.
LONGEST_WORD = 5_000
LONGEST_NUMBER = 100  #: in characters, which also bounds how deep its parentheses go
SHOWN = 40  #: characters of a refused value

_UNITS = {"y": 31_536_000, "M": 2_592_000, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_YES = frozenset({"true", "yes", "on", "1"})
_NO = frozenset({"false", "no", "off", "0"})
_DATE = r"(?a)[0-9]{1,4}|[0-9]{4}-([0-9]{1,2}(-[0-9]{0,2})?)?"
_MOMENT = (
    r"(?a)(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2})"
    r"([T ](?P<clock>[0-9]{2}:[0-9]{2}(?P<seconds>:[0-9]{2}(?P<fraction>\.[0-9]{1,6})?)?)(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)
_AGO = r"(?a)(?:[0-9]+[yMwdhms])+"
_NUMBER = r"(?as) *(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([yMwdhms]?)|(.))"
_LARGEST = 2**63 - 1


class Key(Value, frozen=True):
    """A key that a query may name."""

    name: str
    kind: Kind


class Span(Value, frozen=True):
    """From ``begin`` until just before ``end``; both aware, in UTC."""

    begin: datetime
    end: datetime


def typed(key: Key, text: str) -> str | int | float | bool:
    """Return what ``text`` means as a value of ``key``; dates and moments stay as they were written.

    Raises:
        ValueInvalidError: it means nothing there.
    """
    if key.kind == "text":
        return checked(text, key.name)
    if key.kind == "boolean":
        return _boolean(key.name, text)
    if key.kind == "date":
        if not re.fullmatch(_DATE, text):
            raise _refused(key.name, text, "a date is written 2005, 2005-03 or 2005-03-09")
        return text
    if key.kind == "time":
        span(key.name, text, datetime.now(UTC))
        return text
    number = _Arithmetic(key, text).result()
    if key.kind == "count" and not isinstance(number, int):
        raise _refused(key.name, text, "a whole number is wanted")
    return number


def checked(text: str, what: str = "the word") -> str:
    """Return text that any engine can look for.

    Raises:
        ValueInvalidError: it is too long, or holds what no database stores as text.
    """
    if len(text) > LONGEST_WORD:
        raise _refused(what, text, f"it is longer than {LONGEST_WORD:,} characters")
    if not is_storable(text):
        raise _refused(what, text, "it is not text (a NUL, or bytes that are not UTF-8)")
    return text


def span(name: str, text: str, now: datetime) -> Span:
    """Return the time that ``text`` stands for: a year, a month, a day, or a moment in UTC unless it says otherwise.

    A duration (``7d``) is the moment that long before ``now``.

    Raises:
        ValueInvalidError: it is none of these.
    """
    try:
        if re.fullmatch(_AGO, text):
            moment = now - timedelta(seconds=_Arithmetic(Key(name, "duration"), text).result())
            return Span(moment, moment)
        if found := re.fullmatch(_MOMENT, text):
            return _span(found)
    except (ValueError, OverflowError):  # a thirteenth month, or before the year 1
        pass
    raise _refused(
        name,
        text,
        "a time is written 2024, 2024-05, 2024-05-01, 2024-05-01T10:30:00Z, or 7d for that long ago",
    )


def _span(found: re.Match[str]) -> Span:
    year, month, day = int(found["year"]), int(found["month"] or 1), int(found["day"] or 1)
    begin = datetime(year, month, day, tzinfo=UTC)
    if found["clock"]:
        begin = datetime.fromisoformat(found[0])
        begin = begin.astimezone(UTC) if begin.tzinfo else begin.replace(tzinfo=UTC)
        length = (
            timedelta(milliseconds=1)
            if found["fraction"]
            else timedelta(seconds=1 if found["seconds"] else 60)
        )
        return Span(begin, begin + length)
    if found["day"]:
        return Span(begin, begin + timedelta(days=1))
    after = (year, month + 1) if found["month"] and month < 12 else (year + 1, 1)  # noqa: PLR2004 - December
    return Span(begin, datetime(*after, 1, tzinfo=UTC))


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise _refused(name, text, "yes or no is wanted")
    return text.lower() in _YES


def _refused(name: str, text: str, reason: str) -> ValueInvalidError:
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return ValueInvalidError(what=name, value=repr(shown), reason=reason)


class _Arithmetic:
    """A number as a person writes one: ``90``, ``1h30m``, ``2*(3+4)``; whole results are ``int``."""

    def __init__(self, key: Key, text: str) -> None:
        self._name, self._text, self._units = key.name, text, key.kind == "duration"
        if len(text) > LONGEST_NUMBER:
            raise _refused(self._name, self._text, "it is too long for a number")
        #: (number, unit, other character), from last to first
        self._tokens: list[tuple[str, str, str]] = re.findall(_NUMBER, text.strip(" "))[::-1]

    def result(self) -> int | float:
        number = self._sum()
        if self._tokens:
            raise _refused(self._name, self._text, self._wanted())
        if abs(number) > _LARGEST:
            raise _refused(self._name, self._text, "it is larger than any number stored")
        return int(number) if number == int(number) else round(number, 6)

    def _sum(self) -> int | float:
        total = self._product()
        while (sign := self._next("+-")) is not None:
            total += self._product() if sign == "+" else -self._product()
        return total

    def _product(self) -> int | float:
        total = self._factor()
        while (sign := self._next("*/")) is not None:
            factor = self._factor()
            if sign == "/" and not factor:
                raise _refused(self._name, self._text, "it divides by zero")
            total = total * factor if sign == "*" else total / factor
        return total

    def _factor(self) -> int | float:
        if self._next("-") is not None:
            return -self._factor()
        if self._next("(") is not None:
            total = self._sum()
            if self._next(")") is None:
                raise _refused(self._name, self._text, "a parenthesis is not closed")
            return total
        return self._amount()

    def _amount(self) -> int | float:
        """One number, or several with units that follow each other: ``1h30m``, ``1h30``."""
        total: int | float = 0
        if not self._tokens or not self._tokens[-1][0]:
            raise _refused(self._name, self._text, self._wanted())
        while self._tokens and self._tokens[-1][0]:
            number, unit, _ = self._tokens.pop()
            if unit and not self._units:
                raise _refused(self._name, self._text, self._wanted())
            total += (float(number) if "." in number else int(number)) * _UNITS.get(unit, 1)
            if not unit:
                break
        return total

    def _next(self, signs: str) -> str | None:
        """Take the next character if it is one of ``signs``."""
        if self._tokens and self._tokens[-1][2] and self._tokens[-1][2] in signs:
            return self._tokens.pop()[2]
        return None

    def _wanted(self) -> str:
        return "a duration is written 90, 1h30m or 2*45m" if self._units else "a number is wanted"
