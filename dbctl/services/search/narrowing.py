"""The conditions that a search for text puts to an engine, and the rows among those they leave that meet it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Condition,
    Not,
    Readable,
    TextAnd,
    TextNot,
    TextOr,
    TextQuery,
    TextTerm,
    Where,
    conjuncts,
)
from dbctl.model import Value
from dbctl.services.search.snippets import plain

if TYPE_CHECKING:
    from dbctl.services.search.text_match import TextMatcher

#: Rows whose texts are in memory at a time.
CHUNK = 500


class Narrowed(Value, frozen=True):
    """What an engine is asked so that few rows are compared with the query."""

    words: Sequence[str]  #: texts that a row has to hold, wherever they stand
    where: Sequence[Where]  #: further conditions
    exact: bool  #: whether every row that meets all that meets the query, too


class Texts(Value, frozen=True, kw_only=True):
    """Where the texts of a row stand."""

    table: str
    id: str
    columns: Sequence[str]
    blocks: Sequence[str]  #: those of the columns that may hold a JSON array of blocks

    def of(self, row: Sequence[object]) -> list[str]:
        """Return the texts of a row of ``columns``."""
        values = [
            plain(value) if name in self.blocks else value
            for name, value in zip(self.columns, row, strict=True)
        ]
        return [value if isinstance(value, str) else str(value) for value in values if value is not None]


def narrow(query: TextQuery, contains: Callable[[str], Where]) -> Narrowed:
    """Return what an engine is asked; ``contains`` makes the condition that a row holds a text."""
    words: list[str] = []
    where: list[Where] = []
    exact = True
    for part in conjuncts(query):
        if isinstance(part, TextTerm):
            words += part.pieces
            exact = exact and _is_exact(part)
            continue
        condition, is_exact = _condition(part, contains)
        where += [condition] if condition else []
        exact = exact and is_exact
    return Narrowed(list(dict.fromkeys(words)), where, exact)


def _condition(query: TextQuery, contains: Callable[[str], Where]) -> tuple[Where | None, bool]:
    """Return a condition that every row meets which meets the query, and whether no other row does; None: every row may."""
    match query:
        case TextTerm():
            tests = [contains(piece) for piece in query.pieces]
            return tests[0] if len(tests) == 1 else AllOf(tests), _is_exact(query)
        case TextNot():
            condition, exact = _condition(query.query, contains)
            return (Not(condition), True) if condition and exact else (None, False)
        case TextAnd() | TextOr():
            found = [_condition(part, contains) for part in query.queries]
            conditions = [condition for condition, _ in found if condition]
            exact = all(exact for _, exact in found)
            if isinstance(query, TextAnd):
                return AllOf(conditions) if conditions else None, exact
            return AnyOf(conditions) if len(conditions) == len(found) else None, exact


def _is_exact(term: TextTerm) -> bool:
    return term.match == "part" and len(term.pieces) == 1


def matching(db: Readable, texts: Texts, matcher: TextMatcher, keys: Sequence[object]) -> Iterator[object]:
    """Yield those of the keys whose rows meet a query, in their order."""
    for at in range(0, len(keys), CHUNK):
        some = keys[at : at + CHUNK]
        rows = rows_by_key(db, texts, texts.columns, some)
        yield from (key for key in some if key in rows and matcher.matches(texts.of(rows[key])))


def rows_by_key(
    db: Readable, texts: Texts, columns: Sequence[str], keys: Sequence[object]
) -> Mapping[object, Sequence[object]]:
    """Return columns of the rows with these keys, by key."""
    found: dict[object, Sequence[object]] = {}
    for at in range(0, len(keys), CHUNK):
        where = [Condition(texts.id, "in", list(keys[at : at + CHUNK]))]
        for key, *values in db.select(texts.table, [texts.id, *columns], where):
            found[key] = values
    return found
