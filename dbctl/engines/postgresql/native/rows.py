"""Rows as the server writes them itself: the lines of COPY, unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from dbctl.engines.contract.native import NativeSchema
from dbctl.engines.contract.portable import LineColumn
from dbctl.engines.postgresql.database import PostgreSQLDatabase, PostgreSQLWriter
from dbctl.engines.postgresql.native.catalog import GUARDS, POPULATED
from dbctl.engines.postgresql.transfer.sink import PostgreSQLRowSink
from dbctl.engines.postgresql.transfer.source import PostgreSQLRowSource
from dbctl.engines.servers.transfer import NativeNames
from dbctl.engines.sql.catalog import ident

INTEGERS = ("smallint", "integer", "bigint")


class PostgreSQLNativeRows(PostgreSQLRowSource):
    """The part ``RowSource`` for rows without any conversion."""

    def __init__(self, db: PostgreSQLDatabase, schema: NativeSchema, *, is_destination: bool) -> None:
        super().__init__(db)
        self._names = self._native = NativeNames(schema, is_destination=is_destination)

    def has_integer_order(self, table: str, column: str) -> bool:
        native = self._native.require_native(table)
        return list(native.key) == [column] and native.columns[column] in INTEGERS

    def _select(self, table: str, columns: Sequence[LineColumn]) -> str:
        names = ", ".join(self._expression(table, column) for column in columns)
        # rows of child tables are those of other tables
        rows = f"only {self._names.quote_table(table)}"
        if condition := self._native.require_native(table).condition:
            rows = f"(select * from {rows} {condition}) r"
        return f"select {names} from {rows}"


class PostgreSQLNativeSink(PostgreSQLRowSink):
    """The part ``RowSink`` for rows without any conversion."""

    def __init__(self, db: PostgreSQLWriter, schema: NativeSchema, scope: str) -> None:
        super().__init__(db)
        self._names, self._scope = NativeNames(schema, is_destination=True), scope

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        del indexes  # those of the schema are created after the rows
        self._connection.run("set search_path = ''")  # the server writes qualified names
        guards = self._connection.fetch(GUARDS, {"scope": self._scope})
        views = self._connection.fetch(POPULATED, {"scope": self._scope})
        self._connection.apply_settings()
        return [
            *((str(drop), cast("list[str]", create)) for drop, create in guards),
            *(
                ("", [f"refresh materialized view {ident(str(schema))}.{ident(str(name))}"])
                for schema, name in views
            ),
        ]
