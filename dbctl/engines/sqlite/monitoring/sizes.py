"""Sizes, indexes and unused space of a SQLite file, read without a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract.checks import Storage, TableSize
from dbctl.engines.contract.monitoring import Bloat, Index
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import QueryFailedError

if TYPE_CHECKING:
    from dbctl.engines.sqlite.connection import SQLiteConnection
    from dbctl.engines.sqlite.database import SQLiteDatabase

_SIZES = "select name, sum(pgsize), sum(unused) from dbstat where aggregate = 1 group by name"
_INDEX_TEXTS = "select name, coalesce(sql, '') from sqlite_master where type = 'index'"


class SQLiteSizes:
    """The part ``SizeMonitor``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog
        self._count = db.count

    def measure_storage(self) -> Storage:
        from dbctl.engines.sqlite import files

        size, pages, free = (
            cast("int", self._connection.fetch(f"pragma {name}")[0][0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        try:
            wal_bytes = Path(f"{self._connection.path}-wal").stat().st_size
        except OSError:
            wal_bytes = 0
        journal_mode = self._connection.read_journal_mode()
        return Storage(
            bytes=size * pages,
            page_size=size,
            page_count=pages,
            freelist_pages=free,
            wal_bytes=wal_bytes,
            wal_pages=files.count_pending_pages(self._connection.path) if wal_bytes else 0,
            journal_mode=journal_mode,
            shares_memory=journal_mode == "wal",
            tables=len(self._catalog.base_tables()),
        )

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:  # noqa: ARG002 - SQLite has no estimates
        sizes = None if table else _read_sizes(self._connection)
        result = []
        for name, definition in self._catalog.tables().items():
            if definition.is_view or table not in ("", name):
                continue
            indexes = _list_index_names(self._connection, name)
            size = None if sizes is None else sum(sizes.get(owner, (0, 0))[0] for owner in [name, *indexes])
            result.append(TableSize(table=name, rows=self._count(name), bytes=size, indexes=sorted(indexes)))
        return result


class SQLiteIndexMonitor:
    """The parts ``IndexMonitor`` and ``BloatMonitor``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog, self._sizes = db.connection, db.catalog, SQLiteSizes(db)

    def list_indexes(self) -> Sequence[Index]:
        sizes = _read_sizes(self._connection)
        # sqlite_master has no index, so a lookup per name would scan it each time.
        texts = {str(name): str(sql) for name, sql in self._connection.fetch(_INDEX_TEXTS)}
        return [
            Index(
                table=table,
                name=str(name),
                columns=list(self._read_terms(str(name), texts.get(str(name), ""))),
                unique=bool(unique),
                primary=origin == "pk",
                constraint=origin != "c",
                is_referenced=False,
                valid=True,
                method="btree",
                where=_read_condition(texts.get(str(name), "")) if partial else "",
                bytes=None if sizes is None else sizes.get(str(name), (0, 0))[0],
                scans=None,
                drop_statement=f"DROP INDEX {ident(str(name))};" if origin == "c" else "",
            )
            for table in self._catalog.base_tables()
            for _, name, unique, origin, partial in self._connection.fetch(
                f"pragma index_list({ident(table)})"
            )
        ]

    def _read_terms(self, name: str, sql: str) -> Iterator[str]:
        for _, _, column, descending, collation, key in self._connection.fetch(
            f"pragma index_xinfo({ident(name)})"
        ):
            if key:
                # An expression is only in the SQL of the index, so the term equals that of no other index.
                term = str(column) if column is not None else f"expression of {sql}"
                term += "" if collation == "BINARY" else f" collate {str(collation).lower()}"
                yield f"{term} desc" if descending else term

    def scans_counted_since(self) -> datetime | None:
        return None  # SQLite has no usage counters

    def measure_bloat(self) -> Sequence[Bloat]:
        """Return the free pages of the file, and the unused space in the pages of each table."""
        storage, sizes = self._sizes.measure_storage(), _read_sizes(self._connection)
        free_bytes = (storage.freelist_pages or 0) * storage.page_size
        rows = [_build_bloat("", (free_bytes, free_bytes), "freelist")]
        for table in self._catalog.base_tables():
            names = [table, *_list_index_names(self._connection, table)]
            known_sizes = [sizes[name] for name in names if sizes and name in sizes]
            total = (sum(size for size, _ in known_sizes), sum(unused for _, unused in known_sizes))
            source = "dbstat" if known_sizes else "none: this SQLite has no dbstat"
            rows.append(_build_bloat(table, total if known_sizes else (None, None), source))
        return rows


def _build_bloat(table: str, sizes: tuple[int | None, int | None], source: str) -> Bloat:
    return Bloat(
        table=table,
        bytes=sizes[0],
        wasted_bytes=sizes[1],
        dead_rows=None,
        rows=None,
        estimated=False,
        source=source,
    )


def _read_sizes(connection: SQLiteConnection) -> Mapping[str, tuple[int, int]] | None:
    """Return the total and the unused bytes of each table and index; None in builds of SQLite without dbstat."""
    try:
        rows = cast("list[tuple[str, int, int]]", connection.fetch(_SIZES))
    except QueryFailedError:
        return None
    return {name: (size, unused) for name, size, unused in rows}


def _list_index_names(connection: SQLiteConnection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.fetch(f"pragma index_list({ident(table)})")]


def _read_condition(sql: str) -> str:
    """Return the condition of a partial index, in lower case and with single blanks."""
    _, _, condition = " ".join(sql.split()).lower().rpartition(" where ")
    return condition
