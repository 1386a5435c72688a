"""The vector index of the semantic search: status, recall, build, rebuild and drop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbctl.engines.contract import Readable, VectorIndex, VectorIndexes, VectorIndexSpec, require_part
from dbctl.errors import AlreadyExistsError, PlanChangedError
from dbctl.model import Finding, Plan, Severity, format_count
from dbctl.services.app import App
from dbctl.services.search.external_index import IndexAction, IndexChangeResult
from dbctl.services.search.index import IndexStatus
from dbctl.services.search.semantic.search import SemanticSearch

#: The name in commands; no search can have it.
NAME = "semantic"
#: Rows whose neighbours are searched with and without the index, and the number of neighbours.
SAMPLE_ROWS, NEIGHBOURS = 100, 10
#: Warn below this share of found neighbours, and above this share of rows that the index does not cover.
MIN_RECALL, MAX_NEW_SHARE = 0.9, 0.1
BUILD_HINT = f"dbctl search index build {NAME} builds it. Without an index, searches compare every vector and miss none."
REBUILD_HINT = f"dbctl search index repair {NAME} rebuilds it."
VISIBILITY_STEP = "warning: an app whose library does not support such indexes may fail to open the table"


def read_status(app: App) -> IndexStatus:
    """Return the status of the index."""
    search = SemanticSearch(app)
    index = _find_index(search)
    return IndexStatus(
        search=NAME,
        table=search.section.table,
        index=index.name if index else search.vector_column,
        state="missing" if index is None else "broken" if _find_unused_reason(search, index) else "valid",
        reason=None
        if index is None
        else _find_unused_reason(search, index) or _describe_new_rows(index) or None,
    )


def check(app: App) -> Iterator[Finding]:
    """Compare the results of the index with the true neighbours; yield its problems and its recall."""
    search = SemanticSearch(app)
    index, target = _find_index(search), search.db.target

    def finding(severity: Severity, code: str, message: str, hint: str = "") -> Finding:
        return Finding(
            target=target, severity=severity, code=f"vector-index-{code}", message=message, hint=hint
        )

    if index is None:
        rows = format_count(search.db.count(search.section.table), "vector")
        yield finding("info", "missing", f"no index of {search.qualified_name} ({rows})", BUILD_HINT)
        return
    if reason := _find_unused_reason(search, index):
        yield finding("warning", "other", f"{index.name} is not used: {reason}", REBUILD_HINT)
        return
    if index.unindexed_rows > MAX_NEW_SHARE * (index.rows + index.unindexed_rows):
        yield finding("warning", "behind", f"{index.name}: {_describe_new_rows(index)}", REBUILD_HINT)
    recall = search.vectors.measure_recall(
        search.section.table,
        search.vector_column,
        query_count=SAMPLE_ROWS,
        limit=NEIGHBOURS,
        metric=search.section.metric,
    )
    recall_text = (
        f"{index.name} ({index.kind}) finds {recall.share:.1%} of the {recall.limit} nearest of {format_count(recall.queries, 'row')},"
        f" in {recall.index_ms:g} ms each; comparing every vector takes {recall.exact_ms:g} ms"
    )
    is_poor = recall.share < MIN_RECALL
    yield finding("warning" if is_poor else "info", "recall", recall_text, REBUILD_HINT if is_poor else "")


class VectorIndexChange:
    """Build, rebuild or drop the vector index; changes no row."""

    def __init__(self, app: App, action: IndexAction) -> None:
        self._app, self._action = app, action
        self._database = app.require_section(app.profile.semantic, "semantic search").database
        self.app, self.protected, self.target = app.name, app.protected, app.target(self._database)

    def plan(self) -> Plan:
        """Return the plan; writes nothing, and needs no write privileges."""
        search = SemanticSearch(self._app)
        index = self._inspect(search)
        verb = {"build": "Build", "repair": "Rebuild", "drop": "Drop"}[self._action]
        steps = self._list_steps(search, index) if self._is_due(search, index) else []
        title = f"{verb} the index of {search.qualified_name}"
        return Plan(title=title, target=self.target, steps=steps, rows={})

    def apply(self, confirmed: str | None = None) -> IndexChangeResult:
        """Apply the plan.

        Raises:
            AlreadyExistsError: ``build`` found an index for another metric.
            PlanChangedError: the plan differs from the confirmed one.
            VectorIndexUnsuitableError: the vectors are too few, or invalid.
        """
        if confirmed is not None and self.plan().digest != confirmed:
            raise PlanChangedError(target=self.target)
        with self._app.writer(self._database, f"search index {self._action}") as writer:
            search = SemanticSearch(self._app)
            index = self._inspect(search)
            name = index.name if index else search.vector_column
            if not self._is_due(search, index):
                return IndexChangeResult(search=NAME, index=name, changed=False, steps=[])
            steps = self._list_steps(search, index)
            name = self._run(_require_index_writer(writer), search, index)
            return IndexChangeResult(search=NAME, index=name, changed=True, steps=steps)

    def _inspect(self, search: SemanticSearch) -> VectorIndex | None:
        index = _find_index(search)
        reason = _find_unused_reason(search, index) if index else ""
        if index and reason and self._action == "build":
            raise AlreadyExistsError(
                target=self.target,
                kind="an index",
                name=index.name,
                hint=f"It is not used: {reason}. {REBUILD_HINT}",
            )
        return index

    def _is_due(self, search: SemanticSearch, current: VectorIndex | None) -> bool:
        if current is None:
            return self._action != "drop"
        return self._action == "drop" or (
            self._action == "repair" and bool(current.unindexed_rows or _find_unused_reason(search, current))
        )

    def _list_steps(self, search: SemanticSearch, current: VectorIndex | None) -> Sequence[str]:
        drops = [f"drop {current.name}"] if current else []
        if self._action == "drop":
            return drops
        vector_count = format_count(search.db.count(search.section.table), "vector")
        return [
            *drops,
            f"build an index of {vector_count} of {search.qualified_name}, for {search.section.metric}",
            VISIBILITY_STEP,
        ]

    def _run(self, db: VectorIndexes, search: SemanticSearch, index: VectorIndex | None) -> str:
        if self._action == "drop" and index:
            db.drop_vector_index(search.section.table, index.name)
            return index.name
        request = VectorIndexSpec(
            table=search.section.table, column=search.vector_column, metric=search.section.metric
        )
        return db.create_vector_index(request).name


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


def _require_index_writer(db: Readable) -> VectorIndexes:
    return require_part(db, VectorIndexes, "a vector index", "Its engine has none.")
