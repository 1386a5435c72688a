"""Read and write the rows of a file as lines, make its tables refuse writes, and find out whether they accept rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from dbctl import signals
from dbctl.engines.contract.schema import WRITE_LOCK
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.engines.sqlite.catalog import SQLiteCatalog
from dbctl.engines.sqlite.connection import SQLiteConnection
from dbctl.engines.sqlite.database import SQLitePart
from dbctl.engines.sqlite.dialect import find_rowid_name
from dbctl.engines.sqlite.values import RawText
from dbctl.extensions.transfer.engines.sqlite.values import (
    backslash_expression,
    count_exact_backslashes,
    join_plain_texts,
    key_expression,
    key_literal,
    line_expression,
    parse_exact,
    register_functions,
    value_parser,
)
from dbctl.extensions.transfer.portable import lines
from dbctl.extensions.transfer.portable.contract import Line, LineBatch, LineColumn, RowSink, RowSource
from dbctl.extensions.transfer.portable.lines import TAB, split_line
from dbctl.extensions.transfer.portable.native import TableNames
from dbctl.extensions.transfer.portable.write_lock import WRITE_LOCK_MESSAGE, WriteLock
from dbctl.model import split_batches

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteDatabase, SQLiteWriter


#: Rows of one batch.
BATCH_ROWS = 2000
#: SQL between two values of a line.
JOIN = " || '\t' || "


class _Statements(NamedTuple):
    """The parts of the statements that read a table."""

    table: str
    rowid: str  #: empty if the table has none
    line: str  #: SQL for the line of a row
    plain_line: str  #: SQL for the line of a row without escapes, and for the number of its backslashes
    width: int  #: number of columns
    is_exact: bool  #: all values are of the kind ``native``

    def select(self, columns: str, position: str, end: str) -> str:
        """Return the statement that reads ``columns`` and the position of each row after ``position`` up to ``end``."""
        limits = ((">", position), ("<=", end))
        conditions = [f"{self.rowid} {operator} {int(row)}" for operator, row in limits if row]
        where = f" where {' and '.join(conditions)}" if conditions else ""
        order = f" order by {self.rowid}" if self.rowid else ""
        return f"select {columns}, {self.rowid or 0} from {self.table}{where}{order}"


class SQLiteRowSource(SQLitePart, RowSource):
    def __init__(self, db: SQLiteDatabase, names: TableNames | None = None) -> None:
        super().__init__(db)
        self._names: TableNames = names or db.catalog

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self._connection.prepare_snapshot()
        self._connection.run("begin")
        try:
            # the snapshot begins with the first read
            self._connection.run("select count(*) from sqlite_master")
            yield
        finally:
            if self._connection.is_open and self._connection.driver.in_transaction:
                self._connection.driver.rollback()

    def has_integer_order(self, table: str, column: str) -> bool:
        return bool(self._find_rowid(table)) and self._catalog.require_table(table).rowid == column

    @contextmanager
    def stream_lines(
        self, table: str, columns: Sequence[LineColumn], *, position: str = "", end: str = ""
    ) -> Iterator[Iterator[LineBatch]]:
        statements = _Statements(
            table=self._names.quote_table(table),
            rowid=self._find_rowid(table),
            line=self._line(table, columns),
            plain_line=self._plain_line(table, columns),
            width=len(columns),
            is_exact=all(column.kind == "native" for column in columns),
        )
        with self._bytes() as driver, ExitStack() as cursors:

            def execute(sql: str) -> sqlite3.Cursor:
                cursor = self._connection.retry_while_locked(lambda: driver.execute(sql))
                return cursors.enter_context(closing(cursor))

            yield self._read(statements, position, end, execute)

    def _read(
        self, statements: _Statements, position: str, end: str, execute: Callable[[str], sqlite3.Cursor]
    ) -> Iterator[LineBatch]:
        """Yield the rows in the order of the file; the order of a key would read its pages many times."""
        rowid = statements.rowid
        # most tables contain nothing to escape, and searching each value takes as long as reading it
        if rowid:
            cursor = execute(statements.select(statements.plain_line, position, end))
            for batch in self._plain_batches(cursor, statements):
                if batch is None:
                    break
                position = batch.position
                yield batch
            else:
                return
        for rows in self._fetch(execute(statements.select(statements.line, position, end))):
            yield LineBatch([line for line, _ in rows], str(rows[-1][1]) if rowid else "")

    def _plain_batches(self, cursor: sqlite3.Cursor, statements: _Statements) -> Iterator[LineBatch | None]:
        """Yield rows without escapes; None before the first row that needs one."""
        width, is_exact = statements.width, statements.is_exact
        for rows in self._fetch(cursor):
            lines = [line for line, _, _ in rows]
            text = b"\n".join(lines)
            yield (
                LineBatch(lines, str(rows[-1][2]), text)
                if text.count(b"\n") == len(lines) - 1
                and text.count(TAB) == len(lines) * (width - 1)
                and text.count(b"\\")
                == (count_exact_backslashes(text) if is_exact else sum([count for _, count, _ in rows]))  # noqa: C419 - faster than a generator
                and b"\r" not in text
                else None
            )

    def _fetch(self, cursor: sqlite3.Cursor) -> Iterator[list[Any]]:
        while rows := self._connection.retry_while_locked(lambda: cursor.fetchmany(BATCH_ROWS)):
            signals.raise_if_interrupted()
            self._connection.require_unchanged()
            yield rows

    def fetch_lines(
        self, table: str, columns: Sequence[LineColumn], key: Sequence[LineColumn], keys: Sequence[Line]
    ) -> Sequence[Line]:
        sql = f"select {self._line(table, columns)} from {self._names.quote_table(table)} where "
        types = {column.name: self._describe_column(table, column.name)[0] for column in key}
        result = list[Line]()
        with self._bytes() as driver:
            for batch in split_batches(keys, lines.KEYS_PER_STATEMENT):
                signals.raise_if_interrupted()
                statement = sql + match_keys(key, batch, types)
                rows = self._connection.retry_while_locked(lambda: driver.execute(statement).fetchall())  # noqa: B023 - it runs immediately
                result += [line for (line,) in rows]
        return result

    def _line(self, table: str, columns: Sequence[LineColumn]) -> str:
        return _join(
            [
                line_expression(self._names.quote_column(table, column.name, ""), column.kind)
                for column in columns
            ]
        )

    def _plain_line(self, table: str, columns: Sequence[LineColumn]) -> str:
        """Return SQL for the line of a row without escapes, and for the number of its backslashes."""
        parts = [
            (
                self._names.quote_column(table, column.name, ""),
                column.kind,
                *self._describe_column(table, column.name),
            )
            for column in columns
        ]
        counts = [backslash_expression(name, kind, nullable=nullable) for name, kind, _, nullable in parts]
        return f"{join_plain_texts(parts)}, {' + '.join(['0', *filter(None, counts)])}"

    def _find_rowid(self, table: str) -> str:
        """Return the name of the rowid; empty if the table has none."""
        live = self._catalog.require_table(table)
        return find_rowid_name(live.columns) if live.has_rowid else ""

    def _describe_column(self, table: str, column: str) -> tuple[str, bool]:
        """Return the declared type of a column, and whether it may be NULL."""
        live = self._catalog.require_column(table, column)
        return live.type, live.nullable

    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        del table, column  # a value has its type
        return _read_exact

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


def match_keys(
    key: Sequence[LineColumn], keys: Sequence[Line], types: Mapping[str, str] | None = None
) -> str:
    """Return SQL that is true for the rows with these keys; ``types``: declared types, by column."""
    names = [
        key_expression(ident(column.name), column.kind, (types or {}).get(column.name, "text"))
        for column in key
    ]
    return lines.match_keys(names, key, keys, key_literal, list_word="values ")


def _read_exact(text: bytes) -> object:
    value = parse_exact(text)
    return value.decode("utf-8", "surrogateescape") if isinstance(value, RawText) else value


def _join(texts: Sequence[str]) -> str:
    """Return SQL for a line, which is a text also if its only value is a number."""
    return JOIN.join(texts) if len(texts) > 1 else f"'' || {texts[0]}"


_ATTACHMENTS = """select type, name, sql from sqlite_master where sql is not null
and (type = 'trigger' or type = 'index' and sql not like 'create unique%') order by type, name"""


class SQLiteRowSink(RowSink):
    """The part ``RowSink``.

    It does not use sqlite-utils: the rows are those of another database that dbctl compares afterwards, so its guards for
    rows of users would only take time.
    """

    def __init__(self, db: SQLiteWriter, names: TableNames | None = None) -> None:
        self._connection, self._catalog = db.connection, db.catalog
        self._names: TableNames = names or db.catalog

    @contextmanager
    def bulk_load(self) -> Iterator[None]:
        self._connection.run("pragma foreign_keys = 0")
        try:
            yield
        finally:
            if self._connection.is_open:
                self._connection.run("pragma foreign_keys = 1")

    def write_lines(self, table: str, columns: Sequence[LineColumn], batches: Iterable[LineBatch]) -> int:
        parsers = self._create_parsers(table, columns)
        names = ", ".join(ident(column.name) for column in columns)
        insert = f"insert into {self._names.quote_table(table)} ({names}) values "
        marks = ["?"] * len(columns)
        sql, count = f"{insert}({', '.join(marks)})", 0
        driver = self._connection.driver
        for batch in batches:
            signals.raise_if_interrupted()
            rows = [_parse_line(line, parsers) for line in batch.lines]
            if any(RawText in map(type, row) for row in rows):
                for row in rows:
                    casts = ["cast(? as text)" if type(value) is RawText else "?" for value in row]
                    self._connection.write(lambda: driver.execute(f"{insert}({', '.join(casts)})", row))  # noqa: B023 - it runs immediately
            else:
                self._connection.write(lambda: driver.executemany(sql, rows))  # noqa: B023 - it runs immediately
            count += len(rows)
        return count

    def delete_lines(self, table: str, key: Sequence[LineColumn], keys: Sequence[Line]) -> int:
        sql = f"delete from {self._names.quote_table(table)} where "
        driver = self._connection.driver
        return sum(
            self._connection.write(lambda: driver.execute(sql + match_keys(key, batch)).rowcount)  # noqa: B023 - it runs immediately
            for batch in split_batches(keys, lines.KEYS_PER_STATEMENT)
        )

    def clear_table(self, table: str) -> int:
        sql = f"delete from {self._names.quote_table(table)}"
        return self._connection.write(lambda: self._connection.driver.execute(sql).rowcount)

    def _create_parsers(
        self, table: str, columns: Sequence[LineColumn]
    ) -> Sequence[Callable[[bytes], object]]:
        return [
            value_parser(column, self._catalog.require_column(table, column.name).type) for column in columns
        ]

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        return [
            (f"drop {kind} {ident(str(name))}", [str(sql)])
            for kind, name, sql in self._connection.run(_ATTACHMENTS)
            if indexes or kind == "trigger"
        ]


def _parse_line(line: Line, parsers: Sequence[Callable[[bytes], object]]) -> list[object]:
    return [
        None if value is None else parse(value)
        for parse, value in zip(parsers, split_line(line), strict=True)
    ]


_TRIGGERS = f"""select name, tbl_name from sqlite_master
where type = 'trigger' and substr(name, 1, {len(WRITE_LOCK)}) = '{WRITE_LOCK}' order by name"""


class SQLiteWriteLock(WriteLock):
    exceptions = "changes of the schema, such as DROP TABLE"
    triggers = _TRIGGERS
    refusal = f"begin select raise(abort, {quote_literal(WRITE_LOCK_MESSAGE)}); end"
    _connection: SQLiteConnection
    _catalog: SQLiteCatalog

    def _list_tables(self) -> Sequence[str]:
        # the module of a virtual table writes to its shadow tables
        return [table.name for table in self._catalog.tables().values() if table.kind in ("table", "shadow")]

    def _run(self, statements: Sequence[str]) -> None:
        # the transaction of a script would count all rows without a referenced row
        connection = cast("SQLiteWriter", self._db).connection
        with connection.transaction():
            for sql in statements:
                connection.write(lambda: connection.driver.execute(sql))  # noqa: B023 - it runs immediately
