"""Open databases: their parts, reading, and writing inside of transactions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from dbctl.engines.contract.database import (
    AllOf,
    AnyOf,
    Column,
    InSubquery,
    Merge,
    Not,
    ReferenceCount,
    ShiftedTime,
    Where,
)
from dbctl.engines.mysql.catalog import MySQLCatalog
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.connection.insert_rows import RowInserter
from dbctl.engines.mysql.connection.transactions import DbctlLock, MySQLTransactions
from dbctl.engines.mysql.dialect import MySQLDialect, parse_time_sql
from dbctl.engines.mysql.errors import quote
from dbctl.engines.mysql.sequences import read_numbered_columns
from dbctl.engines.mysql.types.columns import TIMES, MySQLColumn, MySQLTable, encode_for_column, kind_of
from dbctl.engines.servers import engine as server_engine
from dbctl.engines.servers.database import ServerReader, ServerWriter
from dbctl.engines.servers.engine import locate_parts
from dbctl.engines.sql.catalog import Statement, merge_expressions, require_column_count
from dbctl.errors.usage import NotSupportedError
from dbctl.url import Url

_PLACE = "dbctl.engines.mysql", "MySQL"
_PARTS = {"Cluster": "monitoring.cluster:find_cluster", "Preview": "queries:MySQLPreview"}
READER_PARTS = locate_parts(
    *_PLACE, server_engine.READER_PARTS, ReplicaMonitor="monitoring.cluster:MySQLReplication", **_PARTS
)
WRITER_PARTS = locate_parts(*_PLACE, server_engine.WRITER_PARTS, **_PARTS)


def _connect(
    url: Url, target: str, timeout: float, *, read_only: bool
) -> tuple[MySQLConnection, MySQLCatalog, MySQLDialect]:
    """Connect to the database at ``url``; wait at most ``timeout`` seconds for each lock of another process.

    Raises:
        UnreachableError, PrivilegeMissingError: the server is not reachable, or refused the session.
    """
    connection = MySQLConnection(url, target, timeout=timeout, read_only=read_only)
    return connection, MySQLCatalog(connection), MySQLDialect(lambda: connection.server)


class MySQLReader(ServerReader):
    """A database whose transactions are read-only, enforced by the server; raises as ``_connect``."""

    PARTS = READER_PARTS
    connection: MySQLConnection
    catalog: MySQLCatalog
    dialect: MySQLDialect

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        super().__init__(*_connect(url, target, timeout, read_only=True))


class MySQLWriter(ServerWriter):
    """A database that may be written; raises as ``_connect``."""

    PARTS = WRITER_PARTS
    connection: MySQLConnection
    catalog: MySQLCatalog
    dialect: MySQLDialect
    transactions: MySQLTransactions

    def __init__(self, url: Url, target: str, *, timeout: float = 5.0) -> None:
        super().__init__(*_connect(url, target, timeout, read_only=False))
        self.transactions = MySQLTransactions(self.connection)

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        return DbctlLock(self.connection).acquire(purpose)

    def require_writable(self, table: str) -> None:
        self.transactions.require()
        live_table = self.catalog.require_table(table)
        if isinstance(live_table, MySQLTable) and not live_table.transactional:
            raise NotSupportedError(
                feature=f"writing to {table} of {self.target}",
                subject=f"{live_table.storage_engine}, which stores that table and cannot roll back changes",
                hint=f"Nothing was changed. With the app stopped: ALTER TABLE {quote(table)} ENGINE=InnoDB;",
            )

    def _lock_clause(self, table: str) -> str:
        if not self.transactions.depth or self.catalog.require_table(table).is_view:
            return ""
        return " for update" if self.connection.timeout > 0 else " for update nowait"

    def _encode(self, column: Column, value: object) -> object:
        return encode_for_column(column, value)

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
        """Return a column of the row that was just inserted, found by its primary key."""
        key: dict[str, object] = {}
        for name in self.catalog.primary_key(table):
            column = self.catalog.require_column(table, name)
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
            f"{self.catalog.quote_column(table, name, '')} = {self._value(statement, table, name, value)}"
            for name, value in key.items()
        )
        sql = f"select {self.catalog.quote_column(table, returning, '')} from {self.catalog.quote_table(table)} where {condition}"
        return self.connection.fetch(sql, statement.parameters, writing=True)[0][0]

    def _insert_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        return RowInserter(self.connection).insert(self.catalog.quote_table(table), columns, rows)

    def _update_statement(
        self, statement: Statement, table: str, values: Mapping[str, object], where: Sequence[Where]
    ) -> str:
        # A server runs the assignments in order, so those that read a column come before those that write it.
        ordered = sorted(values.items(), key=lambda assignment: not isinstance(assignment[1], ShiftedTime))
        sets = ", ".join(
            f"{self.catalog.quote_column(table, name, 't0')} = {self._value(statement, table, name, value)}"
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


MySQLDatabase: TypeAlias = MySQLReader | MySQLWriter


class MySQLPart:
    """Base class of the parts of a database."""

    def __init__(self, db: MySQLDatabase) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog
