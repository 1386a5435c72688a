"""Read and write the rows of a server as lines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dbctl.engines.servers.connection import ServerConnection
from dbctl.engines.servers.database import ServerDatabase, ServerWriter
from dbctl.engines.servers.values import kind_of
from dbctl.extensions.transfer.portable import lines
from dbctl.extensions.transfer.portable.contract import Line, LineBatch, LineColumn, RowSink, RowSource
from dbctl.extensions.transfer.portable.lines import key_of
from dbctl.extensions.transfer.portable.native import TableNames
from dbctl.model import split_batches


class ServerRowSource(RowSource):
    def __init__(self, db: ServerDatabase, names: TableNames | None = None) -> None:
        self._connection, self._catalog = db.connection, db.catalog
        self._names: TableNames = names or db.catalog

    @staticmethod
    @abstractmethod
    def quote_value(column: LineColumn, value: bytes) -> str:
        """Return SQL for a value of a line."""

    @abstractmethod
    def _read_lines(
        self, table: str, columns: Sequence[LineColumn], clauses: str
    ) -> AbstractContextManager[Iterator[Sequence[Line]]]:
        """Provide the lines of the rows that a query with further clauses selects, in batches."""

    def snapshot(self) -> AbstractContextManager[None]:
        return self._connection.read_transaction()

    def has_integer_order(self, table: str, column: str) -> bool:
        has_key = self._catalog.primary_key(table) == [column]
        return has_key and kind_of(self._catalog.require_column(table, column)) == "integer"

    @contextmanager
    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = "", end: str = ""
    ) -> Iterator[Iterator[LineBatch]]:
        key = list(self._names.primary_key(table))
        # the position is the key of the last row, with which its line begins
        has_position = bool(key) and key == [column.name for column in columns[: len(key)]]
        names = [self._names.quote_column(table, name, "") for name in key if has_position]
        clauses = lines.position_clauses(names, columns, position, end, self.quote_value)
        with self._read_lines(table, columns, clauses) as batches:
            yield (
                LineBatch(batch, key_of(batch[-1], len(key)).decode() if has_position else "")
                for batch in batches
            )

    def fetch_lines(
        self, table: str, columns: Sequence[LineColumn], key: Sequence[LineColumn], keys: Sequence[Line]
    ) -> Sequence[Line]:
        names = [self._names.quote_column(table, column.name, "") for column in key]
        result: list[Line] = []
        for part in split_batches(keys, lines.KEYS_PER_STATEMENT):
            condition = lines.match_keys(names, key, part, self.quote_value)
            with self._read_lines(table, columns, f" where {condition}") as batches:
                for batch in batches:
                    result += batch
        return result


class ServerRowSink(RowSink):
    _connection: ServerConnection[Any]

    def __init__(self, db: ServerWriter, names: TableNames | None = None) -> None:
        self._db, self._connection = db, db.connection
        self._names: TableNames = names or db.catalog

    @staticmethod
    @abstractmethod
    def quote_value(column: LineColumn, value: bytes) -> str:
        """Return SQL for a value of a line."""

    @abstractmethod
    def _execute(self, sql: str) -> int:
        """Run a statement that writes, without parameters; return the number of its rows."""

    def _require_writable(self, table: str) -> None:
        self._db.require_writable(table)

    def delete_lines(self, table: str, key: Sequence[LineColumn], keys: Sequence[Line]) -> int:
        names = [self._names.quote_column(table, column.name, "") for column in key]
        sql = f"delete from {self._names.quote_table(table)} where "
        self._require_writable(table)
        return sum(
            self._execute(sql + lines.match_keys(names, key, part, self.quote_value))
            for part in split_batches(keys, lines.KEYS_PER_STATEMENT)
        )

    def clear_table(self, table: str) -> int:
        self._require_writable(table)
        return self._execute(f"delete from {self._names.quote_table(table)}")
