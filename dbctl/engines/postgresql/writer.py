"""Write to a database on a server, only inside of transactions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import cast

import psycopg
from psycopg import pq

from dbctl.engines.contract import Capability, Column, MergeRule, ScriptDialect, ShiftedTime, Where
from dbctl.engines.postgresql.connection import CAPABILITIES, PostgreSQLConnection
from dbctl.engines.postgresql.fulltext import PostgreSQLTextWriter
from dbctl.engines.postgresql.locks import PostgreSQLLocks
from dbctl.engines.postgresql.sql import script
from dbctl.engines.postgresql.staging import PostgreSQLStaging
from dbctl.engines.postgresql.types import base_type, encode_for_column
from dbctl.engines.servers import TRANSACTION_ENDED
from dbctl.engines.sql import Statement, conflict_clause, ident
from dbctl.errors import ConstraintError, QueryFailedError

#: Ascending sequences from which columns of a table take their values, of any owner.
SEQUENCES = """select a.attname::text, s.seqrelid::regclass::text
from pg_catalog.pg_attribute a join pg_catalog.pg_sequence s on s.seqincrement > 0 and (
  exists (select from pg_catalog.pg_attrdef f join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_attrdef'::regclass
    and d.objid = f.oid and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = s.seqrelid
    where f.adrelid = a.attrelid and f.adnum = a.attnum)
  or exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = s.seqrelid
    and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
    and d.deptype = 'i'))
