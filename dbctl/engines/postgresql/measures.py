"""How much room a database on a server and its tables take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from dbctl.engines.base import Measured, Storage
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.sql import ident

WHOLE = "select pg_database_size(current_database()), current_setting('block_size')::int8"
#: With indexes and what is stored beside the rows; a table in partitions has no room of its own.
ROOM = """select sum(pg_total_relation_size(p.relid))::int8,
  array(select i.relname::text from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
    where x.indrelid = cast(:table as regclass) order by i.relname)
from (select relid from pg_partition_tree(cast(:table as regclass)) union select cast(:table as regclass)) p"""


class PostgreSQLMeasures(PostgreSQLDialect):
    """Capability.MEASURE."""

    def storage(self) -> Storage:
        ((taken, page),) = cast("list[tuple[int, int]]", self._fetch(WHOLE, {}))
        tables = sum(not table.view for table in self.tables().values())
        return Storage(bytes=taken, page_size=page, tables=tables)

    def measured(self) -> Sequence[Measured]:
        found = []
        for name, table in self.tables().items():
            if not table.view:
                ((taken, indexes),) = self._fetch(ROOM, {"table": ident(name)})
                told = cast("list[str]", indexes)
                found.append(
                    Measured(table=name, rows=self.count(name), bytes=cast("int", taken), indexes=told)
                )
        return found
