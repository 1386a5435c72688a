"""Sizes of a database on a server and of its tables, and their unused space, as the server estimates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import Bloat, Storage, TableSize
from dbctl.errors import PrivilegeMissingError

if TYPE_CHECKING:
    from dbctl.engines.mysql.database import MySQLDatabase


TABLE_SIZES = """select table_name, cast(coalesce(data_length, 0) + coalesce(index_length, 0) as signed)
from information_schema.tables where table_schema = database() and table_type <> 'VIEW'"""
PAGE_SIZE = "select @@innodb_page_size"
INDEXES = """select distinct table_name, index_name from information_schema.statistics
where table_schema = database() order by 1, 2"""
TABLE_PARTS = """select table_name, table_rows, data_length, index_length from information_schema.tables
where table_schema = database() and table_type <> 'VIEW'"""
WRITE_COUNTS = """select object_name, count_insert, count_update, count_delete
from performance_schema.table_io_waits_summary_by_table where object_schema = database()"""
BLOAT = """select table_name, coalesce(data_length, 0) + coalesce(index_length, 0) + coalesce(data_free, 0), data_free, table_rows, engine
from information_schema.tables where table_schema = database() and table_type <> 'VIEW' order by table_name"""
#: Rows of tables above this size, in bytes, are estimated unless an exact count is requested.
LARGE = 16 << 20


class MySQLSizes:
    """The part ``SizeMonitor``."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog

    def measure_storage(self) -> Storage:
        ((page_size,),) = cast("list[tuple[int]]", self._connection.fetch(PAGE_SIZE))
        tables = len(self._catalog.base_tables())
        return Storage(bytes=sum(self._table_sizes().values()), page_size=page_size, tables=tables)

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        write_counts = self._write_counts()
        indexes = dict[str, list[str]]()
        for name, index in self._connection.fetch(INDEXES):
            indexes.setdefault(str(name), []).append(str(index))
        statistics = {
            str(name): [int(str(number or 0)) for number in row]
            for name, *row in self._connection.fetch(TABLE_PARTS)
        }
        sizes = []
        for name, live in self._catalog.tables().items():
            if live.is_view or table not in ("", name):
                continue
            rows, data, index = statistics.get(name, [0, 0, 0])
            is_estimated = not exact and data > LARGE
            inserts, updates, deletes = write_counts.get(name, (None, None, None))
            sizes.append(
                TableSize(
                    table=name,
                    rows=rows if is_estimated else self._db.count(name),
                    estimated=is_estimated,
                    bytes=data + index,
                    table_bytes=data,
                    index_bytes=index,
                    inserts=inserts,
                    updates=updates,
                    deletes=deletes,
                    indexes=indexes.get(name, []),
                )
            )
        return sizes

    def _write_counts(self) -> dict[str, tuple[int | None, ...]]:
        """Return the counts of inserts, updates and deletes by table since the server start; empty if the server does not count."""
        if self._connection.fetch("select @@performance_schema") != [(1,)]:
            return {}
        try:
            rows = self._connection.fetch(WRITE_COUNTS)
        except PrivilegeMissingError:
            return {}
        return {str(name): tuple(int(str(number)) for number in counts) for name, *counts in rows}

    def _table_sizes(self) -> dict[str, int]:
        return dict(cast("list[tuple[str, int]]", self._connection.fetch(TABLE_SIZES)))


class MySQLBloat:
    """The part ``BloatMonitor``."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._connection = db.connection

    def measure_bloat(self) -> Sequence[Bloat]:
        return [
            Bloat(
                table=str(name),
                bytes=int(str(size)),
                wasted_bytes=None if free is None else int(str(free)),
                dead_rows=None,
                rows=None if rows is None else int(str(rows)),
                estimated=True,
                source=f"data_free of {engine}",
            )
            for name, size, free, rows, engine in self._connection.fetch(BLOAT)
        ]
