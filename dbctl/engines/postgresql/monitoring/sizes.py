"""Sizes of a database on a server and of its tables, and the statistics of their use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import Storage, TableSize

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase

DATABASE_SIZE = "select pg_database_size(current_database()), current_setting('block_size')::int8"
#: Rows of tables above this size, in bytes, are estimated unless an exact count is requested.
LARGE = 16 << 20
#: A partitioned table stores no rows itself. Without ANALYZE, the estimate is the server's count of changes; otherwise it is
#: the rows per page at that time, times the current number of pages.
#: One statement for all tables, by the functions under ``pg_stat_all_tables``: that view reads every table for each of them.
#: ``offset 0`` makes the planner look up each partition by index: it expects a thousand, and would scan ``pg_class``.
TABLE_SIZES = """select q.name, sum(pg_total_relation_size(c.oid))::int8, sum(pg_relation_size(c.oid))::int8,
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


class PostgreSQLSizes:
    """The part ``SizeMonitor``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog

    def measure_storage(self) -> Storage:
        ((size, page_size),) = cast("list[tuple[int, int]]", self._connection.fetch(DATABASE_SIZE))
        tables = len(self._catalog.base_tables())
        return Storage(bytes=size, page_size=page_size, tables=tables)

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        tables = [
            name for name, live in self._catalog.tables().items() if not live.is_view and table in ("", name)
        ]
        statistics = {
            str(name): row for name, *row in self._connection.fetch(TABLE_SIZES, {"tables": tables})
        }
        measured = []
        for name in tables:
            row = statistics[name]
            estimated = not exact and cast("int", row[1]) > LARGE
            rows = cast("int", row[4]) if estimated else self._db.count(name)
            measured.append(_create_row(name, rows, row, estimated=estimated))
        return measured


def _create_row(name: str, rows: int, statistics: Sequence[object], *, estimated: bool) -> TableSize:
    total, table, indexes, toast, _, *counts = cast("list[int]", statistics[:9])
    dead, inserts, updates, deletes = counts
    vacuumed, analyzed = cast("list[datetime | None]", statistics[9:11])
    return TableSize(
        table=name,
        rows=rows,
        estimated=estimated,
        bytes=total,
        table_bytes=table,
        index_bytes=indexes,
        toast_bytes=toast,
        dead_rows=dead,
        inserts=inserts,
        updates=updates,
        deletes=deletes,
        vacuumed_at=vacuumed,
        analyzed_at=analyzed,
        indexes=cast("list[str]", statistics[11]),
    )
