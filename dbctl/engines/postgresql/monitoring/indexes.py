"""What the indexes of a database on a server are, cost and give, and the room that tables take and do not use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from dbctl.engines.contract import Index, Waste
from dbctl.engines.postgresql.catalog import SHOWN
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.sql import ident

#: A term is told with its collation, its class and its direction, for two indexes that differ in one of them serve
#: different questions. Scans are counted by the function under ``pg_stat_all_indexes``: that view would read every index
#: for each of them. Constraints are joined by the column that has an index, their table.
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
where {SHOWN} order by c.relname, i.relname"""  # noqa: S608 - no value is in it
SINCE = "select stats_reset from pg_catalog.pg_stat_database where datname = current_database()"

#: What the rows would take: 24 bytes each before their values, 4 to find it, values by their average length, all of
#: it a multiple of 8; and 24 bytes of a page. What the statistics do not tell of is none of it.
WASTE = f"""select c.relname, pg_relation_size(c.oid), s.n_dead_tup,
  case when c.reltuples < 0 then coalesce(s.n_live_tup, 0) else c.reltuples end::int8,
  greatest(s.last_vacuum, s.last_autovacuum), c.reltuples >= 0 and w.width is not null and s.n_live_tup is not null,
  (greatest(0, pg_relation_size(c.oid) - ceil(greatest(c.reltuples, 0) * (4 + 8 * ceil((24 + coalesce(w.width, 0)) / 8.0))
    / ((current_setting('block_size')::int8 - 24) * coalesce((select substr(o, 12)::int from unnest(c.reloptions) o
      where o like 'fillfactor=%'), 100) / 100.0)) * current_setting('block_size')::int8))::int8
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
  left join lateral (select sum(t.avg_width * (1 - t.null_frac)) as width from pg_catalog.pg_stats t
    where t.schemaname = n.nspname and t.tablename = c.relname and not t.inherited) w on true
where {SHOWN} and c.relkind in ('r', 'm') order by c.relname"""  # noqa: S608 - as above
#: Those who may not use it are told by the estimate.
MEASURE = """select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pgstattuple' and has_schema_privilege(n.oid, 'USAGE')
  and case when e.extname = 'pgstattuple' then
    has_function_privilege(format('%I.pgstattuple_approx(regclass)', n.nspname), 'EXECUTE') end"""


class PostgreSQLIndexes(PostgreSQLDialect):
    """Capability.INDEXES and Capability.BLOAT."""

    def indexes(self) -> Sequence[Index]:
        found = []
        for row in self._fetch(INDEXES, {}):
            (
                table,
                name,
                schema,
                columns,
                unique,
                primary,
                rule,
                needed,
                valid,
                method,
                where,
                taken,
                scans,
                home,
            ) = row
            drop = (
                f"DROP INDEX CONCURRENTLY {ident(str(schema))}.{ident(str(name))};"
                if rule is None
                else f"ALTER TABLE {ident(str(home))}.{ident(str(table))} DROP CONSTRAINT {ident(str(rule))};"
            )
            found.append(
                Index(
                    table=str(table),
                    name=str(name),
                    columns=cast("list[str]", columns),
                    unique=bool(unique),
                    primary=bool(primary),
                    constraint=rule is not None,
                    needed=bool(needed),
                    valid=bool(valid),
                    method=str(method),
                    where=str(where),
                    bytes=cast("int", taken),
                    scans=cast("int | None", scans),
                    drop=drop,
                )
            )
        return found

    def counted_since(self) -> datetime | None:
        ((since,),) = self._fetch(SINCE, {})
        return cast("datetime | None", since)

    def wasted(self) -> Sequence[Waste]:
        measured = self._fetch(MEASURE, {})
        found = []
        for name, taken, dead, rows, vacuumed, known, wasted in self._fetch(WASTE, {}):
            told = Waste(
                table=str(name),
                bytes=cast("int", taken),
                wasted_bytes=cast("int", wasted) if known else None,
                dead_rows=cast("int | None", dead),
                rows=cast("int", rows),
                estimated=True,
                source="statistics" if known else "none: it was never analysed",
                vacuumed_at=cast("datetime | None", vacuumed),
            )
            found.append(self._looked_through(told, str(measured[0][0])) if measured else told)
        return found

    def _looked_through(self, told: Waste, schema: str) -> Waste:
        """Return what pgstattuple finds; it reads what may hold dead rows, and leaves the rest to the visibility map."""
        sql = f"""select scanned_percent::float8, approx_tuple_count::int8, dead_tuple_count::int8,
  (approx_free_space + dead_tuple_len)::int8 from {ident(schema)}.pgstattuple_approx(cast(:table as regclass))"""  # noqa: S608 - the name is quoted
        ((scanned, rows, dead, wasted),) = self._fetch(sql, {"table": ident(told.table)})
        return Waste(
            table=told.table,
            bytes=told.bytes,
            wasted_bytes=cast("int", wasted),
            dead_rows=cast("int", dead),
            rows=cast("int", rows),
            estimated=cast("float", scanned) < 100,  # noqa: PLR2004 - percent
            source="pgstattuple",
            vacuumed_at=told.vacuumed_at,
        )
