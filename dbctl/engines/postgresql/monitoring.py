"""Sizes, indexes, bloat, and maintenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import cast

import psycopg
from msgspec import structs

from dbctl.engines.contract.checks import EngineFinding, Storage, TableSize
from dbctl.engines.contract.monitoring import Bloat, Index, MaintenanceKind, MaintenanceTask, StorageManager
from dbctl.engines.postgresql.catalog import (
    IN_TABLES,
    INDEX_COLUMNS,
    LEFTOVER_INDEX,
    VISIBLE,
    VISIBLE_PARTS,
    quoted,
)
from dbctl.engines.postgresql.connection import SESSION, describe_sessions
from dbctl.engines.postgresql.database import PostgreSQLPart
from dbctl.engines.postgresql.sessions import LEFTOVERS
from dbctl.engines.servers.database import LARGE_TABLE, find_problems
from dbctl.engines.servers.values import convert_row
from dbctl.engines.sql.catalog import Row, ident, quote_literal
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import BusyError, PrivilegeMissingError, QueryFailedError
from dbctl.errors.usage import NotSupportedError

DATABASE_SIZE = (
    "select pg_database_size(current_database()) as bytes, current_setting('block_size')::int8 as page_size"
)
#: A partitioned table stores no rows itself. Without ANALYZE, the estimate is the server's count of changes; otherwise it is
#: the rows per page at that time, times the current number of pages.
#: One statement for all tables, by the functions under ``pg_stat_all_tables``: that view reads every table for each of them.
#: The rows of a foreign table are those of another server, which may not answer.
#: ``offset 0`` makes the planner look up each partition by index: it expects a thousand, and would scan ``pg_class``.
TABLE_SIZES = """select q.name as table, sum(pg_total_relation_size(c.oid))::int8 as bytes, sum(pg_relation_size(c.oid))::int8 as table_bytes,
  sum(pg_indexes_size(c.oid))::int8 as index_bytes, sum(coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0))::int8 as toast_bytes,
  sum(case when c.reltuples < 0 then coalesce(s.live, 0) when c.relpages = 0 then 0 else
    c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int8) end)::int8 as rows,
  sum(s.dead)::int8 as dead_rows, sum(s.inserted)::int8 as inserts, sum(s.updated)::int8 as updates, sum(s.deleted)::int8 as deletes,
  max(s.vacuumed) as vacuumed_at, max(s.analyzed) as analyzed_at, bool_and(c.relispopulated) as is_populated,
  array(select i.relname::text from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
    where x.indrelid = cast(quote_ident(q.name) as regclass) order by i.relname) as indexes
from unnest(cast(:tables as text[])) q (name)
  cross join lateral (select relid from pg_partition_tree(cast(quote_ident(q.name) as regclass))
    union select cast(quote_ident(q.name) as regclass)
    union select h.inhrelid from pg_catalog.pg_inherits h
      where h.inhparent = cast(quote_ident(q.name) as regclass) and not pg_table_is_visible(h.inhrelid)) p
  cross join lateral (select * from pg_catalog.pg_class where oid = p.relid offset 0) c
  left join lateral (select pg_stat_get_live_tuples(c.oid) as live, pg_stat_get_dead_tuples(c.oid) as dead,
    pg_stat_get_tuples_inserted(c.oid) as inserted, pg_stat_get_tuples_updated(c.oid) as updated,
    pg_stat_get_tuples_deleted(c.oid) as deleted,
    greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) as vacuumed,
    greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed
    where c.relkind in ('r', 't', 'm', 'p')) s on true
