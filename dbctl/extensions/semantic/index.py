"""The vector index of the semantic search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract.database import require_supported
from dbctl.engines.contract.vectors import VectorIndex, VectorIndexSpec
from dbctl.errors.base import Remedy
from dbctl.errors.databases import AlreadyExistsError
from dbctl.extensions.semantic.profile import find_semantic
from dbctl.extensions.semantic.search import SemanticSearch, require_semantic
from dbctl.model import Finding, format_count
from dbctl.services.app.app import App
from dbctl.services.search.indexes.base import IndexAction, IndexStatus, SearchIndex

#: The name in commands; no search can have it.
NAME = "semantic"
#: Rows whose neighbours are searched with and without the index, and the number of neighbours.
SAMPLE_ROWS, NEIGHBOURS = 100, 10
#: Warn below this share of found neighbours, and above this share of rows that the index does not cover.
MIN_RECALL, MAX_NEW_SHARE = 0.9, 0.1
BUILD_HINT = Remedy(
    "Without an index, searches compare every vector and miss none. Build one with: `search index build semantic`"
)
REBUILD_HINT = Remedy("Rebuild it with: `search index repair semantic`")
VISIBILITY_STEP = "warning: an app whose library does not support such indexes may fail to open the table"


class VectorColumnIndex(SearchIndex):
    """The vector index of the semantic search; no row changes with it."""

    def __init__(self, app: App) -> None:
        super().__init__(app, NAME, require_semantic(app).database)

    def read_status(self) -> IndexStatus:
        search = SemanticSearch(self.app)
        index = _find_index(search)
        reason = _find_unused_reason(search, index) if index else ""
        return IndexStatus(
            search=NAME,
            table=search.section.table,
            index=index.name if index else search.vector_column,
            state="missing" if index is None else "broken" if reason else "valid",
            reason=(reason or _describe_new_rows(index) or None) if index else None,
        )

    def check(self, *, full: bool) -> Iterator[Finding]:  # noqa: ARG002 - only measured
        """Compare the results of the index with the true neighbours; yield its problems and its recall."""
        search = SemanticSearch(self.app)
        index = _find_index(search)
        if index is None:
            rows = format_count(search.db.count(search.section.table), "vector")
            message = f"no index of {search.qualified_name} ({rows})"
            yield self.finding("info", "vector-index-missing", message, BUILD_HINT)
            return
        if reason := _find_unused_reason(search, index):
            message = f"{index.name} is not used: {reason}"
            yield self.finding("warning", "vector-index-other", message, REBUILD_HINT)
            return
        if index.unindexed_rows > MAX_NEW_SHARE * (index.rows + index.unindexed_rows):
            message = f"{index.name}: {_describe_new_rows(index)}"
            yield self.finding("warning", "vector-index-behind", message, REBUILD_HINT)
        recall = search.vectors.measure_recall(
            search.section.table,
            search.vector_column,
            query_count=SAMPLE_ROWS,
            limit=NEIGHBOURS,
            metric=search.section.metric,
        )
        message = (
            f"{index.name} ({index.kind}) finds {recall.share:.1%} of the {recall.limit} nearest of {format_count(recall.queries, 'row')},"
            f" in {recall.index_ms:g} ms each; comparing every vector takes {recall.exact_ms:g} ms"
        )
        is_poor = recall.share < MIN_RECALL
        hint = REBUILD_HINT if is_poor else ""
        yield self.finding("warning" if is_poor else "info", "vector-index-recall", message, hint)

    def plan(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        search = SemanticSearch(self.app)
        return f"the index of {search.qualified_name}", self._list_steps(
            search, self._inspect(search, action), action
        )

    def change(self, action: IndexAction) -> tuple[str, Sequence[str]]:
        with self.app.writer(self.database) as writer:
            search = SemanticSearch(self.app)
            index = self._inspect(search, action)
            steps = self._list_steps(search, index, action)
            if not steps:
                return index.name if index else search.vector_column, []
            db = require_supported(writer, writer.vector_indexes, "a vector index", "Its engine has none.")
            if action == "drop" and index:
                db.drop_vector_index(search.section.table, index.name)
                return index.name, steps
            request = VectorIndexSpec(
                table=search.section.table,
                column=search.vector_column,
                name=index.name if index else "",
                metric=search.section.metric,
            )
            return db.create_vector_index(request).name, steps

    def _inspect(self, search: SemanticSearch, action: IndexAction) -> VectorIndex | None:
        index = _find_index(search)
        reason = _find_unused_reason(search, index) if index else ""
        if index and reason and action == "build":
            raise AlreadyExistsError(
                target=self.target,
                kind="an index",
                name=index.name,
                hint=Remedy("It is not used: {cause}. Rebuild it with: `search index repair semantic`"),
                cause=reason,
            )
        return index

    def _list_steps(
        self, search: SemanticSearch, current: VectorIndex | None, action: IndexAction
    ) -> Sequence[str]:
        """Return the steps of an action; empty if nothing is to do."""
        drops = [f"drop {current.name}"] if current else []
        if action == "drop":
            return drops
        is_outdated = current and (current.unindexed_rows or _find_unused_reason(search, current))
        if current and not (action == "repair" and is_outdated):
            return []
        vectors = format_count(search.db.count(search.section.table), "vector")
        step = f"build an index of {vectors} of {search.qualified_name}, for {search.section.metric}"
        return [*drops, step, VISIBILITY_STEP]


def _find_index(search: SemanticSearch) -> VectorIndex | None:
    """Return an index of the searched column, preferably one with the metric of the search."""
    indexes = [
        index
        for index in search.vectors.vector_indexes(search.section.table)
        if index.column == search.vector_column
    ]
    return min(indexes, key=lambda index: index.metric != search.section.metric, default=None)


def _find_unused_reason(search: SemanticSearch, index: VectorIndex) -> str:
    """Return why an index is not used; empty for an index in use."""
    return (
        ""
        if index.metric == search.section.metric
        else f"it was built for {index.metric or 'another metric'}"
    )


def _describe_new_rows(index: VectorIndex) -> str:
    return (
        f"{format_count(index.unindexed_rows, 'row')} of {index.rows + index.unindexed_rows} are not in the index yet"
        if index.unindexed_rows
        else ""
    )


def list_indexes(app: App, name: str) -> Iterator[SearchIndex]:
    """Yield the vector index if it has this name; without a name, if the database of the vectors is configured and selected.

    Raises:
        FeatureMissingError: it has this name, and the app has no semantic search.
    """
    section = find_semantic(app.profile)
    is_configured = section and section.database in app.configured.databases
    if name == NAME or (not name and section and is_configured and app.only in ("", section.database)):
        yield VectorColumnIndex(app)
