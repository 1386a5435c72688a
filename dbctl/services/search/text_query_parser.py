"""Parser of text queries: words, phrases, prefixes, parts, AND, OR, NOT and parentheses.

``plant pot``, ``plant AND pot``: both words, anywhere. ``plant OR pot``: one of them. ``NOT pot``, ``-pot``: not this word.
``"plant pot"``: a phrase. ``plan*``: words with this prefix. ``*lan*``: any part of the text. ``=plant``: the whole word, also in
searches whose bare words also match inside words. ``NEAR(plant pot, 5)``: both in one text, with at most 5 words between them (without
a number: 10), as in FTS5. NOT binds closer than AND, AND closer than OR.

Every other character is literal text. An incomplete query is not an error: an operator without a term is a word, an unpaired
quotation mark or parenthesis is literal, as is ``NEAR(…)`` with an operator, a parenthesis or fewer than two terms. The launcher's query language (``query_parser.py``) has neither OR nor
parentheses, and ends quotations by other rules, so each language has its own parser.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from dbctl.engines.contract.fulltext import (
    TextAnd,
    TextNear,
    TextNot,
    TextOr,
    TextQuery,
    TextTerm,
    join_queries,
)
from dbctl.services.search.query_parser import MAX_TERMS, check_count, check_text

_Sign: TypeAlias = Literal["(", ")", "-", "AND", "OR", "NOT"]
_Operand: TypeAlias = TextTerm | TextNear
_Token: TypeAlias = _Sign | _Operand
_OPERATORS: dict[str, _Sign] = {"AND": "AND", "OR": "OR", "NOT": "NOT"}
_NEGATIONS = ("NOT", "-")
#: ``NEAR(terms, distance)``, at its end or before a closing parenthesis.
_NEAR = r'NEAR\(((?:"[^"]*"|[^"()])*?)(?:,\s*([0-9]{1,9})\s*)?\)(?=[\s)]|\Z)'
#: Words between the terms if the query has no number, as in FTS5.
DEFAULT_DISTANCE = 10


def parse_text(text: str, *, inside_words: bool = False) -> TextQuery | None:
    """Return the query of a text in the language of this module; None for an empty query.

    ``inside_words``: a bare word also matches inside words.

    Raises:
        ValueInvalidError: a term is too long, or there are too many of them.
    """
    tokens = _join_operators(_match_parentheses(_Reader(text, inside_words=inside_words).tokens()))
    terms = sum(
        len(symbol.terms) if isinstance(symbol, TextNear) else isinstance(symbol, TextTerm)
        for symbol in tokens
    )
    check_count(terms, "terms", MAX_TERMS)
    check_count(len(tokens), "terms, operators and parentheses", 4 * MAX_TERMS)
    return _Parser(tokens).parse_or() if tokens else None


def write_text(query: TextQuery | None, *, inside_words: bool = False) -> str:
    """Write a query as text that ``parse_text`` parses to the same query."""
    match query:
        case None:
            return ""
        case TextTerm():
            return _write_term(query, inside_words=inside_words)
        case TextNear():
            terms = " ".join(_write_term(term, inside_words=inside_words, near=True) for term in query.terms)
            return f"NEAR({terms}, {query.distance})"
        case TextNot(query=inner):
            return f"NOT {_write_group(inner, inside_words=inside_words)}"
        case TextAnd():
            return " ".join(
                _write_group(inner_query, inside_words=inside_words)
                if isinstance(inner_query, TextOr)
                else write_text(inner_query, inside_words=inside_words)
                for inner_query in query.queries
            )
        case TextOr():
            return " OR ".join(
                write_text(inner_query, inside_words=inside_words) for inner_query in query.queries
            )


def _write_group(query: TextQuery, *, inside_words: bool) -> str:
    text = write_text(query, inside_words=inside_words)
    return f"({text})" if isinstance(query, TextAnd | TextOr) else text


def _write_term(term: TextTerm, *, inside_words: bool, near: bool = False) -> str:
    text = " ".join(term.words)
    if term.match == "part" and not inside_words:
        return f"*{text}*"
    is_sign = text.startswith("NEAR(") or (near and not {*"(),"}.isdisjoint(text))
    if not is_sign and _Reader(text, inside_words=inside_words).tokens() == [term]:
        return text
    sign = "=" if inside_words and term.match != "part" else ""
    return f'{sign}"{text}"' + "*" * (term.match == "prefix")


class _Reader:
    """Lexer that splits a text into terms and signs."""

    def __init__(self, text: str, *, inside_words: bool) -> None:
        self._text, self._parts, self._open = text, inside_words, 0

    def tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while position < len(self._text):
            if self._text[position].isspace():
                position += 1
                continue
            symbol, position = self._next(position)
            if not isinstance(symbol, TextTerm) or symbol.words:  # an empty phrase is ignored
                tokens.append(symbol)
        return tokens

    def _next(self, position: int) -> tuple[_Token, int]:
        sign, following = self._text[position], self._text[position + 1 : position + 2]
        if sign == "-" and following.strip() and following != "-":
            return "-", position + 1
        if sign == "(":
            self._open += 1
            return "(", position + 1
        if sign == ")" and self._open:
            self._open -= 1
            return ")", position + 1
        if near := self._near(position):
            return near
        whole_word = sign == "=" and bool(following.strip())
        begin = position + whole_word
        if self._text[begin] == '"' and (end := self._text.find('"', begin + 1)) > 0:
            return self._phrase(begin + 1, end, whole_word=whole_word)
        return self._word(position, whole_word=whole_word)

    def _near(self, position: int) -> tuple[TextNear, int] | None:
        """Return the terms of ``NEAR(…)`` and the position of its end; None if the text there is no such expression."""
        is_near = self._text.startswith("NEAR(", position)
        match = re.compile(_NEAR).match(self._text, position) if is_near else None
        tokens = _Reader(match[1], inside_words=self._parts).tokens() if match else []
        terms = tuple(symbol for symbol in tokens if isinstance(symbol, TextTerm))
        if match is None or len(terms) < 2 or len(terms) < len(tokens):  # noqa: PLR2004 - one term is near to nothing
            return None
        return TextNear(terms, int(match[2] or DEFAULT_DISTANCE)), match.end()

    def _phrase(self, begin: int, end: int, *, whole_word: bool) -> tuple[TextTerm, int]:
        text = check_text(self._text[begin:end])
        prefix = self._text[end + 1 : end + 2] == "*"
        if prefix:
            return TextTerm(tuple(text.split()), "prefix"), end + 2
        if self._parts and not whole_word:
            return TextTerm((text,) if text else (), "part"), end + 1
        return TextTerm(tuple(text.split()), "word"), end + 1

    def _word(self, start: int, *, whole_word: bool) -> tuple[_Token, int]:
        end = start
        while end < len(self._text) and not self._text[end].isspace():
            end += 1
        text = self._text[start:end]
        # A parenthesis inside a word belongs to the word; one that closes a group ends it.
        while self._open and text.endswith(")") and text.count(")") > text.count("("):
            text, end = text[:-1], end - 1
        if text in _OPERATORS:
            return _OPERATORS[text], end
        return self._term(check_text(text), whole_word=whole_word and len(text) > 1), end

    def _term(self, text: str, *, whole_word: bool) -> TextTerm:
        bare = text.strip("*")
        if bare and text.startswith("*") and text.endswith("*"):
            return TextTerm((text[1:-1],), "part")
        text = text[1:] if whole_word else text
        if bare and text.endswith("*") and len(text) > 1:
            return TextTerm((text[:-1],), "prefix")
        return TextTerm((text,), "part" if self._parts and not whole_word else "word")


def _match_parentheses(tokens: Sequence[_Token]) -> list[_Token]:
    """Return the tokens; an unpaired or empty parenthesis becomes a word."""
    opened: list[int] = []
    paired: set[int] = set()
    for index, symbol in enumerate(tokens):
        if symbol == "(":
            opened.append(index)
        elif symbol == ")" and opened:
            begin = opened.pop()
            if begin + 1 < index:
                paired |= {begin, index}
    return [
        TextTerm((symbol,), "word") if symbol in ("(", ")") and index not in paired else symbol
        for index, symbol in enumerate(tokens)
    ]


def _join_operators(tokens: Sequence[_Token]) -> list[_Token]:
    """Return the tokens; an operator without operands becomes a word."""
    result: list[_Token] = []
    for index, symbol in enumerate(tokens):
        previous = result[-1] if result else None
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        has_right = isinstance(following, _Operand) or following in ("(", *_NEGATIONS)
        has_left = isinstance(previous, _Operand) or previous == ")"
        if symbol in ("AND", "OR", *_NEGATIONS) and not (has_right and (has_left or symbol in _NEGATIONS)):
            result.append(TextTerm((str(symbol),), "word"))
        else:
            result.append(symbol)
    return result


class _Parser:
    """Parser of tokens into one query; all operators have their operands."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = [*tokens]
        self._position = 0

    def _peek(self) -> _Token | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def parse_or(self) -> TextQuery:
        """Return the query up to a closing parenthesis, or to the end."""
        queries = [self._parse_and()]
        while self._peek() == "OR":
            self._position += 1
            queries.append(self._parse_and())
        return TextOr(queries) if len(queries) > 1 else queries[0]

    def _parse_and(self) -> TextQuery:
        queries = [self._parse_not()]
        while (symbol := self._peek()) not in (None, "OR", ")"):
            self._position += symbol == "AND"
            queries.append(self._parse_not())
        return join_queries(queries) or queries[0]

    def _parse_not(self) -> TextQuery:
        negated = False
        while self._peek() in _NEGATIONS:
            self._position += 1
            negated = not negated
        symbol = self._peek()
        self._position += 1
        if isinstance(symbol, _Operand):
            query: TextQuery = symbol
        else:  # a parenthesis
            query = self.parse_or()
            self._position += 1
        return TextNot(query) if negated else query
