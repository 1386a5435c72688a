"""Unused space in the tables of a database on a server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import Bloat
from dbctl.engines.postgresql.catalog import VISIBLE
from dbctl.engines.sql import ident

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase

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
where {VISIBLE} and c.relkind in ('r', 'm') order by c.relname"""
#: The schema of pgstattuple, if this role may use it; otherwise the estimate is reported.
PGSTATTUPLE = """select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pgstattuple' and has_schema_privilege(n.oid, 'USAGE')
  and case when e.extname = 'pgstattuple' then
    has_function_privilege(format('%I.pgstattuple_approx(regclass)', n.nspname), 'EXECUTE') end"""


class PostgreSQLBloat:
    """The part ``BloatMonitor``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        self._connection = db.connection

    def measure_bloat(self) -> Sequence[Bloat]:
        extension = self._connection.fetch(PGSTATTUPLE)
        tables = []
        for name, size, dead, rows, vacuumed, has_statistics, wasted in self._connection.fetch(BLOAT):
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
  (approx_free_space + dead_tuple_len)::int8 from {ident(schema)}.pgstattuple_approx(cast(:table as regclass))"""
        ((scanned_percent, rows, dead, wasted),) = self._connection.fetch(
            sql, {"table": ident(estimate.table)}
        )
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
