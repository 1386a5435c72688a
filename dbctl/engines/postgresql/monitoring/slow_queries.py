"""Slow statements of a server, from pg_stat_statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from dbctl.engines.contract import SlowQuery
from dbctl.engines.parsing import redact_statement
from dbctl.engines.postgresql.sql import tokenize
from dbctl.engines.sql import ident, quote_literal
from dbctl.errors import NotSupportedError

if TYPE_CHECKING:
    from dbctl.engines.postgresql.database import PostgreSQLDatabase

EXTENSION = """select n.nspname, exists (select from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
    where c.relname = 'pg_stat_statements' and c.relnamespace = n.oid and a.attname = 'mean_exec_time')
from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'"""
#: Column names differ since PostgreSQL 13, but only after the extension was updated.
NEW_COLUMNS, OLD_COLUMNS = (
    ("total_exec_time", "mean_exec_time", "max_exec_time"),
    ("total_time", "mean_time", "max_time"),
)
#: The setting exists once the library is loaded; only some roles may see which libraries are configured.
LOADED = """select current_setting('pg_stat_statements.max', true) is not null, current_database(),
  (select setting from pg_catalog.pg_settings where name = 'shared_preload_libraries')"""
LOGGED = (
    "Without it, ALTER DATABASE {} SET log_min_duration_statement = '500ms'; logs slow statements on the server"
    " (SET log_statement = 'all' logs all statements; either may log values)."
)


class PostgreSQLSlowQueries:
    """The part ``SlowQueryMonitor``."""

    def __init__(self, db: PostgreSQLDatabase) -> None:
        self._connection = db.connection

    def list_slow_queries(self) -> Sequence[SlowQuery]:
        extension = self._connection.fetch(EXTENSION)
        ((loaded, database, libraries),) = self._connection.fetch(LOADED)
        if not (extension and loaded):
            lines = [] if extension else ["CREATE EXTENSION pg_stat_statements;"]
            if not loaded:
                lines = [*_load_instructions(None if libraries is None else str(libraries)), *lines]
            raise NotSupportedError(
                feature="listing slow statements",
                subject=f"{self._connection.target} with its current settings",
                hint=f"As a superuser: {' '.join(lines)} {LOGGED.format(ident(str(database)))}",
            )
        ((schema, has_new_columns),) = extension
        total, mean, longest = NEW_COLUMNS if has_new_columns else OLD_COLUMNS
        sql = f"""select query, calls, {total} / 1000, {mean} / 1000, {longest} / 1000, rows,
  shared_blks_hit::float8 / nullif(shared_blks_hit + shared_blks_read, 0)
from {ident(str(schema))}.pg_stat_statements
where dbid = (select oid from pg_catalog.pg_database where datname = current_database()) order by 3 desc"""
        return [
            SlowQuery(
                query=redact_statement(str(query or ""), tokenize),
                calls=cast("int", calls),
                total_seconds=round(cast("float", total_time), 6),
                mean_seconds=round(cast("float", mean_time), 6),
                max_seconds=round(cast("float", max_time), 6),
                rows=cast("int", rows),
                cache_hit_ratio=None if hits is None else round(cast("float", hits), 4),
            )
            for query, calls, total_time, mean_time, max_time, rows, hits in self._connection.fetch(sql)
        ]


def _load_instructions(libraries: str | None) -> list[str]:
    """Return the steps that load the library in addition to the configured ``libraries``; None: they are unknown."""
    if libraries is None:
        return ["add 'pg_stat_statements' to shared_preload_libraries, restart the server, then"]
    names = [name.strip() for name in libraries.split(",") if name.strip()]
    listed = ", ".join(quote_literal(name) for name in [*names, "pg_stat_statements"])
    return [f"ALTER SYSTEM SET shared_preload_libraries = {listed};", "restart the server, then"]
