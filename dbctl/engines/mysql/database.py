"""Open databases: their parts, reading, writing inside of transactions, and scratch databases."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property

import pymysql

from dbctl import signals
from dbctl.engines.contract.checks import Checks
from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Column,
    InSubquery,
    Merge,
    Not,
    Query,
    ReferenceCount,
    ShiftedTime,
    Where,
)
from dbctl.engines.contract.dumps import Dumps
from dbctl.engines.contract.fulltext import FullText
from dbctl.engines.contract.monitoring import ServerMonitor, StorageManager
from dbctl.engines.contract.schema import ScriptRunner
from dbctl.engines.contract.streaming import RowStreams, StagingTables
from dbctl.engines.mysql.catalog import MySQLCatalog, MySQLSchemaReader, find_history, read_numbered_columns
from dbctl.engines.mysql.connection import (
    DbctlLock,
    MySQLConnection,
    MySQLTransactions,
    acquire_sql,
    scratch_lock_name,
)
from dbctl.engines.mysql.dialect import MySQLDialect, parse_time_sql
from dbctl.engines.mysql.opening import open_session, quote
from dbctl.engines.mysql.values import (
    MySQLCodec,
    MySQLColumn,
    MySQLTable,
    encode_for_column,
    exact_expression,
    format_literal,
    is_single,
    shorten_single,
)
from dbctl.engines.servers.database import ServerDatabase, ServerWriter
from dbctl.engines.servers.values import TIMES, kind_of
from dbctl.engines.sql.catalog import Row, Statement, ident, merge_expressions, require_column_count
from dbctl.engines.sql.checks import SqlExplainer
from dbctl.engines.sql.database import SqlPart
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError, PrivilegeMissingError
from dbctl.errors.usage import KeyNotReturnedError, NotSupportedError, ValueInvalidError
from dbctl.url import Url

#: Characters of a statement that inserts several rows; a server accepts at least 16 MiB, in any encoding.
MAX_INSERT_CHARACTERS = 1 << 20
#: The row number inside one statement, which is not the number of the inserted row.
_ROW_SUFFIX = re.compile(r" at row \d+$")


class RowInserter:
    """Inserts rows within a transaction."""

    def __init__(self, connection: MySQLConnection) -> None:
        self._connection = connection

    def insert(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows into ``table``, a name in SQL; return their number.

        Raises:
            ConstraintError, ValueInvalidError: the server rejects a row, whose number is part of the error.
        """
        names = ", ".join(ident(column.name) for column in columns)
        sql = f"insert into {table} ({names}) values "
        # The limit is in characters, each of several bytes.
        limit = min(MAX_INSERT_CHARACTERS, self._connection.session.max_statement_bytes // 8)
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
            return self._connection.execute_text(sql + ", ".join(rows))
        except (ConstraintError, ValueInvalidError) as error:
            error.context["row"] = before + self._find_refused_row(sql, rows)
            error.args = (_ROW_SUFFIX.sub("", str(error)),)
            raise

    def _find_refused_row(self, sql: str, rows: Sequence[str]) -> int:
        """Return the number of the row that the server rejects, from 1; it does not report that for several rows in one statement."""
        accepted = 0
        self._connection.execute_text("savepoint rows_apart")
        try:
            for row in rows:
                signals.raise_if_interrupted()
                self._connection.execute_text(sql + row)
                accepted += 1
        except (ConstraintError, ValueInvalidError):
            return accepted + 1
        finally:
            self._connection.execute_text("rollback to savepoint rows_apart")
        return accepted


class MySQLDatabase(ServerDatabase):
    """What readers and writers share."""

    engine = "mysql"
    hides_tables = True
    connection: MySQLConnection
    catalog: MySQLCatalog
    dialect: MySQLDialect

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        """Connect to the database at ``url``; wait at most ``timeout`` seconds for each lock of another process.

        Raises:
            UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
        """
        connection = MySQLConnection(url, target, timeout=timeout, read_only=self.read_only)
        super().__init__(MySQLCatalog(connection), MySQLDialect(lambda: connection.server))

    def read_rows(self, query: Query) -> list[Row]:
        rows = self.fetch(*self.select_statement(query, exact_expression))
        singles = [is_single(self.catalog.require_column(query.table, name)) for name in query.columns]
        if not any(singles):
            return rows
        return [
            tuple(
                shorten_single(value) if single else value for value, single in zip(row, singles, strict=True)
            )
            for row in rows
        ]

    def count_dump_rows(self, extra: Collection[str] = ()) -> Mapping[str, int]:
        counts = dict(super().count_dump_rows(extra))
        for table in find_history(self.connection).dumped:
            history = f"{self.catalog.quote_table(table)} for system_time all"
            counts[table] = int(str(self.connection.fetch(f"select count(*) from {history}")[0][0]))
        return counts

    @cached_property
    def storage(self) -> StorageManager:
        from dbctl.engines.mysql.monitoring import MySQLStorage

        return MySQLStorage(self)

    @cached_property
    def codec(self) -> MySQLCodec:
        return MySQLCodec(self)

    @cached_property
    def schema_reader(self) -> MySQLSchemaReader:
        return MySQLSchemaReader(self)

    @cached_property
    def streams(self) -> RowStreams:
        from dbctl.engines.mysql.queries import MySQLStreams

        return MySQLStreams(self)

    @cached_property
    def explainer(self) -> SqlExplainer:
        from dbctl.engines.mysql.queries import MySQLExplainer

        return MySQLExplainer(self)

    @cached_property
    def fulltext(self) -> FullText:
        from dbctl.engines.mysql.queries import MySQLFullText

        return MySQLFullText(self)

    @cached_property
    def checks(self) -> Checks:
        from dbctl.engines.mysql.checks import MySQLChecks

        return MySQLChecks(self)

    @cached_property
    def server(self) -> ServerMonitor:
        from dbctl.engines.mysql.monitoring import MySQLServerMonitor

        return MySQLServerMonitor(self)

    def require_transactional(self, table: str) -> None:
        live_table = self.tables().get(table)
        if isinstance(live_table, MySQLTable) and not live_table.transactional:
            raise NotSupportedError(
                feature=f"writing to {table} of {self.target}",
                subject=f"{live_table.storage_engine}, which stores that table and cannot roll back changes",
                hint="Nothing was changed. Write to one of the tables whose rows it shows."
                if live_table.storage_engine.upper() == "MRG_MYISAM"  # the letters differ between the servers
                else f"Nothing was changed. With the app stopped: ALTER TABLE {quote(table)} ENGINE=InnoDB;",
            )


class MySQLReader(MySQLDatabase):
    """A database whose transactions are read-only, enforced by the server."""

    read_only = True

    @cached_property
    def dumps(self) -> Dumps:
        from dbctl.engines.mysql.dump import MySQLDumper

        return MySQLDumper(self)


class MySQLWriter(MySQLDatabase, ServerWriter):
    transactions: MySQLTransactions

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        super().__init__(url, target, timeout=timeout)
        self.transactions = MySQLTransactions(self.connection)

    @cached_property
    def scripts(self) -> ScriptRunner:
        from dbctl.engines.mysql.queries import MySQLScripts

        return MySQLScripts(self)

    @cached_property
    def staging(self) -> StagingTables:
        from dbctl.engines.mysql.queries import MySQLStaging

        return MySQLStaging(self)

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return DbctlLock(self.connection).acquire(purpose)

    def require_writable(self, table: str) -> None:
        self.transactions.require()
        self.require_transactional(self.catalog.require_table(table).name)

    def _lock_clause(self, table: str) -> str:
        if not self.transactions.depth or self.catalog.require_table(table).is_view:
            return ""
        return " for update" if self.connection.timeout > 0 else " for update nowait"

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        statement = Statement()
        sql = self._insert_statement(statement, table, values)
        column = self.catalog.require_column(table, returning) if returning else None
        self.require_writable(table)
        with self.connection.execute(sql, statement.parameters, writing=True) as cursor:
            new_key = cursor.lastrowid
        return self._read_inserted(table, values, new_key, column.name) if column else None

    def _read_inserted(
        self, table: str, values: Mapping[str, object], new_key: int | None, returning: str
    ) -> object:
        """Return a column of the row that was just inserted, found by its primary key; the number of the server is known."""
        if values.get(returning) is None and self._is_automatic(table, returning):
            return new_key
        key: dict[str, object] = {}
        for name in self.catalog.primary_key(table):
            key[name] = values.get(name)
            if key[name] is None and self._is_automatic(table, name):
                key[name] = new_key
        if not key or None in key.values():
            raise KeyNotReturnedError(
                feature=f"returning {table}.{returning} of a new row",
                subject=self.target,
                hint="The primary key is neither AUTO_INCREMENT nor part of the values.",
            )
        statement = Statement()
        condition = " and ".join(
            f"{self.catalog.quote_column(table, name, '')} = {self.builder.new_value(statement, table, name, value)}"
            for name, value in key.items()
        )
        sql = f"select {self.catalog.quote_column(table, returning, '')} from {self.catalog.quote_table(table)} where {condition}"
        return self.connection.fetch(sql, statement.parameters, writing=True)[0][0]

    def _is_automatic(self, table: str, name: str) -> bool:
        column = self.catalog.require_column(table, name)
        return isinstance(column, MySQLColumn) and column.auto_increment

    def _insert_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        return RowInserter(self.connection).insert(self.catalog.quote_table(table), columns, rows)

    def _update_statement(
        self, statement: Statement, table: str, values: Mapping[str, object], where: Sequence[Where]
    ) -> str:
        # A server runs the assignments in order, so those that read a column come before those that write it.
        ordered = sorted(values.items(), key=lambda assignment: not isinstance(assignment[1], ShiftedTime))
        sets = ", ".join(
            f"{self.catalog.quote_column(table, name, 't0')} = {self.builder.new_value(statement, table, name, value)}"
            for name, value in ordered
        )
        tables, condition = self._select_for_change(statement, table, where)
        return f"update {tables} set {sets}{condition}"

    def _delete_statement(self, statement: Statement, table: str, where: Sequence[Where]) -> str:
        tables, condition = self._select_for_change(statement, table, where)
        return f"delete t0 from {tables}{condition}"

    def _select_for_change(self, statement: Statement, table: str, where: Sequence[Where]) -> tuple[str, str]:
        """Return the tables and the condition for the rows of ``table`` that meet every condition, for a write.

        A server cannot read a table that it writes, so rows that depend on other rows of the table are selected first.
        """
        condition = self.builder.where_clause(statement, table, where)
        key = [self.catalog.quote_column(table, name, "") for name in self.catalog.primary_key(table)]
        if not (key and _reads_table(where, table)):
            return f"{self.catalog.quote_table(table)} t0", condition
        key_columns = ", ".join(f"t0.{name}" for name in key)
        link = " and ".join(f"t0.{name} = found.{name}" for name in key)
        subquery = f"select distinct {key_columns} from {self.catalog.quote_table(table)} t0{condition}"
        return f"{self.catalog.quote_table(table)} t0 join ({subquery}) found on {link}", ""

    def merge(self, merge: Merge) -> int:
        table = merge.table
        names = {name: self.catalog.quote_column(table, name, "") for name in (*merge.key, *merge.columns)}
        new_values = {
            name: self._convert_for_column(table, name, f"s.c{index}") for index, name in enumerate(names)
        }
        source = f"({require_column_count(merge.select, len(names))}) s"
        old_values = {name: f"t0.{quoted}" for name, quoted in names.items()}
        link = " and ".join(f"{old_values[name]} = {new_values[name]}" for name in merge.key)
        sets = [
            f"{old_values[name]} = {value}"
            for name, value in merge_expressions(merge.columns, old_values, new_values).items()
        ]
        self.require_writable(table)
        # ON DUPLICATE KEY UPDATE would also change rows that match another unique index.
        changed = (
            self.connection.execute_write(
                f"update {self.catalog.quote_table(table)} t0 join {source} on {link} set {', '.join(sets)}",
                merge.parameters,
            )
            if sets
            else 0
        )
        return changed + self.connection.execute_write(
            f"insert into {self.catalog.quote_table(table)} ({', '.join(names.values())}) select {', '.join(new_values.values())}"
            f" from {source} left join {self.catalog.quote_table(table)} t0 on {link} where {old_values[merge.key[0]]} is null",
            merge.parameters,
        )

    def _convert_for_column(self, table: str, name: str, value: str) -> str:
        """Return SQL for a value of any type in the form that a column accepts."""
        if kind_of(self.catalog.require_column(table, name)) in TIMES:
            return parse_time_sql(value, self.dialect.exact_text(value))
        return value

    def advance_sequences(self, table: str) -> None:
        # the server advances AUTO_INCREMENT itself; SETVAL never lowers a sequence
        for numbered in read_numbered_columns(self.connection, self.catalog.require_table(table).name):
            if numbered.furthest is not None and not numbered.cycles:
                self.connection.fetch(f"select setval({numbered.place}, {numbered.furthest})", writing=True)

    def defer_references(self) -> None:
        """Do nothing: the server checks foreign keys at each row."""


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


class MySQLPart(SqlPart):
    _db: MySQLDatabase
    _connection: MySQLConnection
    _catalog: MySQLCatalog

    def _counts_events(self) -> bool:
        """Whether the server counts statements, reads and writes."""
        return self._connection.fetch("select @@performance_schema") == [(1,)]


PREFIX = "dbctl_scratch_"
#: The pattern of these names for GRANT.
NAME_PATTERN = "dbctl\\_scratch\\_%"
CHARSET = """select default_character_set_name as charset, default_collation_name as collation
from information_schema.schemata where schema_name = database()"""


def open_scratch(url: Url, target: str) -> MySQLWriter:
    """Open an empty database next to the one of a URL, with the same character set and collation; it is dropped at the end.

    The user needs the right to create databases with such names. A script that names another database changes that database.
    """
    db = MySQLWriter(url, target)
    connection, account = db.connection, db.connection.session.account
    name = f"{PREFIX}{secrets.token_hex(6)}"
    try:
        (charset,) = connection.fetch_by_name(CHARSET)
        clause = "character set {charset} collate {collation}".format(**charset)
        # a signal can arrive while the server creates it; without the session and its lock, it is a leftover
        connection.cleanup.callback(_drop_scratch, connection, name)
        connection.fetch(acquire_sql(scratch_lock_name(name)))
        connection.fetch(f"create database {ident(name)} {clause}", writing=True)
        connection.fetch(f"use {ident(name)}")
        connection.session.database = name
        db.catalog.forget()
    except PrivilegeMissingError as error:
        db.close()
        grant = f"GRANT ALL ON `{NAME_PATTERN}`.* TO {account};"
        instead = f"Nothing was changed. As an administrator: {grant}"
        raise PrivilegeMissingError(target=target, reason=error.context["reason"], hint=instead) from error
    except BaseException:
        # An open connection must not outlive the failure, and neither must the database.
        db.close()
        raise
    return db


def _drop_scratch(connection: MySQLConnection, name: str) -> None:
    drop = f"drop database if exists {ident(name)}"
    with signals.block_signals(), suppress(pymysql.Error, DbctlError):
        if connection.is_usable:
            connection.session.run("rollback")
            connection.session.run(drop)
            return
        # a signal during a statement has ended the session
        other = open_session(connection.url, connection.target, timeout=connection.timeout, read_only=False)
        try:
            other.run(drop)
        finally:
            other.drop()
