"""Run scripts that change the schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from dbctl.engines.contract.schema import ScriptDialect
from dbctl.engines.postgresql.connection.connection import PostgreSQLConnection
from dbctl.engines.postgresql.connection.transactions import PostgreSQLTransactions
from dbctl.engines.postgresql.sql import script
from dbctl.engines.servers.database import ServerScripts
from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import ConstraintError, QueryFailedError

#: Queries of a table wait behind an ALTER that waits for its lock, so the ALTER times out early, and is retried.
SHORT_LOCK_SECONDS, SHORT_LOCK_TRIES = 2, 5
#: Whether this transaction has deleted rows of a table, or holds the lock of TRUNCATE. Changes that the session made just
#: before may be included.
HAS_DELETED = """select coalesce((select s.n_tup_del > 0 from pg_catalog.pg_stat_xact_all_tables s
    where s.relid = cast(:table as regclass)), true)
  or current_setting('track_counts') <> 'on'
  or exists (select from pg_catalog.pg_locks l where l.pid = pg_backend_pid() and l.granted
    and l.relation = cast(:table as regclass) and l.mode = 'AccessExclusiveLock')"""
#: An unfinished index of that name.
INVALID_INDEX = """select 1 from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
where c.relname = :name and not i.indisvalid and pg_catalog.pg_table_is_visible(c.oid)"""


class PostgreSQLScripts(ServerScripts):
    """The part ``ScriptRunner``."""

    script_dialect: ScriptDialect = script.SCRIPTS
    transactional_ddl = True
    _connection: PostgreSQLConnection
    _transactions: PostgreSQLTransactions

    @property
    def lock_attempts(self) -> int:
        return SHORT_LOCK_TRIES if self._connection.timeout else 1

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        if self._transactions.depth > self._transactions.base_depth:
            raise RuntimeError("a schema change inside another transaction")
        # Each statement needs a new snapshot, so that it includes rows that were committed while it waited for its lock.
        with (
            self._restore_settings(),
            self._transactions.begin("begin isolation level read committed read write"),
        ):
            if short_waits and self._connection.timeout > SHORT_LOCK_SECONDS:
                limit = f"{SHORT_LOCK_SECONDS}s"
                self._connection.fetch(
                    "select set_config('lock_timeout', :limit, true)", {"limit": limit}, writing=True
                )
            yield

    def may_have_deleted(self, table: str) -> bool:
        return self._connection.fetch(HAS_DELETED, {"table": self._catalog.quote_table(table)}) != [(False,)]

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        index = script.find_concurrent_index(sql)
        if not index or not self._connection.fetch(INVALID_INDEX, {"name": index}):
            return ()
        return [f"drop index concurrently {ident(index)};"]

    def drop_statements(self) -> Sequence[str]:
        from dbctl.engines.postgresql.backup import empty_schemas

        schemas = "pg_catalog.current_schemas(false)"
        for (dependent,) in self._connection.fetch(empty_schemas.dependents_query(schemas)):
            raise ConstraintError(
                target=self._connection.target, reason=f"{dependent} depends on objects that would be dropped"
            )
        ((drops,),) = self._connection.fetch(empty_schemas.drops_query(schemas))
        return cast("list[str]", drops or [])

    def run_statement(self, sql: str) -> None:
        outside = self._in_step_mode and not self._transactions.depth
        if reason := script.SCRIPTS.unsupported_reason(sql, outside=outside):
            raise QueryFailedError(target=self._connection.target, reason=reason)
        if not outside:
            self._transactions.require()
        self._connection.running_statement = sql
        try:
            self._connection.fetch(sql, writing=True)
        finally:
            self._connection.running_statement = ""
            self._catalog.forget()
