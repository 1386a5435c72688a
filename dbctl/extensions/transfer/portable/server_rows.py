"""Read the rows of a server as lines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from dbctl.engines.contract.database import Column
from dbctl.engines.servers.database import ServerDatabase
from dbctl.engines.sql.catalog import ident
from dbctl.extensions.transfer.portable import lines
from dbctl.extensions.transfer.portable.contract import Line, LineBatch, LineColumn, RowSource
from dbctl.extensions.transfer.portable.lines import key_of
from dbctl.extensions.transfer.portable.native import NativeSchema, NativeTable


class TableNames(Protocol):
    """The tables whose rows a part reads or writes."""

    def quote_table(self, table: str) -> str:
        """Return the name of a table in SQL."""

    def quote_column(self, table: str, column: str, alias: str) -> str:
        """Return the name of a column in SQL."""

    def primary_key(self, table: str) -> Sequence[str]:
        """Return the columns of the primary key in order; empty without one."""


class NativeNames:
    """The tables of a native schema, which may be in other schemas than those of the app."""

    def __init__(self, schema: NativeSchema, *, is_destination: bool) -> None:
        self._tables = {table.name: table for table in schema.tables}
        self._is_destination = is_destination

    def require_native(self, table: str) -> NativeTable:
        """Return a table."""
        return self._tables[table]

    def quote_table(self, table: str) -> str:
        native = self._tables[table]
        return native.destination if self._is_destination else native.place

    def quote_column(self, table: str, column: str, alias: str) -> str:
        del table, alias  # a statement reads one table
        return ident(column)

    def primary_key(self, table: str) -> Sequence[str]:
        return self._tables[table].key


class ServerRowSource(RowSource):
    """The part ``RowSource``."""

    def __init__(self, db: ServerDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog
        self._names: TableNames = db.catalog

    @staticmethod
    @abstractmethod
    def kind_of(column: Column) -> str:
        """Return the kind of a column's values."""

    @staticmethod
    @abstractmethod
    def quote_value(column: LineColumn, value: bytes) -> str:
        """Return SQL for a value of a line."""

    @abstractmethod
    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        """Return the function that reads an exact value; see ``RowSource``."""

    @abstractmethod
    def _read_lines(
        self, table: str, columns: Sequence[LineColumn], clauses: str
    ) -> AbstractContextManager[Iterator[Sequence[Line]]]:
        """Provide the lines of the rows that a query with further clauses selects, in batches."""

    def snapshot(self) -> AbstractContextManager[None]:
        return self._connection.read_transaction()

    def has_integer_order(self, table: str, column: str) -> bool:
        has_key = self._catalog.primary_key(table) == [column]
        return has_key and self.kind_of(self._catalog.require_column(table, column)) == "integer"

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
        for part in lines.split_batches(keys):
            condition = lines.match_keys(names, key, part, self.quote_value)
            with self._read_lines(table, columns, f" where {condition}") as batches:
                for batch in batches:
                    result += batch
        return result
