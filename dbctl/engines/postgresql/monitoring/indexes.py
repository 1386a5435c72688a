"""Indexes of a database on a server with their size and use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import Index
from dbctl.engines.postgresql.catalog import VISIBLE
from dbctl.engines.sql import ident

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase

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
where {VISIBLE} order by c.relname, i.relname"""
SINCE = "select stats_reset from pg_catalog.pg_stat_database where datname = current_database()"


class PostgreSQLIndexes:
    """The part ``IndexMonitor``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        self._connection = db.connection

    def list_indexes(self) -> Sequence[Index]:
        indexes = []
        for row in self._connection.fetch(INDEXES):
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
        ((since,),) = self._connection.fetch(SINCE)
        return cast("datetime | None", since)
