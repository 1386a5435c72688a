"""Parse the values of searches: text, numbers, durations, dates, timestamps, booleans."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import Struct

Kind: TypeAlias = Literal["text", "number", "duration", "date", "time", "count", "boolean"]

#: Characters. SQLite refuses LIKE patterns over 50,000 bytes; a pattern has at most four bytes per character.
MAX_WORD_LENGTH = 5_000
MAX_NUMBER_LENGTH = 100  #: characters; also limits the depth of parentheses
MAX_EXCERPT_LENGTH = 40  #: characters of a value in an error message

_UNITS = {"y": 31_536_000, "M": 2_592_000, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_YES = frozenset({"true", "yes", "on", "1"})
_NO = frozenset({"false", "no", "off", "0"})
_DATE = r"(?a)[0-9]{1,4}|[0-9]{4}-([0-9]{1,2}(-[0-9]{0,2})?)?"
_TIMESTAMP = (
    r"(?a)(?P<year>[0-9]{4})(-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2})"
    r"([T ](?P<clock>[0-9]{2}:[0-9]{2}(?P<seconds>:[0-9]{2}(?P<fraction>\.[0-9]{1,6})?)?)(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)
_DURATION = r"(?a)(?:[0-9]+[yMwdhms])+"
_NUMBER = r"(?as) *(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([yMwdhms]?)|(.))"
_MAX_NUMBER = 2**63 - 1


class Key(Struct, frozen=True):
    """A key that a query may name."""

    name: str
    kind: Kind


class TimeRange(Struct, frozen=True):
    """A half-open range; both ends are aware, in UTC."""

    begin: datetime
    end: datetime


def parse_value(key: Key, text: str) -> str | int | float | bool:
    """Parse a value of ``key``; dates and timestamps are validated, but returned as text.

    Raises:
        ValueInvalidError: the text is not a value of this kind.
    """
    if key.kind == "text":
        return check_text(text, key.name)
    if key.kind == "boolean":
        return _parse_boolean(key.name, text)
    if key.kind == "date":
        if not re.fullmatch(_DATE, text):
            raise _invalid_value(key.name, text, "a date is written 2005, 2005-03 or 2005-03-09")
        return text
    if key.kind == "time":
        parse_time_range(key.name, text, datetime.now(UTC))
        return text
    number = _NumberParser(key, text).parse()
    if key.kind == "count" and not isinstance(number, int):
        raise _invalid_value(key.name, text, "an integer is required")
    return number


def check_text(text: str, label: str = "the word") -> str:
    """Return the text if every engine can search for it.

    Raises:
        ValueInvalidError: it is too long, or contains characters that databases do not store.
    """
    if len(text) > MAX_WORD_LENGTH:
        raise _invalid_value(label, text, f"it is longer than {MAX_WORD_LENGTH:,} characters")
    if not is_storable(text):
        raise _invalid_value(label, text, "it is not text (a NUL, or bytes that are not UTF-8)")
    return text


def parse_time_range(name: str, text: str, now: datetime) -> TimeRange:
    """Return the range of a year, month, day or timestamp; without an offset, in UTC.

    A duration (``7d``) is the timestamp that long before ``now``.

    Raises:
        ValueInvalidError: the text has another form.
    """
    try:
        if re.fullmatch(_DURATION, text):
            timestamp = now - timedelta(seconds=_NumberParser(Key(name, "duration"), text).parse())
            return TimeRange(timestamp, timestamp)
        if match := re.fullmatch(_TIMESTAMP, text):
            return _match_to_range(match)
    except (ValueError, OverflowError):  # a thirteenth month, or before the year 1
        pass
    raise _invalid_value(
        name,
        text,
        "a time is written 2024, 2024-05, 2024-05-01, 2024-05-01T10:30:00Z, or 7d for that long ago",
    )


def _match_to_range(match: re.Match[str]) -> TimeRange:
    year, month, day = int(match["year"]), int(match["month"] or 1), int(match["day"] or 1)
    begin = datetime(year, month, day, tzinfo=UTC)
    if match["clock"]:
        begin = datetime.fromisoformat(match[0])
        begin = begin.astimezone(UTC) if begin.tzinfo else begin.replace(tzinfo=UTC)
        length = (
            timedelta(milliseconds=1)
            if match["fraction"]
            else timedelta(seconds=1 if match["seconds"] else 60)
        )
        return TimeRange(begin, begin + length)
    if match["day"]:
        return TimeRange(begin, begin + timedelta(days=1))
    after = (year, month + 1) if match["month"] and month < 12 else (year + 1, 1)  # noqa: PLR2004 - December
    return TimeRange(begin, datetime(*after, 1, tzinfo=UTC))


def _parse_boolean(name: str, text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise _invalid_value(name, text, "yes or no is required")
    return text.lower() in _YES


def _invalid_value(name: str, text: str, reason: str) -> ValueInvalidError:
    excerpt = text if len(text) <= MAX_EXCERPT_LENGTH else f"{text[:MAX_EXCERPT_LENGTH]}…"
    return ValueInvalidError(name=name, value=repr(excerpt), reason=reason)


class _NumberParser:
    """Parser of a number, a duration or an expression: ``90``, ``1h30m``, ``2*(3+4)``; whole results are ``int``."""

    def __init__(self, key: Key, text: str) -> None:
        self._name, self._text, self._units = key.name, text, key.kind == "duration"
        if len(text) > MAX_NUMBER_LENGTH:
            raise _invalid_value(self._name, self._text, "it is too long for a number")
        #: (number, unit, other character), from last to first
        self._tokens: list[tuple[str, str, str]] = re.findall(_NUMBER, text.strip(" "))[::-1]

    def parse(self) -> int | float:
        number = self._parse_sum()
        if self._tokens:
            raise _invalid_value(self._name, self._text, self._expected())
        if abs(number) > _MAX_NUMBER:
            raise _invalid_value(self._name, self._text, "it is larger than any number stored")
        return int(number) if number == int(number) else round(number, 6)

    def _parse_sum(self) -> int | float:
        total = self._parse_product()
        while (sign := self._accept("+-")) is not None:
            total += self._parse_product() if sign == "+" else -self._parse_product()
        return total

    def _parse_product(self) -> int | float:
        total = self._parse_factor()
        while (sign := self._accept("*/")) is not None:
            factor = self._parse_factor()
            if sign == "/" and not factor:
                raise _invalid_value(self._name, self._text, "it divides by zero")
            total = total * factor if sign == "*" else total / factor
        return total

    def _parse_factor(self) -> int | float:
        if self._accept("-") is not None:
            return -self._parse_factor()
        if self._accept("(") is not None:
            total = self._parse_sum()
            if self._accept(")") is None:
                raise _invalid_value(self._name, self._text, "a parenthesis is not closed")
            return total
        return self._parse_amount()

    def _parse_amount(self) -> int | float:
        """Parse one number, or a sequence of numbers with units: ``1h30m``, ``1h30``."""
        total: int | float = 0
        if not self._tokens or not self._tokens[-1][0]:
            raise _invalid_value(self._name, self._text, self._expected())
        while self._tokens and self._tokens[-1][0]:
            number, unit, _ = self._tokens.pop()
            if unit and not self._units:
                raise _invalid_value(self._name, self._text, self._expected())
            total += (float(number) if "." in number else int(number)) * _UNITS.get(unit, 1)
            if not unit:
                break
        return total

    def _accept(self, signs: str) -> str | None:
        """Consume and return the next character if it is one of ``signs``."""
        if self._tokens and self._tokens[-1][2] and self._tokens[-1][2] in signs:
            return self._tokens.pop()[2]
        return None

    def _expected(self) -> str:
        return "a duration is written 90, 1h30m or 2*45m" if self._units else "a number is required"