where c.relkind not in ('v', 'f') group by q.name order by q.name collate "C" """
_HAS_STATISTICS = "c.reltuples >= 0 and w.width is not null and s.n_live_tup is not null"
#: The estimated size of the rows: 24 bytes each before their values, 4 for the item pointer, values by their average
#: length, rounded up to a multiple of 8; and 24 bytes of each page. Without statistics there is no estimate.
BLOAT = f"""select c.relname as table, pg_relation_size(c.oid) as bytes, s.n_dead_tup as dead_rows,
  case when c.reltuples < 0 then coalesce(s.n_live_tup, 0) else c.reltuples end::int8 as rows,
  greatest(s.last_vacuum, s.last_autovacuum) as vacuumed_at,
  case when {_HAS_STATISTICS} then 'statistics' else 'none: never analysed' end as source,
  case when {_HAS_STATISTICS} then (greatest(0, pg_relation_size(c.oid) - ceil(greatest(c.reltuples, 0) * (4 + 8 * ceil((24 + coalesce(w.width, 0)) / 8.0))
    / ((current_setting('block_size')::int8 - 24) * coalesce((select substr(o, 12)::int from unnest(c.reloptions) o
      where o like 'fillfactor=%'), 100) / 100.0)) * current_setting('block_size')::int8))::int8 end as wasted_bytes
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
  left join lateral (select sum(t.avg_width * (1 - t.null_frac)) as width from pg_catalog.pg_stats t
    where t.schemaname = n.nspname and t.tablename = c.relname and not t.inherited) w on true
where {VISIBLE_PARTS} and c.relkind in ('r', 'm') order by c.relname"""
#: The schema of pgstattuple, if this role may use it; otherwise the estimate is reported.
PGSTATTUPLE = """select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pgstattuple' and has_schema_privilege(n.oid, 'USAGE')
  and case when e.extname = 'pgstattuple' then
    has_function_privilege(format('%I.pgstattuple_approx(regclass)', n.nspname), 'EXECUTE') end"""
#: The measurement of pgstattuple; it reads pages that may contain dead rows, and skips the others.
MEASURED_BLOAT = """select scanned_percent::float8 < 100 as estimated, approx_tuple_count::int8 as rows, dead_tuple_count::int8 as dead_rows,
  (approx_free_space + dead_tuple_len)::int8 as wasted_bytes from {}.pgstattuple_approx(cast(:table as regclass))"""
#: A term includes its collation, operator class and direction: indexes that differ in one of them serve different queries.
#: Scans are counted by the function under ``pg_stat_all_indexes``: that view would read every index for each of them.
#: Constraints are joined by their table, the column that has an index.
INDEXES = f"""select c.relname as table, i.relname as name,
  {INDEX_COLUMNS} as columns,
  x.indisunique as unique, x.indisprimary as primary, f.conname is not null as constraint,
  exists (select from pg_catalog.pg_constraint r where r.contype = 'f' and r.conindid = x.indexrelid) as is_referenced,
  x.indisvalid and x.indisready as valid, m.amname as method, pg_get_expr(x.indpred, x.indrelid, true) as where,
  (select sum(pg_relation_size(p.relid))::int8 from (select relid from pg_partition_tree(x.indexrelid)
    union select x.indexrelid::regclass) p) as bytes,
  (select sum(pg_stat_get_numscans(p.relid))::int8 from (select relid from pg_partition_tree(x.indexrelid)
    union select x.indexrelid) p) as scans,
  case when f.conname is null then format('DROP INDEX CONCURRENTLY %s.%s;', {quoted("s.nspname")}, {quoted("i.relname")})
    else format('ALTER TABLE %s.%s DROP CONSTRAINT %s;', {quoted("n.nspname")}, {quoted("c.relname")}, {quoted("f.conname")}) end
    as drop_statement
from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
  join pg_catalog.pg_am m on m.oid = i.relam
  left join pg_catalog.pg_constraint f on f.conrelid = x.indrelid and f.conindid = x.indexrelid and f.contype in ('p', 'u', 'x')
where {VISIBLE} order by c.relname, i.relname"""
SINCE = "select stats_reset from pg_catalog.pg_stat_database where datname = current_database()"
#: The server only warns if a role may not maintain a table, so the privilege is checked first. A table is due if more than
#: 50 rows plus a tenth of its rows are dead, or have changed since they were analysed: half of autovacuum's thresholds.
TABLES = f"""select n.nspname, c.relname,
  pg_has_role(c.relowner, 'USAGE') or exists (select from pg_catalog.pg_database d
    where d.datname = current_database() and pg_has_role(d.datdba, 'USAGE'))
  or case when current_setting('server_version_num')::int >= 170000 then has_table_privilege(c.oid, 'MAINTAIN') else false end,
  coalesce(s.n_dead_tup, 0) > 50 + 0.1 * greatest(c.reltuples, 0),
  c.reltuples < 0 or coalesce(s.n_mod_since_analyze, 0) > 50 + 0.1 * greatest(c.reltuples, 0),
  pg_catalog.pg_get_userbyid(c.relowner)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
