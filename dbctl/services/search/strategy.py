"""How the rows of a search are found: by an index of an extension, by the full-text index, or by a select whose rows are compared with the query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import structs

from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Condition,
    Not,
    Order,
    Query,
    Readable,
    Where,
    require_supported,
)
from dbctl.engines.contract.fulltext import (
    FullText,
    TextAnd,
    TextNear,
    TextNot,
    TextOr,
    TextQuery,
    TextTerm,
    conjuncts,
)
from dbctl.errors.connection import ExternalIndexInvalidError
from dbctl.model import PageRequest, Struct, split_batches
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.search.compiler import QueryCompiler, select_existing
from dbctl.services.search.indexes.kinds import RowSource, Strategy, find_kind, select_page
from dbctl.services.search.snippets import extract_block_texts

if TYPE_CHECKING:
    from dbctl.services.search.fulltext import IndexQuery
    from dbctl.services.search.text_match import TextMatcher


#: Rows whose texts are in memory at a time.
CHUNK = 500


class CandidateQuery(Struct, frozen=True):
    """Conditions for an engine that every matching row meets."""

    words: Sequence[str]  #: texts that any text column of a row must contain
    where: Sequence[Where]  #: further conditions
    exact: bool  #: whether the rows that meet the conditions all match the query


class TextColumns(Struct, frozen=True, kw_only=True):
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
            is_exact = _is_exact(part)
        elif isinstance(part, TextNear):
            words += [word for term in part.terms for word in term.words]
            is_exact = False
        else:
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
    for batch in split_batches(keys, CHUNK):
        rows = read_rows_by_key(db, texts, texts.columns, batch)
        yield from (key for key in batch if key in rows and matcher.matches(texts.select_texts(rows[key])))


def read_rows_by_key(
    db: Readable, texts: TextColumns, columns: Sequence[str], keys: Sequence[object]
) -> Mapping[object, Sequence[object]]:
    """Return columns of the rows with these keys, by key."""
    rows: dict[object, Sequence[object]] = {}
    for batch in split_batches(keys, CHUNK):
        where = [Condition(texts.id, "in", batch)]
        for key, *values in db.select(texts.table, [texts.id, *columns], where):
            rows[key] = values
    return rows


class PlainSelect:
    """A select with conditions: the engine reads every row, or uses indexes of its own."""

    extra_columns: Sequence[str] = ()

    def __init__(self, db: Readable, query: Query) -> None:
        self._db, self._query = db, query

    def rows(self, columns: Sequence[str], page: PageRequest) -> list[tuple[object, ...]]:
        return self._db.read_rows(select_page(self._query, columns, page))

    def count(self) -> int:
        return self._db.count(self._query.table, self._query.where)

    def explain(self, columns: Sequence[str], page: PageRequest) -> Explanation:
        hint = "Its engine cannot explain queries."
        explainer = require_supported(self._db, self._db.explainer, "--explain", hint)
        return explainer.explain(select_page(self._query, columns, page))


class RankedSelect:
    """A query of the full-text index of the database. Without an order, rows are sorted by their score.

    The index returns candidates without a limit: their texts must be compared with the query.
    """

    extra_columns: Sequence[str] = ("score",)

    def __init__(self, fulltext: FullText, text: IndexQuery, query: Query) -> None:
        self._fulltext, self._text, self._query = fulltext, text, query

    def rows(self, columns: Sequence[str], page: PageRequest) -> list[tuple[object, ...]]:  # noqa: ARG002 - always all
        query = structs.replace(self._query, columns=columns)
        return self._fulltext.select_ranked(self._text.index, self._text.query, query)

    def explain(self, columns: Sequence[str], page: PageRequest) -> Explanation:  # noqa: ARG002 - always all
        query = structs.replace(self._query, columns=columns)
        return self._fulltext.explain_ranked(self._text.index, self._text.query, query)


class ComparedRows:
    """The rows of a source whose texts match a query, because the conditions of the source are not exact."""

    def __init__(self, candidates: RowSource, db: Readable, texts: TextColumns, query: TextQuery) -> None:
        self._candidates, self._db, self._texts, self._query = candidates, db, texts, query
        self.extra_columns = candidates.extra_columns

    @cached_property
    def _matches(self) -> tuple[list[object], dict[object, Sequence[object]]]:
        """The keys of the matching rows, in order, and the extra values of candidates by key."""
        from dbctl.services.search.text_match import TextMatcher

        rows = self._candidates.rows([self._texts.id], PageRequest())
        extra: dict[object, Sequence[object]] = (
            {row[0]: row[1:] for row in rows} if self.extra_columns else {}
        )
        # An index may have a row twice: REPLACE of SQLite fires no trigger for the replaced row.
        keys = list(dict.fromkeys(row[0] for row in rows))
        return list(filter_keys(self._db, self._texts, TextMatcher(self._query), keys)), extra

    def rows(self, columns: Sequence[str], page: PageRequest) -> list[tuple[object, ...]]:
        """Return one page of the matching rows, with rounded scores."""
        matching_keys, extra = self._matches
        end = None if page.limit is None else page.offset + page.limit
        keys = matching_keys[page.offset : end]
        rows = read_rows_by_key(self._db, self._texts, columns, keys)
        return [(*rows[key], *map(_round, extra.get(key, ()))) for key in keys if key in rows]

    def count(self) -> int:
        return len(self._matches[0])

    def explain(self, columns: Sequence[str], page: PageRequest) -> Explanation:  # noqa: ARG002 - the keys of all candidates
        return self._candidates.explain([self._texts.id], PageRequest())


def _round(score: object) -> object:
    return round(score, 4) if isinstance(score, float) else score


class Conditions(Struct, frozen=True, kw_only=True):
    """A compiled request, before a strategy is chosen for it."""

    text: TextQuery | None  #: condition on the texts of a row
    where: Sequence[Where]  #: the other conditions
    order: Sequence[Order]
    sorted: bool  #: whether the request has an order, which then applies to ranked rows
    all_rows: bool  #: whether the request has neither text nor terms


def choose_strategy(
    app: App,
    compiler: QueryCompiler,
    conditions: Conditions,
    index_error: ExternalIndexInvalidError | None = None,
) -> tuple[Strategy, str]:
    """Return how to find the rows of a request, and why no index is used; with ``index_error``, the index of an extension is not used."""
    search, db, text = compiler.search, compiler.db, conditions.text
    candidates = narrow(text, compiler.contains) if text else CandidateQuery((), (), exact=True)
    index_problem = ""
    if text and search.text:
        from dbctl.services.search.fulltext import describe_index_problem, prepare_index_query

        ranked = prepare_index_query(search, db, text)
        index_problem = describe_index_problem(search, db)
        if ranked and db.fulltext:
            order = conditions.order if conditions.sorted else []
            where = [*map(compiler.contains, candidates.words), *candidates.where]
            where = [*([] if ranked.finds_rows else where), *conditions.where]
            select = RankedSelect(db.fulltext, ranked, Query(search.table, (), where, order))
            return ComparedRows(select, db, list_text_columns(compiler), text), index_problem
    where, order = [*candidates.where, *conditions.where], conditions.order
    lookup, note = None, ""
    if index_error is not None:
        note = f"{index_error}; every row was read; {index_error.hint}"
    elif kind := find_kind(search, app.profile):
        lookup, note = kind.prepare_lookup(app, compiler, candidates.words, where, order)
    searched = lookup.words if lookup else ()
    where = [*(compiler.contains(word) for word in candidates.words if word not in searched), *where]
    source: Strategy
    if lookup:
        source = lookup.create_strategy(Query(search.table, (), where, order))
    else:
        order = _use_index_order(search, order) if conditions.all_rows else order
        source = PlainSelect(db, Query(search.table, (), where, order))
    note = index_problem or note
    if text and (not candidates.exact or (search.text and search.text.blocks)):
        return ComparedRows(source, db, list_text_columns(compiler), text), note
    return source, note


def list_text_columns(compiler: QueryCompiler) -> TextColumns:
    search = compiler.search
    columns = select_existing(compiler.tables, search.table, search.words)
    blocks = search.text.blocks if search.text else ()
    return TextColumns(table=search.table, id=search.id, columns=columns, blocks=blocks)


def _use_index_order(search: Search, order: Sequence[Order]) -> list[Order]:
    """Return the order of all rows; the default order in a form for which an engine can use an index."""
    last, first = order[-1], search.sort[0]
    if (
        not first.lowercase
        or last.descending
        or not last.columns[1:]
        or any(entry != last for entry in order)
    ):
        return list(order)
    return [Order(last.columns, nocase=True, indexed=True)]
