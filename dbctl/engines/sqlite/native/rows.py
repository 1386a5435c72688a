"""Rows of all tables of a file, also those that are no tables of the app, with exact values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract.native import NativeSchema
from dbctl.engines.contract.portable import LineColumn
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.transfer.sink import SQLiteRowSink
from dbctl.engines.sqlite.transfer.source import SQLiteRowSource
from dbctl.engines.sqlite.transfer.values import parse_exact

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteDatabase, SQLiteWriter

#: The types of a rowid that is no column of its table, and of a column that is the rowid.
ROWID, ROWID_ALIAS = "rowid", "rowid alias"


class SQLiteNativeRows(SQLiteRowSource):
    """The part ``RowSource`` for a native schema."""

    def __init__(self, db: SQLiteDatabase, schema: NativeSchema) -> None:
        super().__init__(db)
        self._tables = {table.name: table for table in schema.tables}

    def has_integer_order(self, table: str, column: str) -> bool:
        native = self._tables[table]
        return list(native.key) == [column] and native.columns[column] in (ROWID, ROWID_ALIAS)

    def _find_rowid(self, table: str) -> str:
        columns = self._tables[table].columns
        rowid = next((name for name, declared in columns.items() if declared == ROWID), "")
        alias = next((name for name, declared in columns.items() if declared == ROWID_ALIAS), "")
        return rowid or (ident(alias) if alias else "")

    def _quote_table(self, table: str) -> str:
        return ident(table)

    def _quote_column(self, table: str, column: str) -> str:
        del table
        return ident(column)

    def _describe_column(self, table: str, column: str) -> tuple[str, bool]:
        return self._tables[table].columns[column], True


class SQLiteNativeSink(SQLiteRowSink):
    """The part ``RowSink`` for a native schema."""

    def __init__(self, db: SQLiteWriter, schema: NativeSchema) -> None:
        super().__init__(db)
        self._tables = {table.name: table for table in schema.tables}

    def _quote_table(self, table: str) -> str:
        return ident(table)

    def _create_parsers(
        self, table: str, columns: Sequence[LineColumn]
    ) -> Sequence[Callable[[bytes], object]]:
        del table
        return [parse_exact] * len(columns)
