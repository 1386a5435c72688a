"""How much room a database on a server and its tables take, and what was done to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from dbctl.engines.contract import Measured, Storage
from dbctl.engines.postgresql.dialect import PostgreSQLDialect

WHOLE = "select pg_database_size(current_database()), current_setting('block_size')::int8"
#: The rows of a larger table are estimated unless an exact number is asked for, in bytes.
LARGE = 16 << 20
#: A table in partitions has no room of its own. What was never analysed has no estimate but the server's count of
#: changes; else the rows of a page, as they were then, times the pages that there are now.
#: One statement for all tables, by the functions under ``pg_stat_all_tables``: that view reads every table for each of them.
#: ``offset 0`` looks each partition up by its index: the planner expects a thousand of them, and would read all of ``pg_class``.
ROOM = """select q.name, sum(pg_total_relation_size(c.oid))::int8, sum(pg_relation_size(c.oid))::int8,
  sum(pg_indexes_size(c.oid))::int8, sum(coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0))::int8,
  sum(case when c.reltuples < 0 then coalesce(s.live, 0) when c.relpages = 0 then 0 else
    c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int8) end)::int8,
  sum(s.dead)::int8, sum(s.inserted)::int8, sum(s.updated)::int8, sum(s.deleted)::int8, max(s.vacuumed), max(s.analyzed),
  array(select i.relname::text from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
    where x.indrelid = cast(quote_ident(q.name) as regclass) order by i.relname)
from unnest(cast(:tables as text[])) q (name)
  cross join lateral (select relid from pg_partition_tree(cast(quote_ident(q.name) as regclass))
    union select cast(quote_ident(q.name) as regclass)) p
  cross join lateral (select * from pg_catalog.pg_class where oid = p.relid offset 0) c
  left join lateral (select pg_stat_get_live_tuples(c.oid) as live, pg_stat_get_dead_tuples(c.oid) as dead,
    pg_stat_get_tuples_inserted(c.oid) as inserted, pg_stat_get_tuples_updated(c.oid) as updated,
    pg_stat_get_tuples_deleted(c.oid) as deleted,
    greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) as vacuumed,
    greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed
    where c.relkind in ('r', 't', 'm', 'p')) s on true
group by q.name order by q.name"""


class PostgreSQLMeasures(PostgreSQLDialect):
    """Capability.MEASURE."""

    def storage(self) -> Storage:
        ((taken, page),) = cast("list[tuple[int, int]]", self._fetch(WHOLE, {}))
        tables = sum(not table.view for table in self.tables().values())
        return Storage(bytes=taken, page_size=page, tables=tables)

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:
        tables = [name for name, live in self.tables().items() if not live.view and table in ("", name)]
        figures = {str(name): room for name, *room in self._fetch(ROOM, {"tables": tables})}
        measured = []
        for name in tables:
            room = figures[name]
            estimated = not exact and cast("int", room[1]) > LARGE
            rows = cast("int", room[4]) if estimated else self.count(name)
            measured.append(_measured(name, rows, room, estimated=estimated))
        return measured


def _measured(name: str, rows: int, told: Sequence[object], *, estimated: bool) -> Measured:
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
