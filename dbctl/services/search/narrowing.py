"""Reduce a text query to conditions for an engine, then compare the remaining rows with the query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import AllOf, AnyOf, Condition, Not, Readable, Where
from dbctl.engines.contract.fulltext import (
    TextAnd,
    TextNear,
    TextNot,
    TextOr,
    TextQuery,
    TextTerm,
    conjuncts,
)
from dbctl.model import Struct
from dbctl.services.search.snippets import extract_block_texts

if TYPE_CHECKING:
    from dbctl.services.search.text_match import TextMatcher

#: Rows whose texts are in memory at a time.
CHUNK = 500


class CandidateQuery(Struct, frozen=True):
    """Conditions for an engine that every matching row meets."""

    words: Sequence[str]  #: texts that any text column of a row must contain
    where: Sequence[Where]  #: further conditions
    exact: bool  #: whether the rows that meet the conditions all match the query


class TextColumns(Struct, frozen=True, kw_only=True):
    """The text columns of a table."""

    table: str
    id: str
    columns: Sequence[str]
    blocks: Sequence[str]  #: the columns that may contain a JSON array of blocks

    def select_texts(self, row: Sequence[object]) -> list[str]:
        """Return the texts of a row with the values of ``columns``."""
        values = [
            extract_block_texts(value) if name in self.blocks else value
            for name, value in zip(self.columns, row, strict=True)
        ]
        return [value if isinstance(value, str) else str(value) for value in values if value is not None]


def narrow(query: TextQuery, contains: Callable[[str], Where]) -> CandidateQuery:
    """Return conditions for an engine; ``contains`` creates the condition that a row contains a text."""
    words: list[str] = []
    where: list[Where] = []
    exact = True
    for part in conjuncts(query):
        if isinstance(part, TextTerm):
            words += part.words
            exact = exact and _is_exact(part)
            continue
        if isinstance(part, TextNear):
            words += [word for term in part.terms for word in term.words]
            exact = False
            continue
        condition, is_exact = _build_condition(part, contains)
        where += [condition] if condition else []
        exact = exact and is_exact
    return CandidateQuery(list(dict.fromkeys(words)), where, exact)


def _build_condition(query: TextQuery, contains: Callable[[str], Where]) -> tuple[Where | None, bool]:
    """Return a condition that all matching rows meet, or None, and whether only matching rows meet it."""
    match query:
        case TextTerm():
            tests = [contains(piece) for piece in query.words]
            return tests[0] if len(tests) == 1 else AllOf(tests), _is_exact(query)
        case TextNear():
            return _build_condition(TextAnd(query.terms), contains)[0], False
        case TextNot():
            condition, exact = _build_condition(query.query, contains)
            return (Not(condition), True) if condition and exact else (None, False)
        case TextAnd() | TextOr():
            results = [_build_condition(part, contains) for part in query.queries]
            conditions = [condition for condition, _ in results if condition]
            exact = all(exact for _, exact in results)
            if isinstance(query, TextAnd):
                return AllOf(conditions) if conditions else None, exact
            return AnyOf(conditions) if len(conditions) == len(results) else None, exact


def _is_exact(term: TextTerm) -> bool:
    return term.match == "part" and len(term.words) == 1


def filter_keys(
    db: Readable, texts: TextColumns, matcher: TextMatcher, keys: Sequence[object]
) -> Iterator[object]:
    """Yield the keys whose rows match a query, in their order."""
    for start in range(0, len(keys), CHUNK):
        batch = keys[start : start + CHUNK]
        rows = read_rows_by_key(db, texts, texts.columns, batch)
        yield from (key for key in batch if key in rows and matcher.matches(texts.select_texts(rows[key])))


def read_rows_by_key(
    db: Readable, texts: TextColumns, columns: Sequence[str], keys: Sequence[object]
) -> Mapping[object, Sequence[object]]:
    """Return columns of the rows with these keys, by key."""
    rows: dict[object, Sequence[object]] = {}
    for start in range(0, len(keys), CHUNK):
        where = [Condition(texts.id, "in", list(keys[start : start + CHUNK]))]
        for key, *values in db.select(texts.table, [texts.id, *columns], where):
            rows[key] = values
    return rows
