"""Parser of the query language of searches: words, quotes, ``-`` and conditions such as ``key:value``.

The grammar is that of the Flashpoint Launcher; the profile defines the keys and prefixes. ``"`` groups; a closing quote
is followed by a space or the end of the text, and a quote without one extends to the end. ``-`` negates; a prefix
(``#Puzzle``) stands for its key. The first of ``:``, ``=``, ``<`` and ``>`` separates key and value; with an unknown
key, the whole text is a word (``http://…``). ``key:""`` matches rows without a value.

The launcher's engine deviates from its grammar; this parser does not: an unclosed quote loses no words, ``-`` negates
dates and counts too, ``installed:no`` means no, ``1.5h`` is 5,400 seconds, and the text after a prefix is literal.
Values that the launcher reads as 0 or ignores (``playtime>abc``, ``title:``) are errors: a script with an empty
variable must not get all rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.model import Struct
from dbctl.services.search.query_values import MAX_EXCERPT_LENGTH, Key, check_text, parse_value

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
        raise UsageError(
            detail=f"no key {name[:MAX_EXCERPT_LENGTH]!r}; known: {', '.join(list_key_names(keys))}",
            name=name,
            candidates=keys,
        )
    is_exact = split.group() == "="
    return _create_term(
        _RawTerm(key, split.group(), text[split.end() :], quoted=is_exact, negated=negated), key
    )


def list_key_names(keys: Mapping[str, Key]) -> list[str]:
    """Return the name of each key, without its other spellings."""
    return list(dict.fromkeys(key.name for key in keys.values()))


def write_query(terms: Iterable[Term], prefixes: Mapping[str, str] = {}) -> str:
    """Write terms as text that ``parse_query`` parses to the same terms."""
    return " ".join(_write_term(term, prefixes) for term in terms)


def check_term_count(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Return the terms if their number is allowed.

    Raises:
        ValueInvalidError: there are more than ``MAX_TERMS``.
    """
    if len(terms) > MAX_TERMS:
        raise ValueInvalidError(
            name="the query", value=f"of {len(terms):,} terms", reason=f"the limit is {MAX_TERMS}"
        )
    return tuple(terms)


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
