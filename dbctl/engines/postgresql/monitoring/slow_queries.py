"""Which statements take long on a server, as pg_stat_statements remembers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from dbctl.engines.contract import Slow
from dbctl.engines.parsing import shown
from dbctl.engines.postgresql.dialect import PostgreSQLDialect
from dbctl.engines.postgresql.sql import tokens
from dbctl.engines.sql import ident, literal
from dbctl.errors import NotSupportedError

WHERE = """select n.nspname, exists (select from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
    where c.relname = 'pg_stat_statements' and c.relnamespace = n.oid and a.attname = 'mean_exec_time')
from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'"""
#: Its columns have other names since PostgreSQL 13, but only once the extension itself was updated.
NEW, OLD = ("total_exec_time", "mean_exec_time", "max_exec_time"), ("total_time", "mean_time", "max_time")
#: The library knows its own settings once it is loaded; which others are, only some roles may see.
LOADED = """select current_setting('pg_stat_statements.max', true) is not null, current_database(),
  (select setting from pg_catalog.pg_settings where name = 'shared_preload_libraries')"""
LOGGED = (
    "Without it, ALTER DATABASE {} SET log_min_duration_statement = '500ms'; has slow ones written into the server's log"
    " (SET log_statement = 'all' has every one; either may write down what stands in them as a value)."
)


class PostgreSQLSlow(PostgreSQLDialect):
    """Capability.SLOW."""

    def slow(self) -> Sequence[Slow]:
        found = self._fetch(WHERE, {})
        ((loaded, database, libraries),) = self._fetch(LOADED, {})
        if not (found and loaded):
            lines = [] if found else ["CREATE EXTENSION pg_stat_statements;"]
            if not loaded:
                lines = [*_loading(None if libraries is None else str(libraries)), *lines]
            raise NotSupportedError(
                what="telling which statements are slow",
                by=f"{self.target} as it is",
                instead=f"As a superuser: {' '.join(lines)} {LOGGED.format(ident(str(database)))}",
            )
        ((schema, new),) = found
        total, mean, longest = NEW if new else OLD
        sql = f"""select query, calls, {total} / 1000, {mean} / 1000, {longest} / 1000, rows,
  shared_blks_hit::float8 / nullif(shared_blks_hit + shared_blks_read, 0)
from {ident(str(schema))}.pg_stat_statements
where dbid = (select oid from pg_catalog.pg_database where datname = current_database()) order by 3 desc"""  # noqa: S608 - names of ours, quoted
        return [
            Slow(
                query=shown(str(query or ""), tokens),
                calls=cast("int", calls),
                total_seconds=round(cast("float", all_), 6),
                mean_seconds=round(cast("float", average), 6),
                max_seconds=round(cast("float", most), 6),
                rows=cast("int", rows),
                cache_hit_ratio=None if hits is None else round(cast("float", hits), 4),
            )
            for query, calls, all_, average, most, rows, hits in self._fetch(sql, {})
        ]


def _loading(libraries: str | None) -> list[str]:
    """Return what has the server load the library beside the others; None: they are not known."""
    if libraries is None:
        return ["add 'pg_stat_statements' to shared_preload_libraries, restart the server, then"]
    names = [name.strip() for name in libraries.split(",") if name.strip()]
    listed = ", ".join(literal(name) for name in [*names, "pg_stat_statements"])
    return [f"ALTER SYSTEM SET shared_preload_libraries = {listed};", "restart the server, then"]
