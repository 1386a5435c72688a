"""Text queries. Engines use them to select candidate rows; ``services/search/text_match.py`` compares each row with the query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from dbctl.model import Struct

#: ``word``: whole words. ``prefix``: the last word is a prefix. ``part``: the text occurs anywhere, also inside words.
MatchKind: TypeAlias = Literal["word", "prefix", "part"]


#: Scripts without spaces between words: a term that begins or ends with one of their letters also matches inside longer text.
UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


class TextTerm(Struct, frozen=True):
    """A word, a phrase, the beginning of a word, or a part of the text."""

    words: tuple[str, ...]  #: words of a phrase, separated only by spaces and punctuation
    match: MatchKind


class TextAnd(Struct, frozen=True):
    """All of the queries."""

    queries: Sequence[TextQuery]


class TextOr(Struct, frozen=True):
    """At least one of the queries."""

    queries: Sequence[TextQuery]


class TextNot(Struct, frozen=True):
    """Rows that do not match the query."""

    query: TextQuery


TextQuery: TypeAlias = TextTerm | TextAnd | TextOr | TextNot


def join_queries(queries: Sequence[TextQuery]) -> TextQuery | None:
    """Return the conjunction of queries; None without any."""
    parts = [part for query in queries for part in conjuncts(query)]
    return TextAnd(parts) if len(parts) > 1 else parts[0] if parts else None


def conjuncts(query: TextQuery) -> Sequence[TextQuery]:
    """Return the queries that must all match."""
    return query.queries if isinstance(query, TextAnd) else [query]


def positive_terms(query: TextQuery) -> Iterator[TextTerm]:
    """Yield the terms that a row may match: all except those below NOT."""
    match query:
        case TextTerm():
            yield query
        case TextAnd() | TextOr():
            for part in query.queries:
                yield from positive_terms(part)
        case TextNot():
            pass
