"""How much room a database on a server and its tables take, as the server estimates it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from dbctl.engines.contract import Measured, Storage
from dbctl.engines.mysql.dialect import MySQLDialect
from dbctl.errors import PrivilegeMissingError

ROOM = """select table_name, cast(coalesce(data_length, 0) + coalesce(index_length, 0) as signed)
from information_schema.tables where table_schema = database() and table_type <> 'VIEW'"""
PAGE = "select @@innodb_page_size"
INDEXES = """select distinct table_name, index_name from information_schema.statistics
where table_schema = database() order by 1, 2"""
PARTS = """select table_name, table_rows, data_length, index_length from information_schema.tables
where table_schema = database() and table_type <> 'VIEW'"""
WRITTEN = """select object_name, count_insert, count_update, count_delete
from performance_schema.table_io_waits_summary_by_table where object_schema = database()"""
#: The rows of a larger table are estimated unless an exact number is asked for, in bytes.
LARGE = 16 << 20


class MySQLMeasures(MySQLDialect):
    """Capability.MEASURE."""

    def storage(self) -> Storage:
        ((page,),) = cast("list[tuple[int]]", self._fetch(PAGE, {}))
        tables = sum(not table.view for table in self.tables().values())
        return Storage(bytes=sum(self._room().values()), page_size=page, tables=tables)

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:
        written = self._written()
        indexes = dict[str, list[str]]()
        for name, index in self._fetch(INDEXES, {}):
            indexes.setdefault(str(name), []).append(str(index))
        parts = {str(name): [int(str(one or 0)) for one in told] for name, *told in self._fetch(PARTS, {})}
        found = []
        for name, one in self.tables().items():
            if one.view or table not in ("", name):
                continue
            rows, data, index = parts.get(name, [0, 0, 0])
            about = not exact and data > LARGE
            inserts, updates, deletes = written.get(name, (None, None, None))
            found.append(
                Measured(
                    table=name,
                    rows=rows if about else self.count(name),
                    estimated=about,
                    bytes=data + index,
                    table_bytes=data,
                    index_bytes=index,
                    inserts=inserts,
                    updates=updates,
                    deletes=deletes,
                    indexes=indexes.get(name, []),
                )
            )
        return found

    def _written(self) -> dict[str, tuple[int | None, ...]]:
        """Return what was written to each table since the server was started; nothing where it does not count."""
        if self._fetch("select @@performance_schema", {}) != [(1,)]:
            return {}
        try:
            rows = self._fetch(WRITTEN, {})
        except PrivilegeMissingError:
            return {}
        return {str(name): tuple(int(str(one)) for one in told) for name, *told in rows}

    def _room(self) -> dict[str, int]:
        return dict(cast("list[tuple[str, int]]", self._fetch(ROOM, {})))
