"""Write lines into a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbctl import signals
from dbctl.engines.contract.portable import LineBatch, LineColumn
from dbctl.engines.contract.streaming import Line, split_line
from dbctl.engines.sql import lines
from dbctl.engines.sql.catalog import ident
from dbctl.engines.sqlite.transfer.source import match_keys
from dbctl.engines.sqlite.transfer.values import value_parser
from dbctl.engines.sqlite.values import RawText

if TYPE_CHECKING:
    from dbctl.engines.sqlite.database import SQLiteWriter

_ATTACHMENTS = """select type, name, sql from sqlite_master where sql is not null
and (type = 'trigger' or type = 'index' and sql not like 'create unique%') order by type, name"""


class SQLiteRowSink:
    """The part ``RowSink``.

    It does not use sqlite-utils: the rows are those of another database that dbctl compares afterwards, so its guards for
    rows of users would only take time.
    """

    def __init__(self, db: SQLiteWriter) -> None:
        self._db, self._connection, self._catalog = db, db.connection, db.catalog

    @contextmanager
    def bulk_load(self) -> Iterator[None]:
        self._connection.set_pragma("foreign_keys", "0")
        try:
            yield
        finally:
            if self._connection.is_open:
                self._connection.set_pragma("foreign_keys", "1")

    def write_lines(self, table: str, columns: Sequence[LineColumn], batches: Iterable[LineBatch]) -> int:
        parsers = self._create_parsers(table, columns)
        names = ", ".join(ident(column.name) for column in columns)
        insert = f"insert into {self._quote_table(table)} ({names}) values ({{}})"
        marks = ["?"] * len(columns)
        sql, count = insert.format(", ".join(marks)), 0
        driver = self._connection.driver
        for batch in batches:
            signals.raise_if_interrupted()
            rows = [_parse_line(line, parsers) for line in batch.lines]
            if any(RawText in map(type, row) for row in rows):
                for row in rows:
                    casts = ["cast(? as text)" if type(value) is RawText else "?" for value in row]
                    self._connection.write(lambda: driver.execute(insert.format(", ".join(casts)), row))  # noqa: B023 - it runs immediately
            else:
                self._connection.write(lambda: driver.executemany(sql, rows))  # noqa: B023 - it runs immediately
            count += len(rows)
        return count

    def delete_lines(self, table: str, key: Sequence[LineColumn], keys: Sequence[Line]) -> int:
        sql = f"delete from {self._quote_table(table)} where "
        driver = self._connection.driver
        return sum(
            self._connection.write(lambda: driver.execute(sql + match_keys(key, batch)).rowcount)  # noqa: B023 - it runs immediately
            for batch in lines.split_batches(keys)
        )

    def clear_table(self, table: str) -> int:
        sql = f"delete from {self._quote_table(table)}"
        return self._connection.write(lambda: self._connection.driver.execute(sql).rowcount)

    def _create_parsers(
        self, table: str, columns: Sequence[LineColumn]
    ) -> Sequence[Callable[[bytes], object]]:
        return [
            value_parser(column, self._catalog.require_column(table, column.name).type) for column in columns
        ]

    def _quote_table(self, table: str) -> str:
        return self._catalog.quote_table(table)

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        return [
            (f"drop {kind} {ident(str(name))}", [str(sql)])
            for kind, name, sql in self._connection.run(_ATTACHMENTS)
            if indexes or kind == "trigger"
        ]

    def is_duplicate_object(self, error: Exception) -> bool:
        del error  # a statement and the record of its success are one transaction
        return False


def _parse_line(line: Line, parsers: Sequence[Callable[[bytes], object]]) -> list[object]:
    return [
        None if value is None else parse(value)
        for parse, value in zip(parsers, split_line(line), strict=True)
    ]
