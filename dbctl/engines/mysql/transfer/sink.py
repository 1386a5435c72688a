"""Write lines into a server, many in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from dbctl import signals
from dbctl.engines.contract.portable import LineBatch, LineColumn, LogicalKind
from dbctl.engines.contract.streaming import NULL, TAB, Line, split_line
from dbctl.engines.mysql.database import MySQLWriter
from dbctl.engines.mysql.errors import error_number, quote
from dbctl.engines.mysql.transfer.source import quote_value
from dbctl.engines.servers.transfer import TableNames
from dbctl.engines.sql import lines
from dbctl.engines.sql.catalog import ident

#: Bytes of one statement; a server accepts at least 16 MiB by default.
MAX_STATEMENT_BYTES = 1 << 20
#: Error numbers: a table, index, trigger, event or foreign key exists already.
DUPLICATES = frozenset({121, 1005, 1022, 1050, 1061, 1359, 1537, 1826})
#: Kinds that a column of bits may store, which reads a quoted number as characters.
BARE_KINDS = frozenset[LogicalKind]({"boolean", "bits"})
TRIGGERS = "select trigger_name from information_schema.triggers where trigger_schema = database() order by 1"


class MySQLRowSink:
    """The part ``RowSink``."""

    quote_value = staticmethod(quote_value)

    def __init__(self, db: MySQLWriter) -> None:
        self._db, self._connection = db, db.connection
        self._names: TableNames = db.catalog

    @contextmanager
    def bulk_load(self) -> Iterator[None]:
        # 0 is a key like any other, and not the next number
        self._connection.run("set session foreign_key_checks = 0")
        self._connection.run("set session sql_mode = concat(@@session.sql_mode, ',NO_AUTO_VALUE_ON_ZERO')")
        try:
            yield
        finally:
            if self._connection.is_usable:
                self._connection.apply_settings()
                self._connection.run("set session foreign_key_checks = 1")

    def write_lines(self, table: str, columns: Sequence[LineColumn], batches: Iterable[LineBatch]) -> int:
        names = ", ".join(ident(column.name) for column in columns)
        sql = f"insert into {self._names.quote_table(table)} ({names}) values ".encode()
        limit = min(MAX_STATEMENT_BYTES, self._connection.session.max_statement_bytes // 2)
        self._require_writable(table)
        count, pending, length = 0, list[bytes](), 0
        for batch in batches:
            signals.raise_if_interrupted()
            for line in batch.lines:
                values = self._values(line, columns)
                if pending and length + len(values) > limit:
                    count += self._insert(sql, pending)
                    pending, length = [], 0
                pending.append(values)
                length += len(values)
        return count + (self._insert(sql, pending) if pending else 0)

    def _require_writable(self, table: str) -> None:
        self._db.require_writable(table)

    def _insert(self, sql: bytes, rows: Sequence[bytes]) -> int:
        return self._connection.execute_text(sql + b", ".join(rows))

    def _values(self, line: Line, columns: Sequence[LineColumn]) -> bytes:
        fields = line.split(TAB)
        return b"(%s)" % b", ".join(
            [
                b"NULL"
                if field == NULL
                else b"'%s'" % field
                if b"\\" not in field and b"'" not in field and column.kind not in BARE_KINDS
                else self._quote(field, column)
                for field, column in zip(fields, columns, strict=True)
            ]
        )

    @staticmethod
    def _quote(field: bytes, column: LineColumn) -> bytes:
        if column.kind in BARE_KINDS and field.isdigit():
            return field
        (value,) = split_line(field)
        return quote_value(column, value or b"").encode()

    def delete_lines(self, table: str, key: Sequence[LineColumn], keys: Sequence[Line]) -> int:
        names = [self._names.quote_column(table, column.name, "") for column in key]
        sql = f"delete from {self._names.quote_table(table)} where "
        self._require_writable(table)
        return sum(
            self._connection.execute_text(sql + lines.match_keys(names, key, part, self.quote_value))
            for part in lines.split_batches(keys)
        )

    def clear_table(self, table: str) -> int:
        self._require_writable(table)
        return self._connection.execute_text(f"delete from {self._names.quote_table(table)}")

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        del indexes  # InnoDB creates an index slowly, and a foreign key needs one
        names = [str(name) for (name,) in self._connection.fetch(TRIGGERS)]
        return [(f"drop trigger if exists {quote(name)}", self._read_trigger(name)) for name in names]

    def _read_trigger(self, name: str) -> Sequence[str]:
        ((_, _, statement, *_),) = self._connection.fetch(f"show create trigger {quote(name)}")
        return [str(statement)]

    def is_duplicate_object(self, error: Exception) -> bool:
        return error_number(error.__cause__) in DUPLICATES
