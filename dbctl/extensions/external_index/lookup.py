"""Queries of external indexes: search indexes in separate files, next to a database that dbctl only reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.config import environment
from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Query
from dbctl.errors.base import Remedy
from dbctl.extensions.external_index.contract import ExternalIndexSpec, ExternalIndexState
from dbctl.model import PageRequest, Struct
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.search.compiler import QueryCompiler, select_existing
from dbctl.services.search.indexes.kinds import select_page

if TYPE_CHECKING:
    from dbctl.extensions.external_index.build import ExternalIndexes

#: Note about a search without its external index.
NOT_USED = Remedy(
    "the search index {path} {reason}: every row was read; build it with: `search index build {search}`"
)
#: By state.
STATE_REASONS = {
    "missing": "is missing",
    "stale": "is not used ({reason})",
    "broken": "is not usable ({reason})",
}


class ExternalIndexSelect:
    """A query of the external index, which stores the keys of rows by the words in them."""

    extra_columns: Sequence[str] = ()

    def __init__(self, lookup: ExternalQuery, query: Query) -> None:
        self._db, self._index, self._words, self._query = lookup.db, lookup.index, lookup.words, query

    def rows(self, columns: Sequence[str], page: PageRequest) -> list[tuple[object, ...]]:
        return self._db.search_external(self._index, self._words, select_page(self._query, columns, page))

    def count(self) -> int:
        return self._db.count_external(self._index, self._words, self._query.where)

    def explain(self, columns: Sequence[str], page: PageRequest) -> Explanation:
        return self._db.explain_external(self._index, self._words, select_page(self._query, columns, page))


class ExternalQuery(Struct, frozen=True):
    db: ExternalIndexes
    index: ExternalIndexSpec
    words: Sequence[str]  #: empty: all rows match

    def create_strategy(self, query: Query) -> ExternalIndexSelect:
        return ExternalIndexSelect(self, query)


def define_index(compiler: QueryCompiler) -> ExternalIndexSpec:
    """Return the definition of a search's index: in the default order, without hidden rows."""
    search = compiler.search
    sort = search.sort[0]
    order = [] if sort.kind == "random" else [compiler.compile_order(sort, descending=sort.descending)]
    return ExternalIndexSpec(
        table=search.table,
        columns=select_existing(compiler.tables, search.table, search.words),
        order=order,
        stored_conditions=compiler.exclude_hidden(frozenset()),
    )


def list_locations(app: App, search: Search, db: ExternalIndexes) -> Sequence[Path]:
    """Return the possible paths of the index file, the preferred path first."""
    name = search.name
    if app.configured.search is not None:
        return [db.external_index_path(app.configured.search, name)]
    cache = environment.cache_folder()
    return [db.external_index_path(None, name), *([db.external_index_path(cache, name)] if cache else [])]


def describe_unused_index(search: Search, state: ExternalIndexState) -> str:
    """Return why the index is not used; empty if no index is possible."""
    if state.state == "missing" and state.reason:
        return ""
    reason = STATE_REASONS[state.state].format(reason=state.reason)
    return NOT_USED.write(facts={"path": state.path, "reason": reason, "search": search.name})
