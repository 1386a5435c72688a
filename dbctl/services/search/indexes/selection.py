"""All indexes of an app's searches: full-text indexes, external indexes, and the vector index (``semantic``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl import progress
from dbctl.engines.contract.database import require_supported
from dbctl.engines.contract.vectors import VectorIndex, VectorIndexSpec
from dbctl.errors.base import Remedy
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import NotSupportedError, UsageError
from dbctl.model import Finding, Findings, Page, format_count
from dbctl.services.app.app import App
from dbctl.services.search.indexes.base import IndexAction, IndexChange, IndexStatus, SearchIndex
from dbctl.services.search.indexes.kinds import find_kind
from dbctl.services.search.indexes.text import TextIndex
from dbctl.services.search.semantic.search import SemanticSearch

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
        super().__init__(app, NAME, app.require_section(app.profile.semantic, "semantic search").database)

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
                table=search.section.table, column=search.vector_column, metric=search.section.metric
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


def read_statuses(app: App, name: str = "") -> Page[IndexStatus]:
    """Return the status of the index of one search, or of all."""
    items = [index.read_status() for index in _select_indexes(app, name)]
    return Page(items=items, total=len(items), column_names=IndexStatus.__struct_fields__)


def check(app: App, name: str = "", *, full: bool = False) -> Findings:
    """Compare each index with its definition and its rows.

    Of an external index, a sample of the rows is compared; with ``full``, all its entries are compared with a rebuilt index.
    """
    indexes = _select_indexes(app, name)
    findings = [
        finding for index in progress.list_parts(indexes, "index") for finding in index.check(full=full)
    ]
    return Findings(checked=len(indexes), unit="index", findings=findings)


def create_change(app: App, name: str, action: IndexAction, *, cache: bool = False) -> IndexChange:
    """Return the operation that builds, replaces or drops an index.

    Args:
        app: the app.
        name: the search, or ``semantic``; may be empty if only one search has an index.
        action: what to do.
        cache: whether an external index is created in the cache directory of the user.

    Raises:
        UsageError: several indexes match, or the index cannot be in the cache directory.
        NotSupportedError, FeatureMissingError: no index matches.
    """
    index, *others = _select_indexes(app, name)
    if others:
        names = " or ".join(index.name for index in (index, *others))
        raise UsageError(detail=f"several indexes: name one of {names}")
    if cache:
        index.use_cache()
    return IndexChange(index, action)


def _select_indexes(app: App, name: str) -> Sequence[SearchIndex]:
    """Return the index of a search, or all.

    Raises:
        NotSupportedError: no index matches.
        FeatureMissingError: the app has no searches, or no semantic search.
    """
    if name == NAME:
        return [VectorColumnIndex(app)]
    section = app.profile.semantic
    vector_indexes: list[SearchIndex] = []
    if not name and section and section.database in app.configured.databases:
        vector_indexes = [VectorColumnIndex(app)] if app.only in ("", section.database) else []
    searches = app.profile.search if vector_indexes else app.require_section(app.profile.search, "search")
    indexes: list[SearchIndex] = [
        kind.create_index(app, search) if kind else TextIndex(app, search)
        for search in searches
        for kind in [find_kind(search, app.profile)]
        if (search.text or kind) and app.only in ("", search.database)
    ]
    selected = [index for index in indexes if name in ("", index.name)]
    if not (selected or vector_indexes):
        raise NotSupportedError(
            feature=f"a search index for {name or 'a search'}",
            subject=app.name,
            hint=f"Searches with one: {', '.join(index.name for index in indexes) or 'none'}.",
        )
    return [*selected, *vector_indexes]
