"""Parser of the query language of searches: words, quotes, ``-``, conditions such as ``key:value``, and their values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from dbctl.engines.sql.catalog import is_storable
from dbctl.errors.usage import UsageError, ValueInvalidError
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
_WHOLE_DATE = r"(?a)[0-9]{4}(-[0-9]{2}){0,2}"
_DATE_FORMS = "a date is written 2005, 2005-03 or 2005-03-09"
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
            raise _invalid_value(key.name, text, _DATE_FORMS)
        return text
    if key.kind == "time":
        parse_time_range(key.name, text, datetime.now(UTC))
        return text
    number = _NumberParser(key, text).parse()
    if key.kind == "count" and not isinstance(number, int):
        raise _invalid_value(key.name, text, "an integer is required")
    return number


def require_whole_date(name: str, text: str) -> None:
    """Check that a date is not only the beginning of one, which has no order: ``2005-3`` would follow ``2005-11``.

    Raises:
        ValueInvalidError: it is.
    """
    if not re.fullmatch(_WHOLE_DATE, text):
        raise _invalid_value(name, text, _DATE_FORMS)


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


Operator: TypeAlias = Literal["contains", "exact", "<", ">"]

#: SQLite allows expressions a thousand levels deep; a term may need several.
MAX_TERMS = 100
_OPERATORS: dict[str, Operator] = {":": "contains", "=": "exact", "<": "<", ">": ">"}
_SPLIT = "[:=<>]"
_CLOSING = r'"(?= |\Z)'


class Term(Struct, frozen=True):
    """One condition of a query; a row must meet all of them.

    The type of ``value`` depends on the kind of the key: text; a number (durations in seconds); a boolean; a possibly
    partial date (``2005``, ``2005-03``), which ``exact`` matches as a prefix. ``exact`` with an empty text matches rows
    without a value. ``<`` means less, ``>`` means greater for numbers and the same or later for dates.
    """

    key: str | None  #: None: a word
    op: Operator
    value: str | int | float | bool
    negated: bool = False


def parse_query(text: str, keys: Mapping[str, Key], prefixes: Mapping[str, str] = {}) -> tuple[Term, ...]:
    """Parse a query. ``keys`` has every spelling of every key in lower case, ``prefixes`` a key name by character.

    Raises:
        ValueInvalidError: a value is invalid for its key, or too long.
    """
    terms: list[Term] = []
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        raw_term, position = _read_term(text, position, keys, prefixes)
        if raw_term.key is not None:
            terms.append(_create_term(raw_term, raw_term.key))
        elif raw_term.value:
            terms.append(Term(None, "contains", check_text(raw_term.value), raw_term.negated))
    return check_term_count(terms)


def parse_filter(text: str, keys: Mapping[str, Key]) -> Term:
    """Parse one condition, ``key=value`` with any operator; the value extends to the end, with quotes and spaces.

    ``key=`` matches rows without a value.

    Raises:
        UsageError: the operator is missing, or the key is unknown.
        ValueInvalidError: the value is invalid for the key.
    """
    negated = text.startswith("-")
    split = re.search(_SPLIT, text)
    if split is None:
        raise UsageError(
            detail=f"a filter is written KEY=VALUE (exactly) or KEY:VALUE (contains), not {text[:MAX_EXCERPT_LENGTH]!r}"
        )
    name = text[negated : split.start()]
    key = keys.get(name.lower())
    if key is None:
        names = dict.fromkeys(known.name for known in keys.values())  # without their other spellings
        raise UsageError(
            detail=f"no key {name[:MAX_EXCERPT_LENGTH]!r}; known: {', '.join(names)}",
            name=name,
            candidates=keys,
        )
    is_exact = split.group() == "="
    return _create_term(
        _RawTerm(key, split.group(), text[split.end() :], quoted=is_exact, negated=negated), key
    )


def write_query(terms: Iterable[Term], prefixes: Mapping[str, str] = {}) -> str:
    """Write terms as text that ``parse_query`` parses to the same terms."""
    return " ".join(_write_term(term, prefixes) for term in terms)


def check_term_count(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms if their number is allowed.

    Raises:
        ValueInvalidError: there are more than ``MAX_TERMS``.
    """
    check_count(len(terms), "terms", MAX_TERMS)
    return tuple(terms)


