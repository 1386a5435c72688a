"""Read the rows of a server as lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from dbctl.engines.contract.database import Column
from dbctl.engines.contract.portable import LineColumn, LogicalKind
from dbctl.engines.contract.streaming import Line
from dbctl.engines.mysql.connection.connection import MySQLConnection
from dbctl.engines.mysql.privileges import require_rights
from dbctl.engines.mysql.stream import stream_rows
from dbctl.engines.mysql.types.codec import exact_expression, exact_reader
from dbctl.engines.mysql.types.columns import is_binary, kind_of
from dbctl.engines.servers.transfer import ServerRowSource
from dbctl.engines.sql import canonical
from dbctl.engines.sql.catalog import quote_literal
from dbctl.errors.connection import QueryFailedError

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
NORMALIZERS: Mapping[LogicalKind, canonical.Normalizer] = {
    "real": canonical.normalize_real,
    "real-unsigned": canonical.normalize_unsigned_real,
    "json": canonical.normalize_json,
    "json-float": canonical.normalize_json_floats,
}
_SINGLES: Mapping[LogicalKind, canonical.Normalizer] = {
    "real": canonical.normalize_single,
    "real-unsigned": lambda text: canonical.remove_zero_sign(canonical.normalize_single(text)),
}
#: Kinds of columns whose text has only ASCII letters.
_PLAIN = frozenset({"integer", "number", "time", "date", "uuid"})


def quote_value(column: LineColumn, value: bytes) -> str:
    """Return SQL for a value of a line."""
    if column.kind == "bytes":
        return f"x'{value[2:].decode('ascii')}'"
    if b"\\" in value or b"\0" in value or not value.isascii():
        return f"_utf8mb4 x'{value.hex()}'"
    return quote_literal(value.decode())


class MySQLRowSource(ServerRowSource):
    """The part ``RowSource``."""

    _connection: MySQLConnection
    kind_of = staticmethod(kind_of)
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
        if column.kind == "native":
            text = EXPRESSIONS["bytes"] if is_binary(live) else _TEXT
            if kind_of(live) in _PLAIN:
                # of a product, a number with a fraction keeps every digit and the sign of zero, and bits are a number
                number = f"{name} + 0" if live.type.startswith("BIT") else exact_expression(live, name)
                return f"cast({number} as char)"
            return f"cast({text.format(name)} as binary)"
        if column.kind not in EXPRESSIONS and kind_of(live) in _PLAIN:
            if _is_single(live):
                name = f"({name} + 0e0)"
            elif live.type.startswith("BIT"):
                name = f"({name} + 0)"
            return f"cast({name} as char)"
        return f"cast({EXPRESSIONS.get(column.kind, _TEXT).format(name)} as binary)"

    def value_reader(self, table: str, column: str) -> Callable[[bytes], object]:
        return exact_reader(self._catalog.require_column(table, column))

    def _normalizer(
        self, table: str, columns: Sequence[LineColumn]
    ) -> Callable[[Sequence[tuple[object, ...]]], Sequence[Line]]:
        normalizers = {
            index: _SINGLES[column.kind]
            if _is_single(self._catalog.require_column(table, column.name)) and column.kind in _SINGLES
            else NORMALIZERS[column.kind]
            for index, column in enumerate(columns)
            if column.kind in NORMALIZERS
        }

        def convert(rows: Sequence[tuple[object, ...]]) -> Sequence[Line]:
            batch = [line for (line,) in rows]
            if None in batch:  # the server returns NULL instead of a text that is too long
                reason = f"a row of {table} is longer than max_allowed_packet of the server"
                raise QueryFailedError(target=self._catalog.target, reason=reason)
            return canonical.normalize_lines([_to_bytes(line) for line in batch], normalizers)

        return convert


def _is_single(column: Column) -> bool:
    return column.type.startswith("FLOAT")


def _to_bytes(line: object) -> bytes:
    return line if isinstance(line, bytes) else str(line).encode()
