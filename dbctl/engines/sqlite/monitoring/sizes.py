"""Sizes of a SQLite file and its tables, read without a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import Storage, TableSize
from dbctl.engines.sql import ident
from dbctl.errors import QueryFailedError

if TYPE_CHECKING:
    from dbctl.engines.sqlite.reader import SQLiteDatabase

#: Some builds of SQLite lack dbstat; then the sizes of tables are unknown.
SIZES_SQL = "select name, sum(pgsize) from dbstat where aggregate = 1 group by name"


class SQLiteSizes:
    """The part ``SizeMonitor``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog
        self._count = db.count

    def measure_storage(self) -> Storage:
        from dbctl.engines.sqlite import wal

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
            wal_pages=wal.count_pending_pages(self._connection.path) if wal_bytes else 0,
            journal_mode=journal_mode,
            shares_memory=journal_mode == "wal",
            tables=len(self._catalog.base_tables()),
        )

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:  # noqa: ARG002 - SQLite has no estimates
        sizes = self._read_sizes() if not table else None
        result = []
        for name, definition in self._catalog.tables().items():
            if definition.is_view or table not in ("", name):
                continue
            indexes = [str(row[1]) for row in self._connection.fetch(f"pragma index_list({ident(name)})")]
            size = None if sizes is None else sum(sizes.get(owner, 0) for owner in [name, *indexes])
            result.append(TableSize(table=name, rows=self._count(name), bytes=size, indexes=sorted(indexes)))
        return result

    def _read_sizes(self) -> dict[str, int] | None:
        """Return the bytes of each table and index by name; None without ``dbstat``."""
        try:
            return {str(name): cast("int", size) for name, size in self._connection.fetch(SIZES_SQL)}
        except QueryFailedError:
            return None
