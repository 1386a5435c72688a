"""How much room a database on a server and its tables take, as the server estimates it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from dbctl.engines.base import Measured, Storage
from dbctl.engines.mysql.dialect import MySQLDialect

ROOM = """select table_name, cast(coalesce(data_length, 0) + coalesce(index_length, 0) as signed)
from information_schema.tables where table_schema = database() and table_type <> 'VIEW'"""
PAGE = "select @@innodb_page_size"
INDEXES = """select distinct table_name, index_name from information_schema.statistics
where table_schema = database() order by 1, 2"""


class MySQLMeasures(MySQLDialect):
    """Capability.MEASURE."""

    def storage(self) -> Storage:
        ((page,),) = cast("list[tuple[int]]", self._fetch(PAGE, {}))
        tables = sum(not table.view for table in self.tables().values())
        return Storage(bytes=sum(self._room().values()), page_size=page, tables=tables)

    def measured(self) -> Sequence[Measured]:
        room, indexes = self._room(), self._fetch(INDEXES, {})
        return [
            Measured(
                table=name,
                rows=self.count(name),
                bytes=room.get(name),
                indexes=[str(index) for table, index in indexes if table == name],
            )
            for name, one in self.tables().items()
            if not one.view
        ]

    def _room(self) -> dict[str, int]:
        return dict(cast("list[tuple[str, int]]", self._fetch(ROOM, {})))
