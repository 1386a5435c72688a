"""How much room a database on a server and its tables take, and what was done to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from dbctl.engines.base import Measured, Storage
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.sql import Row, ident

WHOLE = "select pg_database_size(current_database()), current_setting('block_size')::int8"
#: The rows of a larger table are estimated unless an exact number is asked for, in bytes.
LARGE = 16 << 20
#: A table in partitions has no room of its own. What was never analysed has no estimate but the server's count of
#: changes; else the rows of a page, as they were then, times the pages that there are now.
ROOM = """select sum(pg_total_relation_size(c.oid))::int8, sum(pg_relation_size(c.oid))::int8,
  sum(pg_indexes_size(c.oid))::int8, sum(coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0))::int8,
  sum(case when c.reltuples < 0 then coalesce(s.n_live_tup, 0) when c.relpages = 0 then 0 else
    c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int8) end)::int8,
  sum(s.n_dead_tup)::int8, sum(s.n_tup_ins)::int8, sum(s.n_tup_upd)::int8, sum(s.n_tup_del)::int8,
  max(greatest(s.last_vacuum, s.last_autovacuum)), max(greatest(s.last_analyze, s.last_autoanalyze)),
  array(select i.relname::text from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
    where x.indrelid = cast(:table as regclass) order by i.relname)
from (select relid from pg_partition_tree(cast(:table as regclass)) union select cast(:table as regclass)) p
  join pg_catalog.pg_class c on c.oid = p.relid left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid"""


class PostgreSQLMeasures(PostgreSQLDialect):
    """Capability.MEASURE."""

    def storage(self) -> Storage:
        ((taken, page),) = cast("list[tuple[int, int]]", self._fetch(WHOLE, {}))
        tables = sum(not table.view for table in self.tables().values())
        return Storage(bytes=taken, page_size=page, tables=tables)

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:
        found = []
        for name, live in self.tables().items():
            if not live.view and table in ("", name):
                (told,) = self._fetch(ROOM, {"table": ident(name)})
                about = not exact and cast("int", told[1]) > LARGE
                rows = cast("int", told[4]) if about else self.count(name)
                found.append(_measured(name, rows, told, estimated=about))
        return found


def _measured(name: str, rows: int, told: Row, *, estimated: bool) -> Measured:
    whole, table, indexes, toast, _, *counts = cast("list[int]", told[:9])
    dead, inserts, updates, deletes = counts
    vacuumed, analyzed = cast("list[datetime | None]", told[9:11])
    return Measured(
        table=name,
        rows=rows,
        estimated=estimated,
        bytes=whole,
        table_bytes=table,
        index_bytes=indexes,
        toast_bytes=toast,
        dead_rows=dead,
        inserts=inserts,
        updates=updates,
        deletes=deletes,
        vacuumed_at=vacuumed,
        analyzed_at=analyzed,
        indexes=cast("list[str]", told[11]),
    )
