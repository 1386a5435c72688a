"""Databases on servers: what readers and writers of all servers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from dbctl.engines.contract import Column, ShiftedTime, Where
from dbctl.engines.servers.connection import ServerConnection
from dbctl.engines.servers.transactions import ServerTransactions
from dbctl.engines.sql import Row, SqlDatabase, Statement


class ServerReader(SqlDatabase):
    """A database that is only read."""

    connection: ServerConnection[Any]

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[Row]:
        return self.connection.query(sql, parameters)


class ServerWriter(SqlDatabase, ABC):
    """A database that may be written."""

    connection: ServerConnection[Any]
    transactions: ServerTransactions

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

    def _value(self, statement: Statement, table: str, name: str, value: object) -> str:
        """Return SQL for the new value of a column."""
        column = self.catalog.require_column(table, name)
        if isinstance(value, ShiftedTime):
            source = self.catalog.require_column(table, value.column)
            return self.dialect.shift_time(
                self.catalog.quote_column(table, value.column, "t0"), source, value, column
            )
        return statement.bind(self._encode(column, value))
