"""What a search looks for in texts. Engines narrow the rows down by it; ``services/text_match.py`` decides about each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from dbctl.model import Value

#: ``word``: whole words. ``prefix``: the last word may go on. ``part``: the text stands anywhere, also inside words.
Match: TypeAlias = Literal["word", "prefix", "part"]


#: Scripts that put no space between words: what begins or ends with one of their letters is found inside longer text, too.
UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


class TextTerm(Value, frozen=True):
    """A word, a phrase, the beginning of a word, or a part of the text."""

    pieces: tuple[str, ...]  #: of several, each follows the one before with nothing but signs between them
    match: Match


class TextAnd(Value, frozen=True):
    """All of them."""

    queries: Sequence[TextQuery]


class TextOr(Value, frozen=True):
    """At least one of them."""

    queries: Sequence[TextQuery]


class TextNot(Value, frozen=True):
    """Rows that do not meet it."""

    query: TextQuery


TextQuery: TypeAlias = TextTerm | TextAnd | TextOr | TextNot


def join_queries(queries: Sequence[TextQuery]) -> TextQuery | None:
    """Return what all of them ask for together; None where there is none."""
    parts = [part for query in queries for part in conjuncts(query)]
    return TextAnd(parts) if len(parts) > 1 else parts[0] if parts else None


def conjuncts(query: TextQuery) -> Sequence[TextQuery]:
    """Return the queries that must all be met."""
    return query.queries if isinstance(query, TextAnd) else [query]


def positive_terms(query: TextQuery) -> Iterator[TextTerm]:
    """Yield the terms that a row may be found by, which those below NOT are not."""
    match query:
        case TextTerm():
            yield query
        case TextAnd() | TextOr():
            for part in query.queries:
                yield from positive_terms(part)
        case TextNot():
            pass
