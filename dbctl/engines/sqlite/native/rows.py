"""Rows with the type of each value: lines that only SQLite reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dbctl.engines.contract import Line, LineColumn, NativeSchema
from dbctl.engines.sql import ident, lines
from dbctl.engines.sqlite.transfer import SQLiteRowSink, SQLiteRowSource
from dbctl.engines.sqlite.types import RawText

if TYPE_CHECKING:
    from dbctl.engines.sqlite.reader import SQLiteDatabase
    from dbctl.engines.sqlite.writer import SQLiteWriter

#: The types of a rowid that is no column of its table, and of a column that is the rowid.
ROWID, ROWID_ALIAS = "rowid", "rowid alias"
#: SQL for a value as part of a line: ``t`` and a text, ``r`` and a real number, bytes, or an integer; ``{1}``: the text.
_VALUE = (
    "case typeof({0}) when 'integer' then {0} when 'text' then 't' || {1}"
    r" when 'real' then 'r' || dbctl_real({0}) when 'blob' then '\\x' || hex({0}) else '\N' end"
)
_ESCAPED = r"replace(replace(replace(replace({0}, '\', '\\'), '{tab}', '\t'), char(10), '\n'), char(13), '\r')".replace(
    "{tab}", "\t"
)
_IS_SPECIAL = "instr({0}, '\\') or instr({0}, '\t') or instr({0}, char(10)) or instr({0}, char(13))"
#: SQL for the backslashes that a value adds to a line without escapes.
_BACKSLASHES = "case typeof({0}) when 'blob' then 2 when 'null' then 1 else 0 end"


class SQLiteNativeRows(SQLiteRowSource):
    """The part ``RowSource`` for values with their types."""

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

    def _line(self, table: str, columns: Sequence[LineColumn]) -> str:
        del table
        parts = []
        for column in columns:
            name = ident(column.name)
            text = f"case when {_IS_SPECIAL.format(name)} then {_ESCAPED.format(name)} else {name} end"
            parts.append(_VALUE.format(name, text))
        return _join(parts)

    def _plain_line(self, table: str, columns: Sequence[LineColumn]) -> str:
        del table
        names = [ident(column.name) for column in columns]
        backslashes = " + ".join(_BACKSLASHES.format(name) for name in names)
        return f"{_join([_VALUE.format(name, name) for name in names])}, {backslashes}"

    def _match_keys(self, key: Sequence[LineColumn], keys: Sequence[Line]) -> str:
        return match_keys(key, keys)


class SQLiteNativeSink(SQLiteRowSink):
    """The part ``RowSink`` for values with their types."""

    def __init__(self, db: SQLiteWriter, schema: NativeSchema) -> None:
        super().__init__(db)
        self._tables = {table.name: table for table in schema.tables}

    def _quote_table(self, table: str) -> str:
        return ident(table)

    def _create_parsers(
        self, table: str, columns: Sequence[LineColumn]
    ) -> Sequence[Callable[[bytes], object]]:
        del table
        return [parse_value] * len(columns)

    def _match_keys(self, key: Sequence[LineColumn], keys: Sequence[Line]) -> str:
        return match_keys(key, keys)


def match_keys(key: Sequence[LineColumn], keys: Sequence[Line]) -> str:
    """Return SQL that is true for the rows with these keys."""
    names = [ident(column.name) for column in key]
    return lines.match_keys(names, key, keys, _quote_value, list_word="values ")


def parse_value(text: bytes) -> object:
    """Return the value of a part of a line."""
    kind = text[:1]
    if kind == b"t":
        try:
            return text[1:].decode()
        except UnicodeDecodeError:
            return RawText(text[1:])
    if kind == b"r":
        return float(text[1:])
    return bytes.fromhex(text[2:].decode("ascii")) if kind == b"\\" else int(text)


def _quote_value(column: LineColumn, value: bytes) -> str:
    del column
    kind = value[:1]
    if kind == b"t":
        return f"cast(x'{value[1:].hex()}' as text)"
    if kind == b"\\":
        return f"x'{value[2:].decode('ascii')}'"
    return repr(float(value[1:])) if kind == b"r" else value.decode("ascii")


def _join(texts: Sequence[str]) -> str:
    return " || '\t' || ".join(texts) if len(texts) > 1 else f"'' || {texts[0]}"
