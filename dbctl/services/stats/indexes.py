"""Statistics of indexes, indexes that are not needed, and unused space in tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import structs

from dbctl.engines.contract.database import require_supported
from dbctl.engines.contract.monitoring import Index
from dbctl.model import PageRequest, Struct, group
from dbctl.services.app.app import App
from dbctl.services.app.results import DatabaseResults, collect_results, create_result


class IndexProblem(StrEnum):
    INVALID = "invalid"  #: its creation failed
    DUPLICATE = "duplicate"  #: another index is equal
    REDUNDANT = "redundant"  #: another index starts with its columns
    UNUSED = "unused"  #: it was never read, and enforces no constraint


class IndexStats(Struct, frozen=True, kw_only=True):
    """One index, and its problem."""

    target: str
    table: str
    index: str
    columns: Sequence[str]  #: columns or expressions, in order
    where: str | None  #: the condition of the rows that a partial index contains
    unique: bool
    primary: bool
    constraint: bool  #: it belongs to a constraint of the table
    bytes: int | None
    scans: int | None  #: number of reads; None if the engine does not count them
    state: IndexProblem | None  #: None: no problem
    covered_by: str | None  #: the index that replaces it
    drop: str | None  #: the statement that drops an index with a problem

    listed = (
        "target", "table", "index", "columns", "where", "unique", "bytes", "scans", "state", "covered_by",
    )  # fmt: skip


class TableBloat(Struct, frozen=True, kw_only=True):
    """Unused space in a table."""

    target: str
    table: str | None  #: None: pages that belong to no table
    bytes: int | None
    wasted_bytes: int | None
    dead_rows: int | None  #: deleted rows that still use space
    rows: int | None  #: live rows, approximately
    estimated: bool
    source: str  #: origin of the figures
    vacuumed_at: datetime | None


def list_indexes(
    app: App, page_request: PageRequest, *, only: IndexProblem | None = None
) -> DatabaseResults[IndexStats]:
    notes: list[str] = []

    def read_database(name: str) -> list[IndexStats]:
        db = app.reader(name)
        indexes = db.storage.list_indexes()
        indexes = require_supported(db, indexes, "listing indexes", "Its engine does not report them.")
        results = [index for index in classify_indexes(db.target, indexes) if only in (None, index.state)]
        if any(index.scans is not None for index in results):
            start = db.storage.scans_counted_since()
            since_text = f"since {start:%Y-%m-%d %H:%M} UTC" if start else "since the statistics began"
            notes.append(
                f"{db.target}: scans are counted {since_text}, only on this server; a standby has its own counts"
            )
        return results

    return collect_results(app, IndexStats, page_request, read_database, hide_single_target=True, notes=notes)


def list_bloat(app: App, page_request: PageRequest) -> DatabaseResults[TableBloat]:
    """Return the unused space in the tables of each configured database."""
    notes: list[str] = []

    def read_database(name: str) -> list[TableBloat]:
        db = app.reader(name)
        bloat = db.storage.measure_bloat()
        entries = require_supported(db, bloat, "measuring bloat", "Its engine does not report it.")
        figures = [entry for entry in entries if entry.wasted_bytes is not None]
        if sources := dict.fromkeys(entry.source for entry in figures if entry.estimated):
            notes.append(f"{db.target}: figures from {', '.join(sources)} are estimates")
        return [create_result(TableBloat, db.target, entry, table=entry.table or None) for entry in entries]

    page_request = structs.replace(page_request, sort=page_request.sort or "-wasted_bytes")
    return collect_results(app, TableBloat, page_request, read_database, hide_single_target=True, notes=notes)


def classify_indexes(target: str, indexes: Sequence[Index]) -> Iterator[IndexStats]:
    """Yield each index with its problem, compared with the other indexes of its table."""
    by_table = group((index.table, index) for index in indexes)
    for candidate in indexes:
        state, covered_by = _classify(candidate, by_table[candidate.table])
        yield create_result(
            IndexStats,
            target,
            candidate,
            index=candidate.name,
            where=candidate.where or None,
            state=state,
            covered_by=covered_by,
            drop=candidate.drop_statement if state and candidate.drop_statement else None,
        )


def _classify(index: Index, siblings: Sequence[Index]) -> tuple[IndexProblem | None, str | None]:
    """Return the problem of an index, and the name of the index that replaces it."""
    if not index.valid:
        return IndexProblem.INVALID, None
    if index.primary or index.is_referenced:
        return None, None
    others = [
        other
        for other in siblings
        if other is not index and other.valid and not other.is_ignored and _can_replace(other, index)
    ]
    for other in others:
        if list(other.columns) == list(index.columns) and _is_preferred(other, index):
            return IndexProblem.DUPLICATE, other.name
    for other in others:
        is_prefix = list(other.columns[: len(index.columns)]) == list(index.columns)
        if (
            is_prefix
            and len(other.columns) > len(index.columns)
            and not index.unique
            and index.method == "btree"
        ):
            return IndexProblem.REDUNDANT, other.name
    if index.scans == 0 and not (index.unique or index.constraint):
        return IndexProblem.UNUSED, None
    return None, None


def _can_replace(other: Index, index: Index) -> bool:
    """Whether ``other`` covers the same rows as ``index``, with the same or stricter constraints."""
    return (
        (other.method, other.where) == (index.method, index.where)
        and (other.unique or not index.unique)
        and (not index.constraint or other.constraint)
    )


def _is_preferred(other: Index, index: Index) -> bool:
    """Whether ``other`` is the index to keep of two equal indexes: by dependencies, then by the shorter name."""

    def rank(entry: Index) -> tuple[bool, bool, bool, bool, bool, int, str]:
        return (
            entry.is_ignored,
            not entry.primary,
            not entry.is_referenced,
            not entry.constraint,
            not entry.unique,
            len(entry.name),
            entry.name,
        )

    return rank(other) < rank(index)
