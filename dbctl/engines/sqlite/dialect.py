"""The SQL dialect of SQLite."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dbctl.engines.contract.database import Column, ShiftedTime
from dbctl.engines.sql.catalog import Statement, escape_like, is_storable
from dbctl.engines.sql.query_builder import Dialect, QueryBuilder
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import TimeForm

if TYPE_CHECKING:
    from dbctl.engines.sqlite.catalog import SQLiteCatalog

#: SQL that writes milliseconds since 1970 in each time form; integers, so that rounding loses none.
TIME_FORMATS: Mapping[TimeForm, str] = {
    "iso-ms": "strftime('%Y-%m-%dT%H:%M:%S', ({0}) / 1000, 'unixepoch') || printf('.%03dZ', ({0}) % 1000)",
    "sqlite-time": "strftime('%Y-%m-%d %H:%M:%S', ({0}) / 1000, 'unixepoch')",
    "epoch-ms": "({0})",
    "epoch-s": "({0}) / 1000",
}


#: Names of the rowid, unless a column has the same name.
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


#: Milliseconds of a text with a day and a time.
_OF_DAY = "cast(round((julianday({0}) - 2440587.5) * 86400000) as integer)"
#: Position and length of the year, month, day, hour, minute and second of a time without separators.
_COMPACT_PARTS = ((1, 4), (5, 2), (7, 2), (9, 2), (11, 2), (13, 2))


class SQLiteDialect(Dialect):
    """The SQL of SQLite for values, which may have any type in any column."""

    def to_milliseconds(self, value: str, _column: Column) -> str:
        # Numbers below 10^11 are seconds: as milliseconds they would all be before March 1973. Text is a time only if
        # it begins with a date (SQLite would read "2004" as a Julian day) or consists of enough digits for a number.
        number = (
            f"case when {value} between -99999999999 and 99999999999 then {value} * 1000 else {value} end"
        )
        digits = f"case when length({value}) < 12 then {value} * 1000 else {value} + 0 end"
        parts = ", ".join(f"substr({value}, {start}, {length})" for start, length in _COMPACT_PARTS)
        compact = f"printf('%s-%s-%s %s:%s:%s', {parts})"
        return (
            f"case when typeof({value}) in ('integer', 'real') then {number}"
            f" when {value} glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-*' then {_OF_DAY.format(value)}"
            f" when length({value}) not between 9 and 14 or {value} glob '*[^0-9]*' then null"
            f" when length({value}) = 14 then {_OF_DAY.format(compact)} else {digits} end"
        )

    def roughly_before(self, value: str, _column: Column, timestamp: datetime, statement: Statement) -> str:
        # The forms of ``to_milliseconds``: numbers of seconds, numbers of milliseconds, and text that begins with a
        # date, regardless of its zone. Numeric text for 2001 to 2033 sorts before the dates of this century.
        limit = timestamp.timestamp() + 1
        seconds, milliseconds = statement.bind(limit), statement.bind(limit * 1000)
        texts = self._roughly_before_text(value, timestamp, statement)
        return (
            f"({value} < {seconds} or ({value} >= 100000000000 and {value} < {milliseconds})"
            f" or ({value} >= '' and {texts}))"
        )

    def shift_time(self, value: str, column: Column, shift: ShiftedTime, target: Column) -> str:
        del target  # ``shift`` has its form
        return TIME_FORMATS[shift.form].format(
            f"{self.to_milliseconds(value, column)} + {shift.offset // timedelta(milliseconds=1)}"
        )

    def bind(self, statement: Statement, _column: Column, value: object) -> str:
        # the driver can pass text with bytes that are not UTF-8 only as bytes
        if isinstance(value, bytes) and type(value) is not bytes:  # RawText
            return f"cast({statement.bind(bytes(value))} as text)"
        if isinstance(value, str) and not is_storable(value.replace("\0", "")):
            with suppress(UnicodeEncodeError):  # the driver refuses other surrogates
                return f"cast({statement.bind(value.encode('utf-8', 'surrogateescape'))} as text)"
        return statement.bind(value)

    def fold_case(self, value: str, _column: Column) -> str:
        return f"{value} collate nocase"

    def text_test(self, value: str, column: Column, op: str, statement: Statement, text: str) -> str:
        if "\0" in text:  # LIKE and NOCASE stop at a NUL
            folded = f"lower({statement.bind(text)})"
            if op == "same":
                return f"lower({value}) = {folded}"
            return f"instr(lower({value}), {folded}) {'= 1' if op == 'starts' else '> 0'}"
        if op == "same":
            operand = self.bind(statement, column, text)
            # on the left: SQLite turns several of these joined by OR into one IN, and drops a collation on the right
            return f"{value} collate nocase = {operand}"
        pattern = escape_like(text)
        escape = " escape '!'" if pattern != text else ""  # LIKE takes a third longer with ESCAPE
        return f"{value} like {statement.bind(f'{pattern}%' if op == 'starts' else f'%{pattern}%')}{escape}"

    def is_text(self, column: Column) -> bool:
        return not any(word in column.type for word in ("INT", "REAL", "FLOA", "DOUB", "BLOB", "BOOL"))

    def text_position(self, value: str, _column: Column, statement: Statement, text: str) -> str:
        return f"instr(lower({value}), lower({statement.bind(text)}))"

    def cut_text(self, text: str, begin: str, length: int) -> str:
        # substr ends at a NUL, so a text with one is not cut; only the few rows of a result are read
        return (
            f"case when instr({text}, char(0)) then {text} else {super().cut_text(text, begin, length)} end"
        )

    def contains(self, value: str, column: Column, statement: Statement, text: str) -> str:
        # LIKE would compare BLOBs as text, and stops at a NUL; a text with a NUL has more bytes than characters before it.
        has_rest = f"length({value}) < length(cast({value} as blob))"
        rest = f"{has_rest} and instr(lower({value}), lower({statement.bind(text)})) > 0"
        return (
            f"(typeof({value}) = 'text' and ({super().contains(value, column, statement, text)} or {rest}))"
        )

    def is_identical(self, value: str, column: Column, statement: Statement, operand: object) -> str:
        bound = self.bind(statement, column, operand)
        test = f"{value} collate binary = {bound}"
        if column.type not in ("", "ANY") and "BLOB" not in column.type:
            return test
        return f"({test} and typeof({value}) = typeof({bound}))"  # such a column has 5 or 5.0

    def is_among(self, value: str, column: Column, statement: Statement, values: Sequence[object]) -> str:
        import json

        values = [_apply_affinity(column, item) for item in values]
        plain = [item for item in values if _is_json_safe(item)]
        listed = statement.bind(json.dumps(plain))
        test = f"{value} in (select value from json_each({listed}))"
        placeholders = [self.bind(statement, column, item) for item in values if not _is_json_safe(item)]
        return f"({test} or {value} in ({', '.join(placeholders)}))" if placeholders else test


class SQLiteQueryBuilder(QueryBuilder):
    """Builder that compares referring columns by the collation of the column to which their foreign key refers, as SQLite does."""

    _catalog: SQLiteCatalog

    def _comparable_pair(
        self, table: str, column: str, alias: str, other: str, to: str, inner: str
    ) -> tuple[str, str]:
        left, right = super()._comparable_pair(table, column, alias, other, to, inner)
        collation = self._catalog.key_collations.get((other, to))
        return f"{left} collate {collation}" if collation else left, right


def _apply_affinity(column: Column, item: object) -> object:
    """Return an integer or its text as ``=`` would compare it with the column; the values of json_each have no affinity."""
    if "INT" in column.type:
        is_number = isinstance(item, str) and re.fullmatch("-?[1-9][0-9]{0,17}|0", item)
        return int(str(item)) if is_number else item
    is_text = any(word in column.type for word in ("CHAR", "CLOB", "TEXT"))
    return str(item) if is_text and type(item) is int and _is_json_safe(item) else item


def find_rowid_name(columns: Iterable[str]) -> str:
    """Return a name of the rowid of a table; empty if its columns have all of its names."""
    names = {name.lower() for name in columns}
    return next((name for name in _ROWID_NAMES if name not in names), "")


def expand_sets(sql: str, parameters: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """Return a statement of a profile and its parameters; lists become JSON arrays."""
    import json

    expanded = dict(parameters)
    for name, value in parameters.items():
        if isinstance(value, list):
            if not all(map(_is_json_safe, value)):
                raise ValueInvalidError(
                    name=f"parameter :{name}", value="given", reason="it cannot be written as JSON"
                )
            sql = re.sub(rf":{name}\b", rf"(select value from json_each(:{name}))", sql)
            expanded[name] = json.dumps(value)
    return sql, expanded


def _is_json_safe(value: object) -> bool:
    """Whether SQLite reads ``value`` unchanged from JSON: its JSON text ends at a NUL and has no NaN."""
    if isinstance(value, str):
        return is_storable(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63)
