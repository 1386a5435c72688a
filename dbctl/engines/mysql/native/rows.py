"""Rows as literals of SQL: lines that the product that wrote them reads without any conversion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dbctl.engines.contract.native import NativeSchema
from dbctl.engines.contract.portable import LineColumn
from dbctl.engines.contract.streaming import TAB, Line, split_line
from dbctl.engines.mysql.connection.server import Server
from dbctl.engines.mysql.database import MySQLDatabase, MySQLWriter
from dbctl.engines.mysql.native.definitions import list_guards
from dbctl.engines.mysql.transfer.sink import MySQLRowSink
from dbctl.engines.mysql.transfer.source import ESCAPED, MySQLRowSource
from dbctl.engines.servers.transfer import NativeNames
from dbctl.engines.sql.catalog import ident

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"})
#: SQL for the literal of a value, by the first word of its type: digits, and the number of a label or of bits, which
#: is exact for every value that a column can contain.
_DIGITS, _NUMBER = "cast({0} as char)", "cast(cast({0} as unsigned) as char)"
#: A quoted number keeps the sign of zero; the server prints six digits of a FLOAT.
_QUOTED = "concat('''', cast({0} as char), '''')"
_LITERALS = {
    **dict.fromkeys([*INTEGERS, "decimal"], _DIGITS),
    **dict.fromkeys(["bit", "enum", "set"], _NUMBER),
    "float": _QUOTED.format("({0} + 0e0)"),
    **dict.fromkeys(["double", "date", "time", "datetime", "timestamp"], _QUOTED),
}
_HEX = "concat('{1}x''', hex({0}), '''')"
#: Types with bytes of their own.
_BYTES = re.compile(
    "binary|varbinary|.*blob|geometry.*|geomcollection|(?:multi)?(?:point|linestring|polygon)|vector"
)
_UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4"})
#: Since this version, MariaDB accepts the history of rows.
HISTORY_VERSION = (10, 11)
#: The condition of a table whose history is copied.
HISTORY = "for system_time all"
_STRICT = frozenset({"STRICT_ALL_TABLES", "STRICT_TRANS_TABLES", "ERROR_FOR_DIVISION_BY_ZERO"})


def takes_history(server: Server) -> bool:
    """Whether a server accepts rows with the times of their versions."""
    return server.is_mariadb and server.version[:2] >= HISTORY_VERSION


def literal_expression(name: str, declared: str, *, escapes: bool) -> str:
    """Return SQL for the bytes of the literal of a column as part of a line.

    Args:
        name: the column in SQL.
        declared: its type, and its character set after `` charset ``.
        escapes: whether a backslash in a literal begins an escape.
    """
    type_text, _, charset = declared.partition(" charset ")
    word = re.split(r"\W", type_text, maxsplit=1)[0]
    if literal := _LITERALS.get(word):
        return f"cast({literal.format(name)} as binary)"
    if _BYTES.fullmatch(word):
        return _HEX.format(name, "")
    if charset and charset not in _UTF8:
        return _HEX.format(name, f"_{charset} ")
    # bytes that are no text in the character set remain, too
    text = f"cast({name} as binary)" if charset else f"cast(cast({name} as char) as binary)"
    text = f"replace({text}, x'27', x'2727')"
    if escapes:
        text = f"replace({text}, x'5C', x'5C5C')"
    return f"concat('''', {ESCAPED.format(text)}, '''')"


class MySQLNativeRows(MySQLRowSource):
    """The part ``RowSource`` for rows as literals."""

    def __init__(self, db: MySQLDatabase, schema: NativeSchema, *, is_destination: bool) -> None:
        super().__init__(db)
        self._names = self._native = NativeNames(schema, is_destination=is_destination)

    @staticmethod
    def quote_value(column: LineColumn, value: bytes) -> str:
        del column
        return value.decode()

    def has_integer_order(self, table: str, column: str) -> bool:
        native = self._native.require_native(table)
        return list(native.key) == [column] and native.columns[column].split("(")[0].split()[0] in INTEGERS

    def _line(self, table: str, columns: Sequence[LineColumn]) -> str:
        native, escapes = self._native.require_native(table), self._connection.server.backslash_escapes
        literals = [
            literal_expression(ident(column.name), native.columns[column.name], escapes=escapes)
            for column in columns
        ]
        parts = ", ".join(f"coalesce({literal}, x'5C4E')" for literal in literals)
        return f"concat_ws(x'09', {parts}) from {self._names.quote_table(table)} {native.condition}"


class MySQLNativeSink(MySQLRowSink):
    """The part ``RowSink`` for rows as literals."""

    def __init__(self, db: MySQLWriter, schema: NativeSchema) -> None:
        super().__init__(db)
        self._names = self._native = NativeNames(schema, is_destination=True)

    @staticmethod
    def quote_value(column: LineColumn, value: bytes) -> str:
        del column
        return value.decode()

    @contextmanager
    def bulk_load(self) -> Iterator[None]:
        server, settings = self._connection.server, self._connection.session.settings
        modes = [mode for mode in str(settings["sql_mode"]).split(",") if mode not in _STRICT]
        # each value was in a column with this definition, which may be older than a rule; rows are compared afterwards
        sets = {"sql_mode": f"'{','.join([*modes, 'ALLOW_INVALID_DATES'])}'"}
        if server.is_mariadb:
            sets["check_constraint_checks"] = "0"
        if takes_history(server):
            sets["system_versioning_insert_history"] = "1"
        with super().bulk_load():
            self._connection.run(
                "set session " + ", ".join(f"{name} = {text}" for name, text in sets.items())
            )
            try:
                yield
            finally:
                if self._connection.is_usable:
                    self._connection.run("set session " + ", ".join(f"{name} = default" for name in sets))

    def _require_writable(self, table: str) -> None:
        del table  # the definition decides how the table is stored
        self._db.transactions.require()

    def _values(self, line: Line, columns: Sequence[LineColumn]) -> bytes:
        del columns
        if b"\\" not in line:
            return b"(%s)" % line.replace(TAB, b",")
        return b"(%s)" % b",".join([b"NULL" if value is None else value for value in split_line(line)])

    def clear_table(self, table: str) -> int:
        count = super().clear_table(table)
        if self._native.require_native(table).condition == HISTORY:
            self._connection.execute_text(f"delete history from {self._names.quote_table(table)}")
        return count

    def list_attachments(self, *, indexes: bool) -> Sequence[tuple[str, Sequence[str]]]:
        del indexes  # those of the schema are created with its tables
        return list_guards(self._connection)
