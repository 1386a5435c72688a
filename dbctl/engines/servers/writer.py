"""Databases on servers: what readers, writers and scripts of all servers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dbctl.engines.contract.conditions import Where
from dbctl.engines.contract.reader import Column
from dbctl.engines.contract.writer import ShiftedTime
from dbctl.engines.servers.connection import ServerConnection
from dbctl.engines.servers.transactions import ServerTransactions
from dbctl.engines.sql.database import SqlDatabase
from dbctl.engines.sql.statement import Row, Statement


class ServerReader(SqlDatabase):
    connection: ServerConnection[Any]

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self.connection.query(sql, parameters)


class ServerWriter(SqlDatabase, ABC):
    connection: ServerConnection[Any]
    transactions: ServerTransactions

    @abstractmethod
    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object: ...

    @abstractmethod
    def lock(self, purpose: str) -> AbstractContextManager[None]: ...

    @abstractmethod
    def _encode(self, column: Column, value: object) -> object:
        """Return a value in the form that a parameter for ``column`` needs."""

    @abstractmethod
    def require_writable(self, table: str) -> None:
        """Refuse to write to a table outside of a transaction, or without the possibility to roll back."""

    @abstractmethod
    def _insert_rows(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> int:
        """Insert many rows; return their number."""

    @abstractmethod
    def _update_statement(
        self, statement: Statement, table: str, values: Mapping[str, object], where: Sequence[Where]
    ) -> str: ...

    @abstractmethod
    def _delete_statement(self, statement: Statement, table: str, where: Sequence[Where]) -> str: ...

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self.connection.query(sql, parameters)

    def transaction(self) -> AbstractContextManager[None]:
        return self.transactions.transaction()

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        described = [self.catalog.require_column(table, name) for name in columns]
        self.require_writable(table)
        return self._insert_rows(table, described, rows)

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        statement = Statement(table)
        sql = self._update_statement(statement, table, values, where)
        self.require_writable(table)
        return self.connection.execute_write(sql, statement.parameters)

    def delete(self, table: str, where: Sequence[Where]) -> int:
        statement = Statement(table)
        sql = self._delete_statement(statement, table, where)
        self.require_writable(table)
        return self.connection.execute_write(sql, statement.parameters)

    def _insert_statement(self, statement: Statement, table: str, values: Mapping[str, object]) -> str:
        names = ", ".join(self.catalog.quote_column(table, name, "") for name in values)
        expressions = ", ".join(self._value(statement, table, name, value) for name, value in values.items())
        return f"insert into {self.catalog.quote_table(table)} ({names}) values ({expressions})"

    def _value(self, statement: Statement, table: str, name: str, value: object) -> str:
        """Return SQL for the new value of a column."""
        column = self.catalog.require_column(table, name)
        if isinstance(value, ShiftedTime):
            source = self.catalog.require_column(table, value.column)
            return self.dialect.shift_time(
                self.catalog.quote_column(table, value.column, "t0"), source, value, column
            )
        return statement.bind(self._encode(column, value))


class ServerScripts(ABC):
    """What the parts ``ScriptRunner`` of all servers share."""

    def __init__(self, db: ServerWriter) -> None:
        self._connection, self._catalog, self._transactions = db.connection, db.catalog, db.transactions
        self._db = db
        self._in_step_mode = False  #: whether statements may run outside a transaction

    @abstractmethod
    def run_statement(self, sql: str) -> None: ...

    def insert(self, table: str, values: Mapping[str, object]) -> None:
        self._db.insert(table, values)

    @contextmanager
    def outside_transaction(self) -> Iterator[None]:
        if self._transactions.depth:
            raise RuntimeError("step mode inside a transaction")
        self._in_step_mode = True
        try:
            with self._restore_settings():
                yield
        finally:
            self._in_step_mode = False

    @contextmanager
    def _restore_settings(self) -> Iterator[None]:
        """Let scripts change tables and settings; restore the settings of the session afterwards."""
        try:
            yield
        finally:
            self._catalog.forget()
            if self._connection.is_usable:
                self._connection.apply_settings()