where a.attrelid = cast(:table as regclass) and a.attnum > 0 and not a.attisdropped order by a.attnum"""

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


class PostgreSQLWriter(PostgreSQLLocks, PostgreSQLConnection, PostgreSQLTextWriter, PostgreSQLStaging):
    """A session that may write. Its transactions see the snapshot of their first statement, and their own changes.

    If another transaction has changed the same row since then, ``ConcurrentChangeError`` is raised, so that only what
    was planned is executed.
    """

    capabilities = CAPABILITIES | {Capability.STAGING, Capability.MIGRATE}
    script_dialect: ScriptDialect = script
    transactional_ddl = True
    _base_depth = 0  #: the depth without an open transaction of dbctl
    _running_statement = ""  #: the running statement of a script

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._transaction("begin isolation level repeatable read read write"):
            yield

    def _roll_back(self, sql: str) -> None:
        session = self._session
        if session is None or session.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return  # a rejected commit has ended it already
        try:
            if session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                raise psycopg.OperationalError  # a signal arrived where the statement could not be cancelled
            session.execute(sql.encode())
        except psycopg.Error:
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=1)
            self.close()  # this rolls back; the original error is reported

    def _lock_clause(self, table: str) -> str:
        return " for no key update of t0" if self._depth and not self._require_table(table).is_view else ""

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        sql = f"insert into {self._quote_table(table)} default values"
        if values:
            names = ", ".join(self._quote_column(table, name, "") for name in values)
            expressions = ", ".join(
                self._value_sql(table, name, value, statement) for name, value in values.items()
            )
            sql = f"insert into {self._quote_table(table)} ({names}) values ({expressions})"  # noqa: S608 - names are checked and quoted
        if returning:
            sql += f" returning {self._quote_column(table, returning, '')}"
        self._require_transaction()
        rows = self._rows(sql, statement.parameters, writing=True)
        return rows[0][0] if rows else None

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        described = [self._require_column(table, name) for name in columns]
        self._require_transaction()
        if self._require_table(table).is_view:
            return sum(self._insert_row(table, columns, row) for row in rows)
        return self._copy_rows(self._quote_table(table), described, rows)

    def _copy_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        sql = f"copy {table} ({', '.join(ident(column.name) for column in columns)}) from stdin"
        # An error of the iterator is raised unchanged.
        with self._translate_errors(sql, writing=True), self._require_session().cursor() as cursor:
            with cursor.copy(sql.encode()) as copy:
                for row in rows:
                    copy.write_row(
                        [encode_for_column(column, value) for column, value in zip(columns, row, strict=True)]
                    )
            return cursor.rowcount

    def _insert_row(self, table: str, columns: Sequence[str], row: Sequence[object]) -> int:
        self.insert(table, dict(zip(columns, row, strict=True)))
        return 1

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        sets = ", ".join(
            f"{self._quote_column(table, name, '')} = {self._value_sql(table, name, value, statement)}"
            for name, value in values.items()
        )
        condition = self._where_clause(statement, table, where, "t0")
        self._require_transaction()
        return self._execute_write(
            f"update {self._quote_table(table)} as t0 set {sets}{condition}",  # noqa: S608 - names are checked and quoted
            statement.parameters,
        )

    def _value_sql(self, table: str, name: str, value: object, statement: Statement) -> str:
        column = self._require_column(table, name)
        if isinstance(value, ShiftedTime):
            source = self._require_column(table, value.column)
            return self._add_milliseconds(
                self._quote_column(table, value.column, "t0"), source, value, column
            )
        return statement.bind(encode_for_column(column, value))

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, MergeRule],
    ) -> int:
        names = {name: self._quote_column(table, name, "") for name in (*key, *columns)}
        casts = ", ".join(
            f"cast(s.c{index} as {base_type(self._require_column(table, name))})"
            for index, name in enumerate(names)
        )
        aliases = ", ".join(f"c{index}" for index in range(len(names)))
        self._require_transaction()
        return self._execute_write(
            f"insert into {self._quote_table(table)} as t0 ({', '.join(names.values())})"  # noqa: S608 - names are checked and quoted
            f" select {casts} from ({select}) as s ({aliases})"
            f" on conflict ({', '.join(names[name] for name in key)}) do {conflict_clause(names, columns)}",
            parameters,
        )

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement(table)
        condition = self._where_clause(statement, table, where, "t0")
        self._require_transaction()
        return self._execute_write(
            f"delete from {self._quote_table(table)} as t0{condition}",  # noqa: S608 - names are checked and quoted
            statement.parameters,
        )

    def advance_sequences(self, table: str) -> None:
        name = self._quote_table(table)
        self._require_transaction()
        for column, sequence in self._rows(SEQUENCES, {"table": name}):
            largest = f"select max({self._quote_column(table, str(column), '')}) as largest from {name}"  # noqa: S608 - names are checked and quoted
            self._rows(
                # never decrease it: a value that was returned once is not returned again
                f"select setval(cast(:sequence as regclass), m.largest) from ({largest}) m"  # noqa: S608 - names are checked and quoted
                " where m.largest > coalesce(pg_sequence_last_value(cast(:sequence as regclass)), 0)",
                {"sequence": sequence},
                writing=True,
            )

    # Scripts that change the schema ----------------------------------------------------------------------------

    @property
    def lock_attempts(self) -> int:
        return SHORT_LOCK_TRIES if self._timeout else 1

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        if self._depth > self._base_depth:
            raise RuntimeError("a schema change inside another transaction")
        # Each statement needs a new snapshot, so that it includes rows that were committed while it waited for its lock.
        with self._restore_settings(), self._transaction("begin isolation level read committed read write"):
            if short_waits and self._timeout > SHORT_LOCK_SECONDS:
                limit = f"{SHORT_LOCK_SECONDS}s"
                self._rows("select set_config('lock_timeout', :limit, true)", {"limit": limit}, writing=True)
            yield

    def may_have_deleted(self, table: str) -> bool:
        return self._rows(HAS_DELETED, {"table": self._quote_table(table)}) != [(False,)]

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        index = script.find_concurrent_index(sql)
        if not index or not self._rows(INVALID_INDEX, {"name": index}):
            return ()
        return [f"drop index concurrently {ident(index)};"]

    def drop_statements(self) -> Sequence[str]:
        from dbctl.engines.postgresql.backup import empty_schemas

        schemas = "pg_catalog.current_schemas(false)"
        for (dependent,) in self._fetch(empty_schemas.dependents_query(schemas), {}):
            raise ConstraintError(
                target=self.target, reason=f"{dependent} depends on objects that would be dropped"
            )
        ((drops,),) = self._fetch(empty_schemas.drops_query(schemas), {})
        return cast("list[str]", drops or [])

    def run_statement(self, sql: str) -> None:
        outside = self._in_step_mode and not self._depth
        if reason := script.unsupported_reason(sql, outside=outside):
            raise QueryFailedError(target=self.target, reason=reason)
        if not outside:
            self._require_transaction()
        self._running_statement = sql
        try:
            self._rows(sql, {}, writing=True)
        finally:
            self._running_statement, self._tables = "", None

    def _statement_names(self) -> Sequence[str]:
        significant = script.significant_tokens(self._running_statement)
        words = [token.text.lower() for token in significant if token.kind == "word"]
        return words + [token.text[1:-1].replace('""', '"') for token in significant if token.kind == "name"]

    def _require_transaction(self) -> None:
        session = self._require_session()
        if not self._depth:
            raise RuntimeError("a write outside a transaction")
        if (
            session.pgconn.status == pq.ConnStatus.OK
            and session.pgconn.transaction_status != pq.TransactionStatus.INTRANS
        ):
            raise QueryFailedError(target=self.target, reason=TRANSACTION_ENDED)
