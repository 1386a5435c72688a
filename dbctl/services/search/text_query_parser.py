"""The language of the words of a search: words, phrases, prefixes, parts, AND, OR, NOT and parentheses.

``plant pot``, ``plant AND pot``: both words, anywhere. ``plant OR pot``: one of them. ``NOT pot``, ``-pot``: not this one.
``"plant pot"``: a phrase. ``plan*``: words with this prefix. ``*lan*``: any part of the text. ``=plant``: the whole word, also in
searches whose bare words also match inside words. NOT binds closer than AND, AND closer than OR.

Every other sign is literal text. An incomplete query is no error: an operator without a term is a word, a quotation mark
or a parenthesis without its partner is a sign. The launcher's query language (``query_language.py``) has neither OR nor
parentheses, and other rules for the end of a quotation, so each has its own parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from dbctl.engines.contract import TextAnd, TextNot, TextOr, TextQuery, TextTerm, join_queries
from dbctl.errors import ValueInvalidError
from dbctl.services.search.query_parser import MOST_TERMS
from dbctl.services.search.query_values import checked

_Sign: TypeAlias = Literal["(", ")", "-", "AND", "OR", "NOT"]
_Token: TypeAlias = _Sign | TextTerm
_OPERATORS: dict[str, _Sign] = {"AND": "AND", "OR": "OR", "NOT": "NOT"}
_NEGATIONS = ("NOT", "-")


def parse_text(text: str, *, parts: bool = False) -> TextQuery | None:
    """Return the query of a text; None for an empty query.

    Args:
        text: in the language of this module.
        parts: whether a bare word also matches inside words.

    Raises:
        ValueInvalidError: a term is too long, or there are too many of them.
    """
    tokens = _join_operators(_match_parentheses(_Reader(text, parts=parts).tokens()))
    terms = sum(isinstance(symbol, TextTerm) for symbol in tokens)
    if terms > MOST_TERMS or len(tokens) > 4 * MOST_TERMS:
        raise ValueInvalidError(
            what="the query", value=f"of {terms:,} terms", reason=f"{MOST_TERMS} are the most"
        )
    return _Parser(tokens).either() if tokens else None


def write_text(query: TextQuery | None, *, parts: bool = False) -> str:
    """Write a query as text that ``parse_text`` parses to the same query."""
    match query:
        case None:
            return ""
        case TextTerm():
            return _write_term(query, parts=parts)
        case TextNot(query=inner):
            return f"NOT {_grouped(inner, parts=parts)}"
        case TextAnd():
            return " ".join(
                _grouped(part, parts=parts) if isinstance(part, TextOr) else write_text(part, parts=parts)
                for part in query.queries
            )
        case TextOr():
            return " OR ".join(write_text(part, parts=parts) for part in query.queries)


def _grouped(query: TextQuery, *, parts: bool) -> str:
    written = write_text(query, parts=parts)
    return f"({written})" if isinstance(query, TextAnd | TextOr) else written


def _write_term(term: TextTerm, *, parts: bool) -> str:
    text = " ".join(term.pieces)
    if term.match == "part" and not parts:
        return f"*{text}*"
    if _Reader(text, parts=parts).tokens() == [term]:
        return text
    sign = "=" if parts and term.match != "part" else ""
    return f'{sign}"{text}"' + "*" * (term.match == "prefix")


class _Reader:
    """Splits a text into terms and signs."""

    def __init__(self, text: str, *, parts: bool) -> None:
        self._text, self._parts, self._open = text, parts, 0

    def tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self._text):
            if self._text[at].isspace():
                at += 1
                continue
            symbol, at = self._next(at)
            if not isinstance(symbol, TextTerm) or symbol.pieces:  # an empty phrase is ignored
                tokens.append(symbol)
        return tokens

    def _next(self, at: int) -> tuple[_Token, int]:
        sign, behind = self._text[at], self._text[at + 1 : at + 2]
        if sign == "-" and behind.strip() and behind != "-":
            return "-", at + 1
        if sign == "(":
            self._open += 1
            return "(", at + 1
        if sign == ")" and self._open:
            self._open -= 1
            return ")", at + 1
        whole = sign == "=" and bool(behind.strip())
        begin = at + whole
        if self._text[begin] == '"' and (end := self._text.find('"', begin + 1)) > 0:
            return self._phrase(begin + 1, end, whole=whole)
        return self._word(at, whole=whole)

    def _phrase(self, begin: int, end: int, *, whole: bool) -> tuple[TextTerm, int]:
        text = checked(self._text[begin:end])
        prefix = self._text[end + 1 : end + 2] == "*"
        if prefix:
            return TextTerm(tuple(text.split()), "prefix"), end + 2
        if self._parts and not whole:
            return TextTerm((text,) if text else (), "part"), end + 1
        return TextTerm(tuple(text.split()), "word"), end + 1

    def _word(self, at: int, *, whole: bool) -> tuple[_Token, int]:
        end = at
        while end < len(self._text) and not self._text[end].isspace():
            end += 1
        text = self._text[at:end]
        # A parenthesis inside a word belongs to the word; one that closes a group ends it.
        while self._open and text.endswith(")") and text.count(")") > text.count("("):
            text, end = text[:-1], end - 1
        if text in _OPERATORS:
            return _OPERATORS[text], end
        return self._term(checked(text), whole=whole), end

    def _term(self, text: str, *, whole: bool) -> TextTerm:
        bare = text.strip("*")
        if bare and text.startswith("*") and text.endswith("*"):
            return TextTerm((text[1:-1],), "part")
        text = text[1:] if whole else text
        if bare and text.endswith("*") and len(text) > 1:
            return TextTerm((text[:-1],), "prefix")
        return TextTerm((text,), "part" if self._parts and not whole else "word")


def _match_parentheses(tokens: Sequence[_Token]) -> list[_Token]:
    """Return the tokens; a parenthesis without partner or content becomes a sign."""
    opened: list[int] = []
    paired: set[int] = set()
    for at, symbol in enumerate(tokens):
        if symbol == "(":
            opened.append(at)
        elif symbol == ")" and opened:
            begin = opened.pop()
            if begin + 1 < at:
                paired |= {begin, at}
    return [
        TextTerm((symbol,), "word") if symbol in ("(", ")") and at not in paired else symbol
        for at, symbol in enumerate(tokens)
    ]


def _join_operators(tokens: Sequence[_Token]) -> list[_Token]:
    """Return the tokens; an operator without operands becomes a word."""
    result: list[_Token] = []
    for at, symbol in enumerate(tokens):
        before, behind = result[-1] if result else None, tokens[at + 1] if at + 1 < len(tokens) else None
        begins = isinstance(behind, TextTerm) or behind in ("(", *_NEGATIONS)
        ends = isinstance(before, TextTerm) or before == ")"
        if symbol in ("AND", "OR", *_NEGATIONS) and not (begins and (ends or symbol in _NEGATIONS)):
            result.append(TextTerm((str(symbol),), "word"))
        else:
            result.append(symbol)
    return result


class _Parser:
    """Builds one query from tokens whose operators all have their operands."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = [*tokens]
        self._at = 0

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def either(self) -> TextQuery:
        """Return the query up to a closing parenthesis, or to the end."""
        queries = [self._both()]
        while self._peek() == "OR":
            self._at += 1
            queries.append(self._both())
        return TextOr(queries) if len(queries) > 1 else queries[0]

    def _both(self) -> TextQuery:
        queries = [self._single()]
        while (symbol := self._peek()) not in (None, "OR", ")"):
            self._at += symbol == "AND"
            queries.append(self._single())
        return join_queries(queries) or queries[0]

    def _single(self) -> TextQuery:
        negated = False
        while self._peek() in _NEGATIONS:
            self._at += 1
            negated = not negated
        symbol = self._peek()
        self._at += 1
        if isinstance(symbol, TextTerm):
            query: TextQuery = symbol
        else:  # a parenthesis
            query = self.either()
            self._at += 1
        return TextNot(query) if negated else query
