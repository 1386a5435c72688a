"""Write to a database on a server, only inside of transactions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pymysql

from dbctl import signals
from dbctl.engines.contract import (
    AllOf,
    AnyOf,
    Capability,
    Column,
    InSubquery,
    MergeRule,
    Not,
    ReferenceCount,
    ScriptDialect,
    ShiftedTime,
    Where,
)
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.dialect import parse_time_sql
from dbctl.engines.mysql.fulltext import MySQLTextWriter
from dbctl.engines.mysql.locks import MySQLLocks
from dbctl.engines.mysql.sql import script
from dbctl.engines.mysql.staging import MySQLStaging
from dbctl.engines.mysql.types import (
    TIMES,
    MySQLColumn,
    MySQLTable,
    encode_for_column,
    format_literal,
    kind_of,
)
from dbctl.engines.servers import BASE_CAPABILITIES, TRANSACTION_ENDED
from dbctl.engines.sql import Statement, ident, merge_expressions, require_column_count
from dbctl.errors import ConstraintError, NotSupportedError, QueryFailedError, ValueInvalidError

OBJECTS = """select case table_type when 'VIEW' then 'view' when 'SEQUENCE' then 'sequence' else 'table' end, table_name
from information_schema.tables where table_schema = database()
union all select lower(routine_type), routine_name from information_schema.routines where routine_schema = database()
union all select 'event', event_name from information_schema.events where event_schema = database()"""
#: Characters of a statement that inserts several rows; a server accepts at least 16 MiB, in any encoding.
MAX_INSERT_CHARACTERS = 1 << 20
#: The row number inside one statement, which is not the number of the inserted row.
_ROW_SUFFIX = re.compile(r" at row \d+$")


class MySQLWriter(MySQLLocks, MySQLConnection, MySQLTextWriter, MySQLStaging):
    """A session that may write. Its transactions see the snapshot of their first statement, and their own changes.

    If another transaction has changed the same row since then, ``ConcurrentChangeError`` is raised; a server that cannot
    detect this locks everything that is read. Either way, only what was planned is executed.
    """

    capabilities = BASE_CAPABILITIES | {Capability.STAGING, Capability.MIGRATE}
    script_dialect: ScriptDialect = script
    transactional_ddl = False  # schema changes commit
    lock_attempts = 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            with self._transaction("start transaction read write"):
                yield
        finally:
            if not self._depth:
                self._has_failed, self._ending_error = False, ""

    def _roll_back(self, sql: str) -> None:
        session = self._session
        if session is None or (self._depth > 1 and self._ending_error):
            return  # the server has rolled back everything
        try:
            session.run(sql)
            self._has_failed = False
        except pymysql.Error:
            self.close()  # this rolls back; the original error is reported

    def _in_transaction(self) -> bool:
        return bool(self._depth)

    def _lock_clause(self, table: str) -> str:
        if not self._depth or self._require_table(table).is_view:
            return ""
        return " for update" if self._timeout > 0 else " for update nowait"

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        names = ", ".join(self._quote_column(table, name, "") for name in values)
        expressions = ", ".join(
            self._value_sql(table, name, value, statement) for name, value in values.items()
        )
        column = self._require_column(table, returning) if returning else None
        self._require_transaction(table)
        sql = f"insert into {self._quote_table(table)} ({names}) values ({expressions})"  # noqa: S608 - names are checked and quoted
        with self._execute(sql, statement.parameters, writing=True) as cursor:
            new_key = cursor.lastrowid
        return self._read_inserted(table, values, new_key, column.name) if column else None

    def _read_inserted(
        self, table: str, values: Mapping[str, object], new_key: int | None, returning: str
    ) -> object:
        """Return a column of the row that was just inserted, found by its primary key."""
        key: dict[str, object] = {}
        for name in self._primary_key(table):
            column = self._require_column(table, name)
            key[name] = values.get(name)
            if key[name] is None and isinstance(column, MySQLColumn) and column.auto_increment:
                key[name] = new_key
        if not key or None in key.values():
            raise NotSupportedError(
                feature=f"returning {table}.{returning} of a new row",
                subject=self.target,
                hint="The primary key is neither AUTO_INCREMENT nor part of the values.",
            )
        statement = Statement()
        condition = " and ".join(
            f"{self._quote_column(table, name, '')} = {self._value_sql(table, name, value, statement)}"
            for name, value in key.items()
        )
        sql = f"select {self._quote_column(table, returning, '')} from {self._quote_table(table)} where {condition}"  # noqa: S608 - names are checked and quoted
        return self._rows(sql, statement.parameters, writing=True)[0][0]

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        described = [self._require_column(table, name) for name in columns]
        self._require_transaction(table)
        return self._insert_rows(self._quote_table(table), described, rows)

    def _insert_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        names = ", ".join(ident(column.name) for column in columns)
        sql = f"insert into {table} ({names}) values "  # noqa: S608 - names are checked and quoted
        # The limit is in characters, each of several bytes.
        limit = min(MAX_INSERT_CHARACTERS, self._require_session().max_statement_bytes // 8)
        row_count = length = 0
        pending: list[str] = []
        for row in rows:
            literals = [
                format_literal(encode_for_column(column, value))
                for column, value in zip(columns, row, strict=True)
            ]
            values = f"({', '.join(literals)})"
            if pending and length + len(values) > limit:
                signals.raise_if_interrupted()
                row_count += self._insert_batch(sql, pending, row_count)
                pending, length = [], 0
            pending.append(values)
            length += len(values)
        return row_count + (self._insert_batch(sql, pending, row_count) if pending else 0)

    def _insert_batch(self, sql: str, rows: Sequence[str], before: int) -> int:
        """Insert rows, of which ``before`` were inserted already."""
        try:
            return self._execute_text(sql + ", ".join(rows))
        except (ConstraintError, ValueInvalidError) as error:
            error.context["row"] = before + self._find_refused_row(sql, rows)
            error.args = (_ROW_SUFFIX.sub("", str(error)),)
            raise

    def _find_refused_row(self, sql: str, rows: Sequence[str]) -> int:
        """Return the number of the row that the server rejects, from 1; it does not report that for several rows in one statement."""
        accepted = 0
        self._execute_text("savepoint rows_apart")
        try:
            for row in rows:
                signals.raise_if_interrupted()
                self._execute_text(sql + row)
                accepted += 1
        except (ConstraintError, ValueInvalidError):
            return accepted + 1
        finally:
            self._execute_text("rollback to savepoint rows_apart")
        return accepted

    def _execute_text(self, sql: str) -> int:
        """Run a statement without parameters; return the row count."""
        with self._translate_errors(sql, writing=True), self._require_session().cursor() as cursor:
            cursor.execute(sql)
            return cursor.rowcount

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        # A server runs the assignments in order, so those that read a column come before those that write it.
        ordered = sorted(values.items(), key=lambda assignment: not isinstance(assignment[1], ShiftedTime))
        sets = ", ".join(
            f"{self._quote_column(table, name, 't0')} = {self._value_sql(table, name, value, statement)}"
            for name, value in ordered
        )
        rows = self._select_for_change(statement, table, where)
        self._require_transaction(table)
        tables, condition = rows
        return self._execute_write(f"update {tables} set {sets}{condition}", statement.parameters)  # noqa: S608 - names are checked and quoted

    def _value_sql(self, table: str, name: str, value: object, statement: Statement) -> str:
        column = self._require_column(table, name)
        if isinstance(value, ShiftedTime):
            source = self._require_column(table, value.column)
            return self._add_milliseconds(
                self._quote_column(table, value.column, "t0"), source, value, column
            )
        return statement.bind(encode_for_column(column, value))

    def _select_for_change(self, statement: Statement, table: str, where: Sequence[Where]) -> tuple[str, str]:
        """Return the tables and the condition for the rows of ``table`` that meet every condition, for a write.

        A server cannot read a table that it writes, so rows that depend on other rows of the table are selected first.
        """
        condition = self._where_clause(statement, table, where, "t0")
        key = [self._quote_column(table, name, "") for name in self._primary_key(table)]
        if not (key and _reads_table(where, table)):
            return f"{self._quote_table(table)} t0", condition
        key_columns = ", ".join(f"t0.{name}" for name in key)
        link = " and ".join(f"t0.{name} = found.{name}" for name in key)
        subquery = f"select distinct {key_columns} from {self._quote_table(table)} t0{condition}"  # noqa: S608 - names are checked and quoted
        return f"{self._quote_table(table)} t0 join ({subquery}) found on {link}", ""

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
        new_values = {
            name: self._convert_for_column(table, name, f"s.c{index}") for index, name in enumerate(names)
        }
        source = f"({require_column_count(select, len(names))}) s"
        old_values = {name: f"t0.{quoted}" for name, quoted in names.items()}
        link = " and ".join(f"{old_values[name]} = {new_values[name]}" for name in key)
        sets = [
            f"{old_values[name]} = {value}"
            for name, value in merge_expressions(columns, old_values, new_values).items()
        ]
        self._require_transaction(table)
        # ON DUPLICATE KEY UPDATE would also change rows that match another unique index.
        changed = (
            self._execute_write(
                f"update {self._quote_table(table)} t0 join {source} on {link} set {', '.join(sets)}",  # noqa: S608 - names are checked and quoted
                parameters,
            )
            if sets
            else 0
        )
        return changed + self._execute_write(
            f"insert into {self._quote_table(table)} ({', '.join(names.values())}) select {', '.join(new_values.values())}"  # noqa: S608 - names are checked and quoted
            f" from {source} left join {self._quote_table(table)} t0 on {link} where {old_values[key[0]]} is null",
            parameters,
        )

    def _convert_for_column(self, table: str, name: str, value: str) -> str:
        """Return SQL for a value of any type in the form that a column accepts."""
        if kind_of(self._require_column(table, name)) in TIMES:
            return parse_time_sql(value, self._exact_text(value))
        return value

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement(table)
        tables, condition = self._select_for_change(statement, table, where)
        self._require_transaction(table)
        return self._execute_write(f"delete t0 from {tables}{condition}", statement.parameters)

    def advance_sequences(self, table: str) -> None:
        self._require_table(table)  # the server advances them itself

    # Scripts that change the schema ----------------------------------------------------------------------------

    @contextmanager
    def schema_transaction(self, *, short_waits: bool = False) -> Iterator[None]:
        del short_waits  # each statement commits, and has a separate timeout
        if self._depth:
            raise RuntimeError("a schema change inside another transaction")
        with self._restore_settings(), self.transaction():
            yield

    def may_have_deleted(self, table: str) -> bool:
        del table  # the server does not report it
        return True

    def cleanup_statements(self, sql: str) -> Sequence[str]:
        del sql  # a failed statement is rolled back entirely
        return ()

    def drop_statements(self) -> Sequence[str]:
        drops = [f"drop {kind} if exists {ident(str(name))}" for kind, name in self._fetch(OBJECTS, {})]
        return ["set foreign_key_checks = 0", *drops, "set foreign_key_checks = 1"]

    def run_statement(self, sql: str) -> None:
        if reason := script.unsupported_reason(sql):
            raise QueryFailedError(target=self.target, reason=reason)
        if self._in_step_mode and not self._depth:
            try:
                self._rows(sql, {}, writing=True)
            finally:
                self._tables = None
                # No transaction is open.
                self._has_failed, self._ending_error = False, ""
            return
        self._require_transaction()
        self._rows(sql, {}, writing=True)
        self._control_transaction("commit")  # each step commits; the server may have done so already
        self._control_transaction("start transaction read write")
        self._tables = None

    def _require_transaction(self, table: str = "") -> None:
        """Refuse a write that could not be rolled back."""
        session = self._require_session()
        if not self._depth:
            raise RuntimeError("a write outside a transaction")
        if session.open and (self._has_failed or self._ending_error or not session.in_transaction):
            raise QueryFailedError(target=self.target, reason=TRANSACTION_ENDED)
        live_table = self._require_table(table) if table else None
        if isinstance(live_table, MySQLTable) and not live_table.transactional:
            raise NotSupportedError(
                feature=f"writing to {table} of {self.target}",
                subject=f"{live_table.storage_engine}, which stores that table and cannot roll back changes",
                hint=f"Nothing was changed. With the app stopped: ALTER TABLE `{table.replace('`', '``')}` ENGINE=InnoDB;",
            )


def _reads_table(where: Sequence[Where], table: str) -> bool:
    """Return whether a condition reads other rows of ``table``."""
    for condition in where:
        match condition:
            case InSubquery() if condition.table == table or _reads_table(condition.where, table):
                return True
            case ReferenceCount() if condition.table == table:
                return True
            case AnyOf() | AllOf() if _reads_table(condition.conditions, table):
                return True
            case Not() if _reads_table([condition.condition], table):
                return True
    return False
