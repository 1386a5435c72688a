"""The query language of searches: words, quotes, ``-``, ``key:value`` and its kin, taken apart into terms.

The grammar is the Flashpoint Launcher's; which keys and quick prefixes there are is a profile's. ``"`` groups, and
ends where a space or the end of the text follows; one that is never closed reaches to the end. ``-`` negates; a quick
prefix (``#Puzzle``) stands for its key. The first of ``:``, ``=``, ``<`` and ``>`` parts key from value; where the key
is unknown, the whole is a word (``http://…``). ``key:""`` asks for exactly nothing.

Where the launcher's own engine strays from that grammar, the grammar wins here: a quote that was not closed loses no
words, ``-`` negates dates and counts too, ``installed:no`` means no, ``1.5h`` is 5,400 seconds, and the text behind a
prefix is taken literally. What it reads as 0 or leaves out (``playtime>abc``, ``title:``) is refused, because a
script whose variable is empty must not get everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl.errors import UsageError, ValueInvalidError
from dbctl.model import Value
from dbctl.services.app import question
from dbctl.services.search.query_values import SHOWN, Key, checked, typed

Operator: TypeAlias = Literal["contains", "exact", "<", ">"]

#: SQLite allows expressions a thousand levels deep; every term may be several.
MOST_TERMS = 100
_OPERATORS: dict[str, Operator] = {":": "contains", "=": "exact", "<": "<", ">": ">"}
_SPLIT = "[:=<>]"
_CLOSING = r'"(?= |\Z)'


class Term(Value, frozen=True):
    """One condition of a query; a query is all of its terms.

    ``value`` is as the key's kind says: text; a number (durations in seconds); a boolean; a date as far as it was
    given (``2005``, ``2005-03``), which ``exact`` finds as a beginning. ``exact`` with empty text asks for nothing
    at all. ``<`` is below, ``>`` is above for numbers and from that date on for dates.
    """

    key: str | None  #: None: a word of its own
    op: Operator
    value: str | int | float | bool
    negated: bool = False


def parse(text: str, keys: Mapping[str, Key], prefixes: Mapping[str, str] = {}) -> tuple[Term, ...]:
    """Take ``text`` apart. ``keys`` has every spelling of every key in lower case, ``prefixes`` a key by character.

    Raises:
        ValueInvalidError: a value does not suit its key, or something is too long.
    """
    terms: list[Term] = []
    at = 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        piece, at = _piece(text, at, keys, prefixes)
        if piece.key is not None:
            terms.append(_keyed(piece, piece.key))
        elif piece.value:
            terms.append(Term(None, "contains", checked(piece.value), piece.negated))
    return limited(terms)


def parse_filter(text: str, keys: Mapping[str, Key]) -> Term:
    """Take one condition apart, ``key=value`` with any sign; all behind the sign is the value, quotes and spaces too.

    ``key=`` asks for exactly nothing.

    Raises:
        UsageError: there is no sign, or no such key.
        ValueInvalidError: the value does not suit the key.
    """
    negated = text.startswith("-")
    split = re.search(_SPLIT, text)
    if split is None:
        raise UsageError(
            detail=f"a filter is written KEY=VALUE (exactly) or KEY:VALUE (contains), not {text[:SHOWN]!r}"
        )
    name = text[negated : split.start()]
    key = keys.get(name.lower())
    if key is None:
        raise UsageError(
            detail=f"no key {name[:SHOWN]!r}{question(name, keys)}; known: {', '.join(names_of(keys))}"
        )
    exactly = split.group() == "="
    return _keyed(_Piece(key, split.group(), text[split.end() :], quoted=exactly, negated=negated), key)


def names_of(keys: Mapping[str, Key]) -> list[str]:
    """Return the name of each key, without its other spellings."""
    return list(dict.fromkeys(key.name for key in keys.values()))


def render(terms: Iterable[Term], prefixes: Mapping[str, str] = {}) -> str:
    """Write terms so that ``parse`` reads them again as they are, given the same keys and prefixes."""
    return " ".join(_written(term, prefixes) for term in terms)


def limited(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms, unless there are more than any engine takes.

    Raises:
        ValueInvalidError: there are more than ``MOST_TERMS``.
    """
    if len(terms) > MOST_TERMS:
        raise ValueInvalidError(
            what="the query", value=f"of {len(terms):,} terms", reason=f"{MOST_TERMS} are the most"
        )
    return tuple(terms)


