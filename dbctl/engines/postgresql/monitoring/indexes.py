"""Indexes of a database on a server with their size and use, and unused space in tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from dbctl.engines.contract import Bloat, Index
from dbctl.engines.postgresql.catalog import VISIBLE
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.sql import ident

#: A term includes its collation, operator class and direction: indexes that differ in one of them serve different queries.
#: Scans are counted by the function under ``pg_stat_all_indexes``: that view would read every index for each of them.
#: Constraints are joined by their table, the column that has an index.
INDEXES = f"""select c.relname, i.relname, s.nspname,
  array(select pg_get_indexdef(x.indexrelid, k, true)
      || case when k > x.indnkeyatts then ' include' else
        coalesce((select ' ' || o.opcname from pg_catalog.pg_opclass o where o.oid = x.indclass[k - 1] and not o.opcdefault), '')
        || coalesce((select ' collate ' || quote_ident(l.collname) from pg_catalog.pg_collation l
          join pg_catalog.pg_attribute a on a.attrelid = x.indexrelid and a.attnum = k
          where l.oid = x.indcollation[k - 1] and l.oid <> (select t.typcollation from pg_catalog.pg_type t where t.oid = a.atttypid)), '')
        || case x.indoption[k - 1] & 3 when 1 then ' desc nulls last' when 2 then ' nulls first' when 3 then ' desc' else '' end end
    from generate_series(1, x.indnatts) k order by k),
  x.indisunique, x.indisprimary, f.conname,
  exists (select from pg_catalog.pg_constraint r where r.contype = 'f' and r.conindid = x.indexrelid),
  x.indisvalid and x.indisready, m.amname, coalesce(pg_get_expr(x.indpred, x.indrelid, true), ''),
  (select sum(pg_relation_size(p.relid))::int8 from (select relid from pg_partition_tree(x.indexrelid)
    union select x.indexrelid::regclass) p),
  (select sum(pg_stat_get_numscans(p.relid))::int8 from (select relid from pg_partition_tree(x.indexrelid)
    union select x.indexrelid) p), n.nspname
from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
  join pg_catalog.pg_am m on m.oid = i.relam
  left join pg_catalog.pg_constraint f on f.conrelid = x.indrelid and f.conindid = x.indexrelid and f.contype in ('p', 'u', 'x')
where {VISIBLE} order by c.relname, i.relname"""  # noqa: S608 - no value is in it
SINCE = "select stats_reset from pg_catalog.pg_stat_database where datname = current_database()"

#: The estimated size of the rows: 24 bytes each before their values, 4 for the item pointer, values by their average
#: length, rounded up to a multiple of 8; and 24 bytes of each page. Without statistics there is no estimate.
BLOAT = f"""select c.relname, pg_relation_size(c.oid), s.n_dead_tup,
  case when c.reltuples < 0 then coalesce(s.n_live_tup, 0) else c.reltuples end::int8,
  greatest(s.last_vacuum, s.last_autovacuum), c.reltuples >= 0 and w.width is not null and s.n_live_tup is not null,
  (greatest(0, pg_relation_size(c.oid) - ceil(greatest(c.reltuples, 0) * (4 + 8 * ceil((24 + coalesce(w.width, 0)) / 8.0))
    / ((current_setting('block_size')::int8 - 24) * coalesce((select substr(o, 12)::int from unnest(c.reloptions) o
      where o like 'fillfactor=%'), 100) / 100.0)) * current_setting('block_size')::int8))::int8
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
  left join lateral (select sum(t.avg_width * (1 - t.null_frac)) as width from pg_catalog.pg_stats t
    where t.schemaname = n.nspname and t.tablename = c.relname and not t.inherited) w on true
where {VISIBLE} and c.relkind in ('r', 'm') order by c.relname"""  # noqa: S608 - no value is in it
#: The schema of pgstattuple, if this role may use it; otherwise the estimate is reported.
PGSTATTUPLE = """select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pgstattuple' and has_schema_privilege(n.oid, 'USAGE')
  and case when e.extname = 'pgstattuple' then
    has_function_privilege(format('%I.pgstattuple_approx(regclass)', n.nspname), 'EXECUTE') end"""


class PostgreSQLIndexes(PostgreSQLDialect):
    """Capability.INDEXES and Capability.BLOAT."""

    def list_indexes(self) -> Sequence[Index]:
        indexes = []
        for row in self._fetch(INDEXES, {}):
            (
                table,
                name,
                schema,
                columns,
                unique,
                primary,
                constraint,
                needed,
                valid,
                method,
                where,
                size,
                scans,
                table_schema,
            ) = row
            drop = (
                f"DROP INDEX CONCURRENTLY {ident(str(schema))}.{ident(str(name))};"
                if constraint is None
                else f"ALTER TABLE {ident(str(table_schema))}.{ident(str(table))} DROP CONSTRAINT {ident(str(constraint))};"
            )
            indexes.append(
                Index(
                    table=str(table),
                    name=str(name),
                    columns=cast("list[str]", columns),
                    unique=bool(unique),
                    primary=bool(primary),
                    constraint=constraint is not None,
                    is_referenced=bool(needed),
                    valid=bool(valid),
                    method=str(method),
                    where=str(where),
                    bytes=cast("int", size),
                    scans=cast("int | None", scans),
                    drop_statement=drop,
                )
            )
        return indexes

    def scans_counted_since(self) -> datetime | None:
        ((since,),) = self._fetch(SINCE, {})
        return cast("datetime | None", since)

    def measure_bloat(self) -> Sequence[Bloat]:
        extension = self._fetch(PGSTATTUPLE, {})
        tables = []
        for name, size, dead, rows, vacuumed, has_statistics, wasted in self._fetch(BLOAT, {}):
            estimate = Bloat(
                table=str(name),
                bytes=cast("int", size),
                wasted_bytes=cast("int", wasted) if has_statistics else None,
                dead_rows=cast("int | None", dead),
                rows=cast("int", rows),
                estimated=True,
                source="statistics" if has_statistics else "none: never analysed",
                vacuumed_at=cast("datetime | None", vacuumed),
            )
            tables.append(self._measure_bloat(estimate, str(extension[0][0])) if extension else estimate)
        return tables

    def _measure_bloat(self, estimate: Bloat, schema: str) -> Bloat:
        """Return the measurement of pgstattuple; it reads pages that may contain dead rows, and skips the others."""
        sql = f"""select scanned_percent::float8, approx_tuple_count::int8, dead_tuple_count::int8,
  (approx_free_space + dead_tuple_len)::int8 from {ident(schema)}.pgstattuple_approx(cast(:table as regclass))"""  # noqa: S608 - the name is quoted
        ((scanned_percent, rows, dead, wasted),) = self._fetch(sql, {"table": ident(estimate.table)})
        return Bloat(
            table=estimate.table,
            bytes=estimate.bytes,
            wasted_bytes=cast("int", wasted),
            dead_rows=cast("int", dead),
            rows=cast("int", rows),
            estimated=cast("float", scanned_percent) < 100,  # noqa: PLR2004 - percent
            source="pgstattuple",
            vacuumed_at=estimate.vacuumed_at,
        )