where {VISIBLE} and c.relkind in ('r', 'p', 'm') and c.relname = any(:tables) order by c.relname"""
OLDER_TRANSACTIONS = f"""select {SESSION}
from pg_catalog.pg_stat_activity a where a.datname = current_database() and a.pid <> pg_backend_pid()
  and a.backend_xmin is not null and a.xact_start is not null order by a.xact_start limit 3"""
INDEXES_OF_TABLES = f"""select s.nspname, i.relname, x.indisexclusion, {LEFTOVER_INDEX}, c.relname
from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indrelid
  join pg_catalog.pg_class i on i.oid = x.indexrelid join pg_catalog.pg_namespace s on s.oid = i.relnamespace
where {IN_TABLES} and not i.relispartition order by c.relname, i.relname"""


#: The schema of the table that a name means to this connection.
SCHEMA = """select pg_catalog.quote_ident(n.nspname) from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = pg_catalog.to_regclass(:name)"""


class PostgreSQLStorage(PostgreSQLPart, StorageManager):
    quote_name = staticmethod(ident)

    def find_schema(self, table: str) -> str:
        return "".join(str(schema) for (schema,) in self._connection.fetch(SCHEMA, {"name": ident(table)}))

    def measure_storage(self) -> Storage:
        return self._connection.fetch_as(Storage, DATABASE_SIZE, tables=len(self._catalog.base_tables()))[0]

    def measure_tables(self, *, exact: bool = True, table: str = "") -> Sequence[TableSize]:
        tables = [name for name in self._catalog.tables() if table in ("", name)]
        sizes = []
        for row in self._connection.fetch_by_name(TABLE_SIZES, {"tables": tables}):
            estimated = not exact and row["table_bytes"] > LARGE_TABLE
            rows = (
                row["rows"] if estimated else self._count_stored(row["table"]) if row["is_populated"] else 0
            )
            sizes.append(convert_row({**row, "rows": rows, "estimated": estimated}, TableSize))
        return sizes

    def _count_stored(self, table: str) -> int:
        """Return the number of rows that a table stores itself.

        Visible tables that inherit from it have sizes of their own; others, such as the chunks of TimescaleDB, are parts of it.
        """
        if not self._catalog.require_table(table).is_inherited:
            return self._db.count(table)
        name = self._catalog.quote_table(table)
        own = f"tableoid = {quote_literal(name)}::regclass or not pg_catalog.pg_table_is_visible(tableoid)"
        ((count,),) = self._connection.fetch(f"select count(*) from {name} where {own}")
        return int(str(count))

    def measure_bloat(self) -> Sequence[Bloat]:
        estimates = self._connection.fetch_as(Bloat, BLOAT, estimated=True)
        for (schema,) in self._connection.fetch(PGSTATTUPLE):
            sql = MEASURED_BLOAT.format(ident(str(schema)))
            return [self._measure(estimate, sql) for estimate in estimates]
        return estimates

    def _measure(self, estimate: Bloat, sql: str) -> Bloat:
        (measured,) = self._connection.fetch_by_name(sql, {"table": ident(estimate.table)})
        return structs.replace(estimate, source="pgstattuple", **measured)

    def list_indexes(self, *, sized: bool = True) -> Sequence[Index]:  # noqa: ARG002 - the server has the sizes
        return self._connection.fetch_as(Index, INDEXES)

    def scans_counted_since(self) -> datetime | None:
        ((since,),) = self._connection.fetch(SINCE)
        return cast("datetime | None", since)

    def maintenance_tasks(self, kind: MaintenanceKind, tables: Sequence[str]) -> Sequence[MaintenanceTask]:
        for name in tables:
            self._catalog.require_table(name)
        if kind in ("wal", "rollback-journal"):
            raise NotSupportedError(
                feature="another journal",
                subject=self._connection.target,
                hint="The server always writes a log.",
            )
        if kind == "checkpoint":
            if tables:
                raise NotSupportedError(
                    feature="a checkpoint of one table", subject=self._connection.target, hint="Omit --table."
                )
            return [MaintenanceTask(table="", statement="CHECKPOINT")]
        selected = list(tables) or self._catalog.base_tables()
        rows = self._connection.fetch(TABLES, {"tables": selected})
        self._require_owner(rows)
        if kind == "reindex":
            return list(self._reindex_tasks(selected))
        # Tables that the user names are processed even if they are not due.
        return list(_vacuum_tasks("vacuum" if kind == "optimize" and tables else kind, rows))

    def _require_owner(self, rows: Sequence[Row]) -> None:
        refused = {str(name): str(owner) for _, name, is_allowed, _, _, owner in rows if not is_allowed}
        if refused:
            raise PrivilegeMissingError(
                target=self._connection.target,
                reason=f"only the owner of {', '.join(refused)} may maintain it",
                hint=f"Nothing was changed. Sign in as {', '.join(sorted(set(refused.values())))}, or as a superuser.",
            )

    def _reindex_tasks(self, tables: Sequence[str]) -> Iterator[MaintenanceTask]:
        for schema, name, exclusive, is_leftover, table in self._connection.fetch(
            INDEXES_OF_TABLES, {"tables": list(tables)}
        ):
            if not is_leftover:
                option = "" if exclusive else "CONCURRENTLY "  # not supported for exclusion constraints
                index = f"{ident(str(schema))}.{ident(str(name))}"
                yield MaintenanceTask(table=str(table), statement=f"REINDEX INDEX {option}{index}")

    def maintain(self, task: MaintenanceTask) -> None:
        if self._connection.read_only:
            raise RuntimeError("maintenance on a read-only connection")
        session = self._connection.session
        warned: list[str] = []

        def record_warning(diagnostic: psycopg.errors.Diagnostic) -> None:
            if diagnostic.severity_nonlocalized == "WARNING":
                warned.append(diagnostic.message_primary or "a warning")

        session.add_notice_handler(record_warning)
        unfinished = self._find_unfinished()
        try:
            # In a stricter isolation level, a concurrent build would wait for itself.
            self._connection.run("set default_transaction_isolation to 'read committed'")
            self._connection.run(task.statement)
        except DbctlError as error:
            # ``find_leftovers`` reports those that cannot be dropped now
            for index in sorted(self._find_unfinished() - unfinished):
                with suppress(DbctlError):
                    self._connection.run(f"drop index concurrently {index}")
            if isinstance(error, BusyError) and not error.context["holder"]:
                context = {**error.context, "holder": self._describe_older()}
                raise BusyError(**context) from error
            raise
        finally:
            session.remove_notice_handler(record_warning)
            if not session.closed:
                session.apply_settings()
        if warned:  # the server skipped the table and only warned
            raise QueryFailedError(target=self._connection.target, reason=warned[0])

    def _find_unfinished(self) -> set[str]:
        """Return the indexes that an interrupted REINDEX left, quoted, with their schema."""
        tables = {"tables": self._catalog.base_tables()}
        return {str(row[0]) for row in self._connection.fetch(LEFTOVERS.sql, tables)}

    def find_leftovers(self) -> Sequence[EngineFinding]:
        return list(find_problems(self._connection, [LEFTOVERS], {"tables": self._catalog.base_tables()}))

    def _describe_older(self) -> str:
        """Return the sessions with older transactions: a concurrent build waits for all of them at its end."""
        sessions = describe_sessions(self._connection.fetch(OLDER_TRANSACTIONS))
        return f" by {', '.join(sessions)}, whose transaction is older" if sessions else ""


def _vacuum_tasks(kind: MaintenanceKind, rows: Sequence[Row]) -> Iterator[MaintenanceTask]:
    for schema, name, _, dead, changed, _ in rows:
        table = f"{ident(str(schema))}.{ident(str(name))}"
        if kind == "vacuum" or (kind == "optimize" and dead):
            yield MaintenanceTask(table=str(name), statement=f"VACUUM (ANALYZE) {table}")
        elif kind == "analyze" or changed:
            yield MaintenanceTask(table=str(name), statement=f"ANALYZE {table}")