class _Piece(Value, frozen=True):
    key: Key | None
    op: str
    value: str
    quoted: bool
    negated: bool


def _piece(text: str, at: int, keys: Mapping[str, Key], prefixes: Mapping[str, str]) -> tuple[_Piece, int]:
    """Return what begins at ``at``, where no space is, and where it ends."""
    negated = text[at] == "-" and text[at + 1 : at + 2] not in {"", " "}
    at += negated
    if text[at] == '"':
        value, _, end = _value(text, at)
        return _Piece(None, "", value, quoted=True, negated=negated), end
    if text[at] in prefixes and text[at + 1 : at + 2] not in {"", " "}:
        value, quoted, end = _value(text, at + 1)
        return _Piece(keys[prefixes[text[at]]], ":", value, quoted=quoted, negated=negated), end
    end = _end(text, at)
    split = re.compile(_SPLIT).search(text, at, end)
    if split is None:
        return _Piece(None, "", text[at:end], quoted=False, negated=negated), end
    value, quoted, end = _value(text, split.end())
    key = keys.get(text[at : split.start()].lower())
    if key is None:
        value = text[at : split.end()] + value
    return _Piece(key, split.group(), value, quoted=quoted, negated=negated), end


def _value(text: str, at: int) -> tuple[str, bool, int]:
    """Return the value that begins at ``at``, whether it was quoted, and where it ends."""
    if text[at : at + 1] != '"':
        end = _end(text, at)
        return text[at:end], False, end
    closing = re.compile(_CLOSING).search(text, at + 1)
    if closing is None:
        return text[at + 1 :], True, len(text)
    return text[at + 1 : closing.start()], True, closing.end()


def _end(text: str, at: int) -> int:
    space = text.find(" ", at)
    return len(text) if space < 0 else space


def _keyed(piece: _Piece, key: Key) -> Term:
    op = _OPERATORS[piece.op]
    shown = repr(piece.op + piece.value[:SHOWN])
    if op in {"<", ">"} and key.kind in {"text", "boolean"}:
        raise ValueInvalidError(what=key.name, value=shown, reason="only numbers and dates are compared")
    if not piece.value and not piece.quoted:
        raise ValueInvalidError(
            what=key.name, value=shown, reason='the value is missing; "" asks for exactly nothing'
        )
    if not piece.value and key.kind in {"text", "date", "time"} and op not in {"<", ">"}:
        return Term(key.name, "exact", "", piece.negated)
    if op == "contains" and key.kind != "text":
        op = "exact"
    return Term(key.name, op, typed(key, piece.value), piece.negated)


def _written(term: Term, prefixes: Mapping[str, str]) -> str:
    sign = "-" if term.negated else ""
    if term.key is None:
        return sign + _quoted(str(term.value), plain=_plain(str(term.value), prefixes))
    if isinstance(term.value, bool):
        value = "true" if term.value else "false"
    elif isinstance(term.value, str):
        value = _quoted(term.value, plain=bool(term.value) and " " not in term.value and term.value[0] != '"')
    else:
        value = str(term.value) if isinstance(term.value, int) else f"{term.value:.6f}"
    return (
        f"{sign}{term.key}{':' if term.op == 'contains' else '=' if term.op == 'exact' else term.op}{value}"
    )


def _plain(word: str, prefixes: Mapping[str, str]) -> bool:
    return not (word[0] in {"-", '"', *prefixes} or " " in word or re.search(_SPLIT, word))


def _quoted(text: str, *, plain: bool) -> str:
    return text if plain else f'"{text}"'