def check_count(count: int, name: str, limit: int) -> None:
    """Check the number of parts of a query; raises as ``check_term_count``."""
    if count > limit:
        raise ValueInvalidError(
            name="the query", value=f"of {count:,} {name}", reason=f"the limit is {limit}"
        )


class _RawTerm(Struct, frozen=True):
    key: Key | None
    op: str
    value: str
    quoted: bool
    negated: bool


def _read_term(
    text: str, position: int, keys: Mapping[str, Key], prefixes: Mapping[str, str]
) -> tuple[_RawTerm, int]:
    """Return the term that begins at ``position``, and the position of its end."""
    negated = text[position] == "-" and text[position + 1 : position + 2] not in {"", " "}
    position += negated
    if text[position] == '"':
        value, _, end = _read_value(text, position)
        return _RawTerm(None, "", value, quoted=True, negated=negated), end
    if text[position] in prefixes and text[position + 1 : position + 2] not in {"", " "}:
        value, quoted, end = _read_value(text, position + 1)
        return _RawTerm(keys[prefixes[text[position]]], ":", value, quoted=quoted, negated=negated), end
    end = _find_end(text, position)
    split = re.compile(_SPLIT).search(text, position, end)
    if split is None:
        return _RawTerm(None, "", text[position:end], quoted=False, negated=negated), end
    value, quoted, end = _read_value(text, split.end())
    key = keys.get(text[position : split.start()].lower())
    if key is None:
        value = text[position : split.end()] + value
    return _RawTerm(key, split.group(), value, quoted=quoted, negated=negated), end


def _read_value(text: str, position: int) -> tuple[str, bool, int]:
    """Return the value that begins at ``position``, whether it is quoted, and the position of its end."""
    if text[position : position + 1] != '"':
        end = _find_end(text, position)
        return text[position:end], False, end
    closing = re.compile(_CLOSING).search(text, position + 1)
    if closing is None:
        return text[position + 1 :], True, len(text)
    return text[position + 1 : closing.start()], True, closing.end()


def _find_end(text: str, position: int) -> int:
    space = text.find(" ", position)
    return len(text) if space < 0 else space


def _create_term(raw_term: _RawTerm, key: Key) -> Term:
    op = _OPERATORS[raw_term.op]
    excerpt = repr(raw_term.op + raw_term.value[:MAX_EXCERPT_LENGTH])
    if op in {"<", ">"} and key.kind in {"text", "boolean"}:
        raise ValueInvalidError(name=key.name, value=excerpt, reason="only numbers and dates are compared")
    if not raw_term.value and not raw_term.quoted:
        raise ValueInvalidError(
            name=key.name, value=excerpt, reason='the value is missing; "" matches rows without a value'
        )
    if not raw_term.value and key.kind in {"text", "date", "time"} and op not in {"<", ">"}:
        return Term(key.name, "exact", "", raw_term.negated)
    if op == "contains" and key.kind != "text":
        op = "exact"
    return Term(key.name, op, parse_value(key, raw_term.value), raw_term.negated)


def _write_term(term: Term, prefixes: Mapping[str, str]) -> str:
    sign = "-" if term.negated else ""
    if term.key is None:
        return sign + _quote(str(term.value), plain=_is_plain(str(term.value), prefixes))
    if isinstance(term.value, bool):
        value = "true" if term.value else "false"
    elif isinstance(term.value, str):
        value = _quote(term.value, plain=bool(term.value) and " " not in term.value and term.value[0] != '"')
    else:
        value = str(term.value) if isinstance(term.value, int) else f"{term.value:.6f}"
    return (
        f"{sign}{term.key}{':' if term.op == 'contains' else '=' if term.op == 'exact' else term.op}{value}"
    )


def _is_plain(word: str, prefixes: Mapping[str, str]) -> bool:
    return not (word[0] in {"-", '"', *prefixes} or " " in word or re.search(_SPLIT, word))


def _quote(text: str, *, plain: bool) -> str:
    return text if plain else f'"{text}"'
