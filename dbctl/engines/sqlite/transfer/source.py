"""Read the rows of a file as lines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract import Line, LineBatch, LineColumn
from dbctl.engines.sql import ident, lines
from dbctl.engines.sqlite.backup import block_writers
from dbctl.engines.sqlite.dialect import find_rowid_name
from dbctl.engines.sqlite.transfer.values import key_expression, key_literal, line_expression, register_functions

if TYPE_CHECKING:
    from dbctl.engines.sqlite.reader import SQLiteDatabase

#: Rows of one batch.
BATCH_ROWS = 2000
_IS_ROWID_TABLE = "select 1 from pragma_table_list where schema = 'main' and name = :table and type = 'table' and not wr"


class SQLiteRowSource:
    """The part ``RowSource``."""

    def __init__(self, db: SQLiteDatabase) -> None:
        self._connection, self._catalog = db.connection, db.catalog

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self._connection.prepare_snapshot()
        self._connection.run("begin")
        try:
            self._connection.run("select count(*) from sqlite_master")  # the snapshot begins with the first read
            yield
        finally:
            if self._connection.is_open and self._connection.driver.in_transaction:
                self._connection.driver.rollback()

    @contextmanager
    def block_writers(self, tables: Sequence[str]) -> Iterator[None]:
        del tables  # SQLite locks the whole file
        connection = self._connection
        with block_writers.block_writers(connection.path, connection.target, timeout=connection.timeout):
            yield

    @contextmanager
    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = ""
    ) -> Iterator[Iterator[LineBatch]]:
        # rows in the order of the file; the order of a key would read its pages many times
        rowid = self._find_rowid(table)
        where = f" where {rowid} > {int(position)}" if position else ""
        order = f" order by {rowid}" if rowid else ""
        line = self._line(table, columns)
        sql = f"select {line}, {rowid or 0} from {self._catalog.quote_table(table)}{where}{order}"
        with self._bytes() as driver, closing(self._connection.retry_while_locked(lambda: driver.execute(sql))) as cursor:
            yield self._batches(cursor, has_position=bool(rowid))

    def fetch_lines(
        self, table: str, columns: Sequence[LineColumn], key: Sequence[LineColumn], keys: Sequence[Line]
    ) -> Sequence[Line]:
        sql = f"select {self._line(table, columns)} from {self._catalog.quote_table(table)} where "
        result: list[Line] = []
        with self._bytes() as driver:
            for batch in lines.split_batches(keys):
                signals.raise_if_interrupted()
                statement = sql + match_keys(key, batch)
                rows = self._connection.retry_while_locked(lambda: driver.execute(statement).fetchall())  # noqa: B023 - it runs immediately
                result += [line for (line,) in rows]
        return result

    def _line(self, table: str, columns: Sequence[LineColumn]) -> str:
        return " || char(9) || ".join(
            line_expression(self._catalog.quote_column(table, column.name, ""), column.kind) for column in columns
        )

    def _find_rowid(self, table: str) -> str:
        """Return the name of the rowid; empty if the table has none."""
        if not self._connection.run(_IS_ROWID_TABLE, {"table": table}):
            return ""
        return find_rowid_name(self._catalog.require_table(table).columns)

    @contextmanager
    def _bytes(self) -> Iterator[sqlite3.Connection]:
        """Read texts as bytes in the block."""
        driver = self._connection.driver
        register_functions(driver)
        text_factory = driver.text_factory
        driver.text_factory = bytes
        try:
            yield driver
        finally:
            driver.text_factory = text_factory

    def _batches(self, cursor: sqlite3.Cursor, *, has_position: bool) -> Iterator[LineBatch]:
        while rows := self._connection.retry_while_locked(lambda: cursor.fetchmany(BATCH_ROWS)):
            signals.raise_if_interrupted()
            self._connection.require_unchanged()
            yield LineBatch([line for line, _ in rows], str(rows[-1][1]) if has_position else "")


def match_keys(key: Sequence[LineColumn], keys: Sequence[Line]) -> str:
    """Return SQL that is true for the rows with these keys."""
    names = [key_expression(ident(column.name), column.kind) for column in key]
    return lines.match_keys(names, key, keys, key_literal, list_word="values ")
