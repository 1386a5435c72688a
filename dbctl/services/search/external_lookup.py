"""Queries of external indexes: search indexes in separate files, next to a database that dbctl only reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbctl.config import environment
from dbctl.engines.contract.checks import Explanation
from dbctl.engines.contract.database import Order, Query, Where
from dbctl.engines.contract.external_index import ExternalIndexes, ExternalIndexSpec, ExternalIndexState
from dbctl.errors.base import Remedy
from dbctl.model import PageRequest, Struct
from dbctl.profiles.model.profile import Profile
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.search.compiler import QueryCompiler, select_existing
from dbctl.services.search.indexes.kinds import IndexKind
from dbctl.services.search.row_sources import select_page

if TYPE_CHECKING:  # searches only look up rows
    from dbctl.services.search.indexes.external import ExternalIndex

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
    """A query of an external index."""

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


class ExternalIndexKind(IndexKind):
    """The external indexes of searches whose database is read-only for dbctl, and that have no full-text index."""

    def covers(self, search: Search, profile: Profile) -> bool:
        """Whether a search has an external index. Optional tables have none: they are small, so every row is read."""
        read_only = profile.databases[search.database].mode == "read-only"
        return search.text is None and read_only and not search.optional

    def create_index(self, app: App, search: Search) -> ExternalIndex:
        from dbctl.services.search.indexes.external import ExternalIndex

        return ExternalIndex(app, search)

    def prepare_lookup(
        self,
        app: App,
        compiler: QueryCompiler,
        words: Sequence[str],
        where: Sequence[Where],
        order: Sequence[Order],
    ) -> tuple[ExternalQuery | None, str]:
        db, search = compiler.db.extension_part(ExternalIndexes), compiler.search
        if db is None:
            return None, ""
        words = [word for word in words if db.can_find_word(word)]
        index = define_index(compiler)
        if not words and (
            list(order) != list(index.order)
            or any(condition not in index.stored_conditions for condition in where)
        ):
            return None, ""  # every row would have to be compared anyway
        state = db.open_external_index(index, list_locations(app, search, db))
        if state.state == "fresh":
            return ExternalQuery(db, index, words), ""
        return None, describe_unused_index(search, state) if words else ""


KIND = ExternalIndexKind()
