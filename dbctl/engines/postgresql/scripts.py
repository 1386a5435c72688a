"""Scripts, the scratch databases in which they are tried, and staging tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from dbctl.engines.contract.database import Column
from dbctl.engines.contract.schema import ScriptDialect
from dbctl.engines.postgresql import statements
from dbctl.engines.postgresql.catalog import IN_SEARCH_PATH
from dbctl.engines.postgresql.database import PostgreSQLPart, PostgreSQLWriter
from dbctl.engines.postgresql.values import base_type
from dbctl.engines.servers.database import ServerScripts
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sql.staging import SqlStagingTables
from dbctl.errors.connection import ConstraintError, QueryFailedError
from dbctl.url import Url

#: Queries of a table wait behind an ALTER that waits for its lock, so the ALTER times out early, and is tried at least so often.
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


class PostgreSQLScripts(PostgreSQLPart, ServerScripts):
    script_dialect: ScriptDialect = statements.SCRIPTS
    transactional_ddl = True
    _db: PostgreSQLWriter

    @property
    def lock_attempts(self) -> int:
        timeout = self._connection.timeout
        return max(SHORT_LOCK_TRIES, round(timeout / SHORT_LOCK_SECONDS)) if timeout else 1

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        if self._db.transactions.depth > self._db.transactions.base_depth:
            raise RuntimeError("a schema change inside another transaction")
        # Each statement needs a new snapshot, so that it includes rows that were committed while it waited for its lock.
        with (
            self._restore_settings(),
            self._db.transactions.begin("begin isolation level read committed read write"),
        ):
            if short_waits and self._connection.timeout > SHORT_LOCK_SECONDS:
                limit = f"{SHORT_LOCK_SECONDS}s"
                self._connection.fetch(
                    "select set_config('lock_timeout', :limit, true)", {"limit": limit}, writing=True
                )
            yield

    def _remove_session_objects(self) -> None:
        self._connection.run("close all; deallocate all; unlisten *; discard temp; discard sequences")

    def use_own_settings(self) -> None:
        path = self._connection.session.settings.get("search_path", "default")  # in SQL
        self._connection.run(
            f"set local session authorization default; set local role to default; set local search_path to {path}"
        )
        self._catalog.forget()

    def may_have_deleted(self, table: str) -> bool:
        return self._connection.fetch(HAS_DELETED, {"table": self._catalog.quote_table(table)}) != [(False,)]

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        index = statements.find_concurrent_index(sql)
        if not index or not self._connection.fetch(INVALID_INDEX, {"name": index}):
            return ()
        return [f"drop index concurrently {ident(index)};"]

    def drop_statements(self) -> Sequence[str]:
        from dbctl.engines.postgresql import dump_limits

        schemas = f"array(select n.nspname from pg_catalog.pg_namespace n where {IN_SEARCH_PATH})"
        for (dependent,) in self._connection.fetch(dump_limits.DEPENDENT.format(schemas)):
            raise ConstraintError(
                target=self._connection.target, reason=f"{dependent} depends on objects that would be dropped"
            )
        ((drops,),) = self._connection.fetch(dump_limits.DROPS.format(schemas))
        return cast("list[str]", drops or [])

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        # No other session is affected by a transaction in a scratch schema.
        with self.schema_transaction() if self._db.transactions.base_depth else super().outside_transaction():
            yield

    def run_statement(self, sql: str) -> None:
        if self._db.transactions.base_depth and not (sql := statements.remove_concurrently(sql)):
            return
        outside = self._in_step_mode and not self._db.transactions.depth
        if reason := statements.SCRIPTS.unsupported_reason(sql, outside=outside):
            raise QueryFailedError(target=self._connection.target, reason=reason)
        if not outside:
            self._db.transactions.require()
        self._connection.running_statement = sql
        try:
            self._connection.fetch(sql, writing=True)
        finally:
            self._connection.running_statement = ""
            self._catalog.forget()


def open_scratch(url: Url, target: str) -> PostgreSQLWriter:
    """Open an empty schema inside a transaction that is never committed; transactions in it are savepoints.

    The role needs the privilege to create schemas in the database. A script that names another schema changes that schema,
    and the rollback includes it.
    """
    db = PostgreSQLWriter(url, target)
    connection, session = db.connection, db.connection.session
    name = f"dbctl_scratch_{session.pgconn.backend_pid}"
    try:
        connection.run("begin isolation level read committed read write")
        db.transactions.depth = db.transactions.base_depth = 1
        connection.fetch(f"create schema {ident(name)}", writing=True)
        session.settings["search_path"] = ident(name)
        connection.apply_settings()
    except BaseException:  # an open connection must not outlive the failure
        db.close()
        raise
    return db


class PostgreSQLStaging(PostgreSQLPart, SqlStagingTables):
    _db: PostgreSQLWriter

    def _create_staging_table(
        self, name: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> str:
        staging_table, names = f"pg_temp.{ident(name)}", ", ".join(ident(column) for column in columns)
        select = f"select {names} from {self._catalog.quote_table(table)} with no data"
        self._connection.fetch(f"create temporary table {ident(name)} as {select}", writing=True)
        described = [self._catalog.require_column(table, column) for column in columns]
        self._connection.copy_rows(staging_table, described, rows)
        self._connection.fetch(f"analyze {staging_table}", writing=True)
        return staging_table

    def same_value(self, table: str, column: str) -> str:
        name = self._catalog.quote_column(table, column, "")
        # As text: not every type has an equality operator, and 1.0 is not 1.00.
        return (
            f'(cast(t0.{name} as text) collate "C" is not distinct from cast(s.{name} as text) collate "C")'
        )

    def insert_select(self, table: str, columns: Sequence[str], select: str) -> int:
        names = ", ".join(ident(name) for name in columns)
        # With OVERRIDING, a GENERATED ALWAYS column accepts a value.
        return self.write(
            f"insert into {self._catalog.quote_table(table)} ({names}) overriding system value {select}"
        )

    def write(self, sql: str) -> int:
        self._db.transactions.require()
        return self._connection.execute_write(sql)

    def declare_type(self, column: Column) -> str:
        return base_type(column)
