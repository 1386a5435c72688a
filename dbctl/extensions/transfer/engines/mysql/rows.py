"""Rows of a server as lines, in both directions, and the lock on all writes during a transfer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b

from dbctl import signals
from dbctl.engines.contract.schema import WRITE_LOCK
from dbctl.engines.mysql.catalog import require_rights
from dbctl.engines.mysql.connection import MySQLConnection
from dbctl.engines.mysql.opening import error_number
from dbctl.engines.mysql.queries import stream_rows
from dbctl.engines.mysql.values import exact_expression, exact_reader, is_binary, is_single
from dbctl.engines.servers.values import kind_of
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.errors.connection import QueryFailedError
from dbctl.extensions.transfer.engines.mysql.definitions import list_guards
from dbctl.extensions.transfer.portable import canonical
from dbctl.extensions.transfer.portable.contract import Line, LineBatch, LineColumn, LogicalKind
from dbctl.extensions.transfer.portable.lines import NULL, TAB, split_line
from dbctl.extensions.transfer.portable.server_rows import ServerRowSink, ServerRowSource
from dbctl.extensions.transfer.portable.write_lock import WRITE_LOCK_MESSAGE, WriteLock

_BACKSLASH = "x'5C'"
#: Bytes of a text as part of a line; a backslash in a literal would depend on the mode of the session.
ESCAPED = f"replace(replace(replace(replace({{0}}, {_BACKSLASH}, x'5C5C'), x'09', x'5C74'), x'0A', x'5C6E'), x'0D', x'5C72')"
_TEXT = ESCAPED.format("cast(convert({0} using utf8mb4) as binary)")
_TRIMMED = "trim(trailing '.' from trim(trailing '0' from {0}))"
_FRACTION = f"if(locate('.', {{0}}), {_TRIMMED}, {{0}})"
#: SQL for the bytes of a value as part of a line, by kind; other kinds are text.
EXPRESSIONS: Mapping[LogicalKind, str] = {
    "bytes": "concat(x'5C5C78', lower(hex({0})))",
    "decimal": _FRACTION.format("cast({0} as char)"),
    "timestamp": _FRACTION.format("cast({0} as char)"),
    "time": _FRACTION.format("cast({0} as char)"),
    "uuid": "lower({0})",
}
_SINGLES: Mapping[LogicalKind, canonical.Normalizer] = {
    "real": canonical.normalize_single,
    "real-unsigned": lambda text: canonical.remove_zero_sign(canonical.normalize_single(text)),
}
#: Kinds of columns whose text has only ASCII letters.
_PLAIN = frozenset({"integer", "number", "timestamp", "date", "uuid"})


def quote_value(column: LineColumn, value: bytes) -> str:
    if column.kind == "bytes":
        return f"x'{value[2:].decode('ascii')}'"
    if b"\\" in value or b"\0" in value or not value.isascii():
        return f"_utf8mb4 x'{value.hex()}'"
    return quote_literal(value.decode())


#: JSON with a number that MySQL may read from text with another last digit: one with more than 15 digits, or an exponent.
_LONG_NUMBER = re.compile(rb"\d[\d.]{15}|\d[eE][-+]?\d")


def _write_document(value: object) -> str:
    """Return SQL for a value of JSON, whose numbers are literals, which the server reads exactly."""
    if isinstance(value, dict):
        items = (f"{_write_document(key)}, {_write_document(item)}" for key, item in value.items())
        return f"json_object({', '.join(items)})"
    if isinstance(value, list):
        return f"json_array({', '.join(map(_write_document, value))})"
    if isinstance(value, str):
        return f"_utf8mb4 x'{value.encode(errors='surrogatepass').hex()}'"
    if isinstance(value, float):
        digits = repr(value).replace("inf", "1e999")  # which the server refuses, as it refuses half of a pair
        return digits if "e" in digits else f"{digits}e0"  # without an exponent, it is a decimal
    return json.dumps(value)


class MySQLRowSource(ServerRowSource):
    _connection: MySQLConnection
    quote_value = staticmethod(quote_value)

    def snapshot(self) -> AbstractContextManager[None]:
        require_rights(self._connection, ["SELECT"])
        return super().snapshot()

    @contextmanager
    def _read_lines(
        self, table: str, columns: Sequence[LineColumn], clauses: str
    ) -> Iterator[Iterator[Sequence[Line]]]:
        with stream_rows(self._connection, f"select {self._line(table, columns)}{clauses}") as stream:
            yield map(self._normalizer(table, columns), stream.batches)

    def _line(self, table: str, columns: Sequence[LineColumn]) -> str:
        """Return SQL for the line of each row of a table."""
        parts = ", ".join(f"coalesce({self._expression(table, column)}, x'5C4E')" for column in columns)
        return f"concat_ws(x'09', {parts}) from {self._catalog.quote_table(table)}"

    def _expression(self, table: str, column: LineColumn) -> str:
        live = self._catalog.require_column(table, column.name)
        name = self._catalog.quote_column(table, column.name, "")
        if live.type.startswith(("BIT", "YEAR")) or live.type.endswith("ZEROFILL"):
            name = f"({name} + 0)"  # bits are a number, and the first zeros of others are only shown
        if kind_of(live) in _PLAIN and column.kind not in EXPRESSIONS:
            return f"cast({exact_expression(live, name)} as char)"
        kind = "bytes" if column.kind == "native" and is_binary(live) else column.kind
        return f"cast({EXPRESSIONS.get(kind, _TEXT).format(name)} as binary)"

    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        return exact_reader(self._catalog.require_column(table, column))

    def _normalizer(
        self, table: str, columns: Sequence[LineColumn]
    ) -> Callable[[Sequence[tuple[object, ...]]], Sequence[Line]]:
        normalizers = {
            index: _SINGLES[column.kind]
            if is_single(self._catalog.require_column(table, column.name)) and column.kind in _SINGLES
            else canonical.NORMALIZERS[column.kind]
            for index, column in enumerate(columns)
            if column.kind in canonical.NORMALIZERS
        }

        def convert(rows: Sequence[tuple[object, ...]]) -> Sequence[Line]:
            batch = [line for (line,) in rows]
            if None in batch:  # the server returns NULL instead of a text that is too long
                reason = f"a row of {table} is longer than max_allowed_packet of the server"
                raise QueryFailedError(target=self._catalog.target, reason=reason)
            return canonical.normalize_lines([_to_bytes(line) for line in batch], normalizers)

        return convert


def _to_bytes(line: object) -> bytes:
    return line if isinstance(line, bytes) else str(line).encode()


#: Bytes of one statement; a server accepts at least 16 MiB by default.
MAX_STATEMENT_BYTES = 1 << 20
#: Error numbers: a table, index, trigger, event or foreign key exists already.
DUPLICATES = frozenset({121, 1005, 1022, 1050, 1061, 1359, 1537, 1826})
#: Kinds that a column of bits may store, which reads a quoted number as characters.
BARE_KINDS = frozenset[LogicalKind]({"boolean", "bits"})
#: Kinds whose values are not always literals of text.
_OTHER_LITERALS = BARE_KINDS | {"json-float"}


class MySQLRowSink(ServerRowSink):
    _connection: MySQLConnection
    quote_value = staticmethod(quote_value)

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

    def _insert(self, sql: bytes, rows: Sequence[bytes]) -> int:
        return self._connection.execute_text(sql + b", ".join(rows))

    def _values(self, line: Line, columns: Sequence[LineColumn]) -> bytes:
        fields = line.split(TAB)
        return b"(%s)" % b", ".join(
            [
                b"NULL"
                if field == NULL
                else b"'%s'" % field
                if b"\\" not in field and b"'" not in field and column.kind not in _OTHER_LITERALS
                else self._quote(field, column)
                for field, column in zip(fields, columns, strict=True)
            ]
        )

    @staticmethod
    def _quote(field: bytes, column: LineColumn) -> bytes:
        if column.kind in BARE_KINDS and field.isdigit():
            return field
        (value,) = split_line(field)
        if column.kind == "json-float" and value and _LONG_NUMBER.search(value):
            document = json.loads(value)
            if not isinstance(document, str):  # a text would be read as a document
                return f"cast({_write_document(document)} as json)".encode()
        return quote_value(column, value or b"").encode()

    def _execute(self, sql: str) -> int:
        return self._connection.execute_text(sql)

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        del indexes  # InnoDB creates an index slowly, and a foreign key needs one
        return list_guards(self._connection, events=False)

    def is_duplicate_object(self, error: Exception) -> bool:
        return error_number(error.__cause__) in DUPLICATES


_TRIGGERS = f"""select trigger_name, event_object_table from information_schema.triggers
where trigger_schema = database() and left(trigger_name, {len(WRITE_LOCK)}) = '{WRITE_LOCK}' order by trigger_name"""
#: The number of the error of a server that is read-only.
_READ_ONLY = 1836


class MySQLWriteLock(WriteLock):
    exceptions = "TRUNCATE TABLE, and changes of the schema"
    triggers = _TRIGGERS
    refusal = f"for each row signal sqlstate '45000' set mysql_errno = {_READ_ONLY}, message_text = {quote_literal(WRITE_LOCK_MESSAGE)}"
    _connection: MySQLConnection

    def _name_trigger(self, event: str, table: str) -> str:
        # a name has at most 64 characters
        return f"{WRITE_LOCK}_{event}_{blake2b(table.encode(), digest_size=8).hexdigest()}"
